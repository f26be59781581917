"""Jobs that are taken away on real batch systems: data is moved in time, and they come back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Future

from dask_hpc import HPCCluster
from dask_hpc.control.reconcile import JobKey
from tests.site.beds import BED
from tests.site.slurm import queue, run, submitted, wait_until

pytestmark = pytest.mark.timeout(240)

RUN = secrets.token_hex(2)
DATA = list(range(1000))


def cluster(name: str, **options: Any) -> HPCCluster:
    asked = {"cores": 1, "memory": "500 MiB", "walltime": "10 min", **BED.options, **options}
    return HPCCluster(batch=BED.batch, name=f"{name}-{RUN}", dashboard_port=0, **asked)


def jobs_of(client: Client) -> Mapping[JobKey, str]:
    """Address of the one worker of each job."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    split = {address: worker["name"].rsplit("-", 2) for address, worker in workers.items()}
    return {JobKey(name, int(index)): address for address, (name, index, _) in split.items()}


def only_on(client: Client, address: str) -> Future:
    """Data that no other worker has."""
    future: Future = client.scatter({f"on-{address}": DATA}, workers=[address])[f"on-{address}"]
    return future


@pytest.mark.skipif(BED.batch == "oar", reason="oardel kills without a warning")
def test_a_job_that_somebody_cancels_loses_no_data() -> None:
    """The batch system warns it first: with SIGTERM, or as it was asked to."""
    with cluster("taken") as c:
        c.scale(jobs=2)
        c.wait_for_workers(2, timeout=90)
        with c.get_client() as client:
            key, address = min(jobs_of(client).items())
            data = only_on(client, address)
            ledger = c.head.controller.ledger
            c.sync(c.head.client.cancel, ledger.ids([key]), ledger.sizes())
            wait_until(lambda: address not in jobs_of(client).values(), 30, "the worker is gone")
            assert data.result(timeout=10) == DATA
            c.wait_for_workers(2, timeout=90)  # another job takes its place
            assert "1 workers leave, within" in log_of(c, key)


@pytest.mark.slurm
def test_a_preempted_job_that_was_warned_leaves_in_its_grace_and_is_replaced() -> None:
    """It has ended then, for Slurm, and is not requeued: another one waits in its place."""
    with cluster("warned", cores=16, processes=1, queue="spot") as c:
        c.scale(jobs=2)
        c.wait_for_workers(2, timeout=60)
        with c.get_client() as client:
            key, address = min(jobs_of(client).items())
            data = only_on(client, address)
            preempt(c, key)
            wait_until(lambda: address not in jobs_of(client).values(), 20, "the worker is gone")
            assert data.result(timeout=10) == DATA
            c.wait_for_workers(2, timeout=60)
            assert key not in jobs_of(client)
        assert "SIGUSR1: 1 workers leave, within" in log_of(c, key)
        assert submitted(f"warned-{RUN}").total() == 3
        assert c.head.controller.problem is None


@pytest.mark.slurm
def test_a_requeued_job_loses_no_data_and_does_not_double() -> None:
    """It is replaced as it goes; when it waits again it is one too many, or the other one is."""
    name = f"again-{RUN}"
    with cluster("again") as c:
        c.scale(jobs=2)
        c.wait_for_workers(2, timeout=60)
        with c.get_client() as client:
            key, address = min(jobs_of(client).items())
            data = only_on(client, address)
            run("scontrol", "requeue", *map(str, c.head.controller.ledger.ids([key])))
            wait_until(lambda: address not in jobs_of(client).values(), 40, "it has left")
            assert data.result(timeout=10) == DATA
            c.wait_for_workers(2, timeout=80)
            wait_until(lambda: len(queue(name)) == 2, 60, "two jobs are left")
            c.wait_for_workers(2, timeout=80)
            assert len(jobs_of(client)) == 2
        assert submitted(name).total() <= 3
        assert c.head.controller.problem is None
        assert "SIGTERM: 1 workers leave, within" in log_of(c, key)


def preempt(c: HPCCluster, key: JobKey) -> None:
    """Have a better job want the node of this one."""
    (job,) = c.head.controller.ledger.ids([key])
    node = run("squeue", "-h", "-j", str(job), "-o", "%N").strip()
    urgent = ("-p", "urgent", "-w", node, "--exclusive", "-t", "1", "-o", "/dev/null")
    run("sbatch", *urgent, "--wrap", "sleep 1")


def log_of(c: HPCCluster, key: JobKey) -> str:
    return Path(c.head.controller.log(key)).read_text()
