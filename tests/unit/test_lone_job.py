"""A job beside the workers' is over when the batch system says so, not for want of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from dask_hpc.cluster import lone_job
from dask_hpc.cluster.lone_job import LoneJob
from dask_hpc.drivers.base import Listing, Why
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import BatchSystemUnavailable
from dask_hpc.model.job import JobId, JobState, JobStatus

RUNNING = JobStatus(JobState.RUNNING)


class Client:
    """A batch system that answers what a test says, and tells why jobs wait when asked."""

    driver = Slurm()
    tells_why = True

    def __init__(self, *answers: Listing | BatchSystemUnavailable) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def query(self, arrays: Any) -> Listing:
        self.asked.append(arrays)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def why(self, array: str) -> Why:
        return Why(f"{array} waits for a node")


def job(*answers: Any, array: str | None = "7") -> tuple[LoneJob, Client]:
    client: Any = Client(*answers)
    return LoneJob(client, "c-jupyter-1", array), client


def listed(status: JobStatus) -> Listing:
    return Listing({JobId("7", Slurm.first_index): status}, {"c-jupyter-1": "7"})


async def test_no_answer_is_no_end() -> None:
    """Nor is it news: what was seen last is told on."""
    lone, _ = job(listed(RUNNING), BatchSystemUnavailable("busy"))
    assert [await lone.look(), await lone.look()] == [False, False]
    assert lone.told("JupyterLab") == "JupyterLab's job 7 is running"


async def test_a_job_that_is_not_listed_has_ended_if_that_is_seen_twice_in_a_row() -> None:
    """Some batch systems list it a moment after they have taken it."""
    lone, _ = job(Listing({}), listed(RUNNING), Listing({}), Listing({}))
    assert [await lone.look() for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.TIMEOUT, JobState.CANCELLED])
async def test_one_that_is_listed_as_ended_has(state: JobState) -> None:
    """At once."""
    lone, _ = job(listed(JobStatus(state)))
    assert await lone.look()


async def test_why_it_waits_is_asked_for_where_the_list_does_not_tell() -> None:
    """Its user sees that line meanwhile."""
    lone, _ = job(listed(JobStatus(JobState.PENDING)))
    assert lone.told("the head") == "the head waits in the queue as job 7"
    assert not await lone.look()
    assert lone.told("the head") == "the head's job 7 is pending (7 waits for a node)"


async def test_one_in_doubt_is_looked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a submit command that timed out has surely been read."""
    lone, client = job(Listing({}), listed(RUNNING), array=None)
    assert not await lone.look()
    assert "has not said yet" in lone.told("JupyterLab")
    assert not await lone.look()
    assert (lone.array, client.asked) == ("7", [{"c-jupyter-1": None}] * 2)

    monkeypatch.setattr(lone_job, "IN_DOUBT_SETTLE", -1.0)
    never, _ = job(Listing({}), array=None)
    assert await never.look()


async def test_it_is_asked_for_ever_more_rarely() -> None:
    """A job may wait for days; every half a minute is enough then."""
    lone, _ = job(*[listed(RUNNING)] * 9)
    pauses = []
    for _ in range(9):
        await lone.look()
        pauses.append(lone.interval)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0
