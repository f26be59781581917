"""Our account of a cluster beside that of a real Slurm."""

from __future__ import annotations

import getpass
import secrets
import time

import pytest

from dask_hpc import SLURMCluster
from dask_hpc.cluster.report import history
from tests.site.slurm import queue, run, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]

JOBS, CORES = 3, 2
#: Seconds by which a start or an end that Slurm tells may differ from its accounting's.
ROUNDING = 2


def test_allocated_is_what_slurm_charges() -> None:
    """CPUTimeRAW of all jobs, one of them given up half-way: the same core-seconds."""
    name = f"account-{secrets.token_hex(2)}"
    with SLURMCluster(
        name=name, cores=CORES, processes=1, memory="1 GiB", walltime="10 min", dashboard_port=0
    ) as cluster:
        cluster.scale(jobs=JOBS)
        cluster.wait_for_workers(JOBS, timeout=60)
        with cluster.get_client() as client:
            assert client.submit(time.sleep, 4, pure=False).result() is None
            cluster.scale(jobs=JOBS - 1)
            wait_until(lambda: len(queue(name)) == JOBS - 1, 30, "one job leaves")
            assert client.submit(time.sleep, 2, pure=False).result() is None
    total = cluster.report()["total"]
    wait_until(lambda: len(charged(name)) == JOBS, 30, "the accounting has all ends")
    ours, slurms = total["core_hours"]["allocated"] * 3600, sum(charged(name))
    used = total["core_hours"]["used"] * 3600
    print(f"allocated {ours:.1f}, Slurm {slurms}, used {used:.2f}, {total['wait_seconds']}")
    assert ours == pytest.approx(slurms, abs=JOBS * CORES * ROUNDING)
    assert used == pytest.approx(6.0, rel=0.1)
    assert total["jobs"]["started"] == JOBS
    assert history()[-1]["cluster"] == name


def charged(name: str) -> list[int]:
    """CPU-seconds of each job that has ended, by Slurm's accounting."""
    fields = "JobName,CPUTimeRAW,State,End"
    since = ("-S", "now-1hour", "-u", getpass.getuser())
    lines = run("sacct", "-X", "-n", "-P", *since, "-o", fields).splitlines()
    rows = [line.split("|") for line in lines if line.startswith(f"{name}-")]
    return [int(seconds) for _, seconds, _, end in rows if end != "Unknown"]
