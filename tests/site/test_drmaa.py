"""DRMAA, through the library of a real Grid Engine, as an ordinary user."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from dask_hpc import DRMAACluster
from dask_hpc.errors import JobStartError, SubmitRejected
from tests.site.beds import BED
from tests.site.slurm import wait_until

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(BED.batch != "sge", reason="the library is Grid Engine's"),
]

RUN = secrets.token_hex(2)
SETTINGS = Path("/var/lib/gridengine/default/common/settings.sh")


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the site's settings script sets, as a user's login does."""
    for line in SETTINGS.read_text(encoding="utf-8").splitlines():
        if line.startswith("export "):
            for name, _, value in (word.partition("=") for word in line.split()[1:]):
                monkeypatch.setenv(name, value)
    assert os.environ["DRMAA_LIBRARY_PATH"]


def cluster(name: str, **options: object) -> DRMAACluster:
    asked = {"cores": 1, "memory": "500 MiB", "native_specification": "-l h_rt={walltime}"}
    asked |= {"walltime": "10 min", "dashboard_port": 0, **options}
    return DRMAACluster(name=f"{name}-{RUN}", **asked)


def test_workers_come_and_go_through_the_library() -> None:
    """One bulk submission, a computation, down, the queue empty."""
    with cluster("drmaa") as c:
        c.scale(jobs=6)
        c.wait_for_workers(6, timeout=120)
        with c.get_client() as client:
            futures = client.map(lambda n: n + 1, range(20))
            assert client.gather(futures) == list(range(1, 21))
            c.scale(jobs=2)
            wait_until(lambda: len(mine("drmaa")) == 2, 60, "the queue shrinks")
            assert client.gather(futures) == list(range(1, 21))
        print("\n", c.report()["commands"])
    wait_until(lambda: mine("drmaa") == [], 60, "the queue is empty")


def mine(name: str) -> list[str]:
    """Live jobs of one cluster, as Grid Engine lists them."""
    return [job for job in BED.jobs(os.environ["USER"]) if job.startswith(f"{name}-{RUN}-")]


def test_a_refusal_is_told_in_the_systems_words() -> None:
    """The library refuses what can never run, and unknown queues."""
    with cluster("refused", native_specification="-q nosuch -l h_rt={walltime}") as c:
        with pytest.raises(SubmitRejected, match="nosuch"):
            c.scale(1)
        assert mine("refused") == []


def test_a_script_that_fails_is_explained_by_its_log() -> None:
    """The library forgets how jobs of another session ended: the log tells."""
    with cluster("broken", job_script_prologue=["echo the licence server said no", "exit 3"]) as c:
        c.scale(3)
        with pytest.raises(JobStartError, match="licence server"):
            c.wait_for_workers(1, timeout=120)
