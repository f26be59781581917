"""Several pools in one cluster, on a real Slurm."""

from __future__ import annotations

import secrets

import pytest
from distributed import Client

from dask_hpc import SLURMCluster
from tests.site.slurm import queue, run, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]

NAME = f"pools-{secrets.token_hex(2)}"
SOON = 60


def cpus(name: str) -> list[str]:
    """CPUs of each live job of a cluster, as Slurm has them."""
    lines = run("squeue", "-h", "-r", "-o", "%j %C").splitlines()
    return sorted(line.split()[1] for line in lines if line.startswith(name))


def cores_here(_: int) -> str:
    import os

    return os.environ["SLURM_CPUS_PER_TASK"]


def test_two_pools_with_different_cores_follow_their_own_tasks() -> None:
    """Each task has the CPUs that its pool asked Slurm for; the other pool stays as it is."""
    options = {"cores": 1, "memory": "400 MiB", "walltime": "10 min"}
    with (
        SLURMCluster(name=NAME, dashboard_port=0, **options) as cluster,
        Client(cluster) as client,
    ):
        cluster.add_pool("wide", cores=4, processes=1, resources={"WIDE": 1})
        cluster.scale({"default": 2, "wide": 1})
        cluster.wait_for_workers(2, timeout=SOON, pool="default")
        cluster.wait_for_workers(1, timeout=SOON, pool="wide")
        assert cpus(NAME) == ["1", "1", "4"]
        cluster.scale(0, pool="wide")
        wait_until(lambda: cpus(NAME) == ["1", "1"], SOON, "the wide job is gone")
        cluster.adapt(maximum_jobs=2, patience="1s", pool="wide")
        narrow = client.map(cores_here, range(8), resources={"pool-default": 1}, pure=False)
        wide = client.map(cores_here, range(2), resources={"WIDE": 1}, pure=False)
        assert set(client.gather(wide)) == {"4"}
        assert set(client.gather(narrow)) == {"1"}
        del wide
        wait_until(lambda: cpus(NAME) == ["1", "1"], SOON, "none is left without tasks")
        assert "default 2 wanted: 2 running; wide 0 wanted" in repr(cluster)
        assert cluster.head.controller.problem is None
    assert queue(NAME) == []
