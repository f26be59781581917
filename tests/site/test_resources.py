"""GPUs that Slurm gives its jobs (the test bed's are /dev/null), one for each worker."""

from __future__ import annotations

import os
import secrets

import pytest

from dask_hpc import SLURMCluster
from tests.site.slurm import queue, run

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]
RUN = secrets.token_hex(2)


def gpus() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_worker_of_a_job_has_one_of_the_gpus_that_slurm_gave_it() -> None:
    """Two per job, asked for as --gres; a task that needs one finds it."""
    name = f"gpus-{RUN}"
    with SLURMCluster(
        name=name, cores=2, gpus=2, memory="800 MiB", walltime="5 min", dashboard_port=0
    ) as cluster:
        cluster.scale(jobs=2)
        cluster.wait_for_workers(4, timeout=60)
        with cluster.get_client() as client:
            seen = client.run(gpus)
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            assert [worker["resources"]["GPU"] for worker in workers] == [1] * 4
            assert client.submit(abs, -2, resources={"GPU": 1}).result(timeout=30) == 2
        granted = run("squeue", "-h", "-o", "%b", "-j", queue(name)[0].split()[0])
    print(f"\nslurm grants {granted.strip()}; workers see {sorted(map(str, seen.values()))}")
    assert sorted(map(str, seen.values())) == ["0", "0", "1", "1"]
