"""A node on which every job fails as it starts."""

from __future__ import annotations

import pytest

from dask_hpc import HPCCluster
from tests.site.beds import BED

pytestmark = pytest.mark.timeout(300)


@pytest.mark.skipif(
    BED.batch not in ("slurm", "sge"), reason="this batch system cannot be told to avoid a node"
)
def test_jobs_are_kept_off_a_node_that_fails_them() -> None:
    """Three jobs of a whole node each, four nodes, of which one swallows what is sent to it."""
    broken = """[ "$(hostname)" != node03 ] || { echo "node03 is broken"; exit 1; }"""
    with HPCCluster(
        batch=BED.batch,
        cores=16,
        processes=1,
        memory="4 GiB",
        walltime="10 min",
        job_script_prologue=[broken],
        **BED.options,
    ) as cluster:
        cluster.scale(jobs=2)
        cluster.wait_for_workers(1, timeout=120)
        cluster.scale(jobs=3)
        cluster.wait_for_workers(3, timeout=200)
        # not cluster.scheduler_info, which hears of a worker a moment later
        hosts = {worker.host for worker in cluster.head.scheduler.workers.values()}
        assert len(hosts) == 3
        assert cluster.head.controller.problem is None
