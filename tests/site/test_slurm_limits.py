"""A limit of the site on the jobs of a user: learnt from what sbatch refuses, and kept to.

Runs as root beside the hosts, since only root may set limits.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.site.held import Held, bed
from tests.site.slurm import queue, run, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture
def three_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Alice may have three jobs."""

    def start(*, limits: bool) -> None:
        monkeypatch.setenv("LIMITS", str(int(limits)))
        bed("down", "--server")
        bed("up")

    limit = ("sacctmgr", "-i", "modify", "user", "alice", "set")
    run(*limit, "MaxSubmitJobs=3")
    start(limits=True)
    try:
        yield
    finally:
        run(*limit, "MaxSubmitJobs=-1")
        start(limits=False)


@pytest.mark.usefixtures("three_jobs")
def test_a_limit_on_a_users_jobs_is_learnt() -> None:
    """Six wanted, three allowed: three run, the repr says why, and fewer can still be wanted."""
    with Held("limited", "2", "1") as held:
        held.say("scale 6")
        assert held.answer()["done"] == "scale"
        held.say("wait 3")
        said = held.answer()
        assert (
            "no more are accepted: sbatch refused the job: AssocMaxSubmitJobLimit" in said["repr"]
        )
        assert "6 wanted: 3 running" in said["repr"]
        assert said["report"]["commands"]["sbatch"] <= 5
        assert len(queue(held.name, "alice")) == 3
        held.say("scale 1")
        held.answer()
        wait_until(lambda: len(queue(held.name, "alice")) == 1, 30, "one job is left")
