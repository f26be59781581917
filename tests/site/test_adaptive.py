"""A cluster whose size follows its tasks, on the real batch systems."""

from __future__ import annotations

import secrets
import time

import pytest
from distributed import Client

from dask_hpc import HPCCluster
from tests.site.beds import BED, long_except
from tests.site.slurm import wait_until

pytestmark = [pytest.mark.timeout(300)]

RUN = secrets.token_hex(2)
#: Seconds until a job runs or has left the queue.
SOON = 90


def work(number: int) -> int:
    time.sleep(0.5)
    return number * number


@long_except("slurm")
def test_a_burst_has_jobs_and_then_none() -> None:
    """In the queue within two seconds, no more than can be used, all gone when nothing is left."""
    asked = {"cores": 1, "memory": "500 MiB", "walltime": "10 min", **BED.options}
    with (
        HPCCluster(batch=BED.batch, name=f"burst-{RUN}", dashboard_port=0, **asked) as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(maximum_jobs=3, patience="5s")
        assert cluster.report()["jobs_submitted"] == 0
        began = time.monotonic()
        futures = client.map(work, range(120))
        wait_until(lambda: cluster.report()["jobs_submitted"], SOON, "jobs are submitted")
        delay = time.monotonic() - began
        print(f"\n{BED.batch}: from tasks to submitted jobs in {delay:.2f} s")
        cluster.wait_for_workers(3, timeout=SOON)
        assert sum(client.gather(futures)) == sum(n * n for n in range(120))
        assert cluster.report()["jobs_submitted"] == 3
        del futures
        live = cluster.head.controller.ledger.live_jobs
        wait_until(lambda: live() == 0, SOON, "no job is left")
        print(f"{BED.batch}: {cluster.report()['commands']}")
        assert cluster.head.controller.problem is None
    assert delay < SUBMITTED[BED.batch]


#: Seconds in which a burst has its jobs in the queue, the submit command's own included.
SUBMITTED = {"oar": 8.0, "htcondor": 4.0, "sge": 3.0, "slurm": 2.0}
