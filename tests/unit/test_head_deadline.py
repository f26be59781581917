"""The end of a head's job, as a played batch system tells it, moves it, or refuses to."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dask_hpc.batch.client import BatchClient
from dask_hpc.cluster import head_deadline, head_process
from dask_hpc.cluster.head_deadline import HeadDeadline
from dask_hpc.cluster.head_job import place_of_this_job
from dask_hpc.cluster.view import HERE, HeadPlace
from dask_hpc.control.notices import Changes
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import BatchSystemError, ConfigurationError

START = 1_795_374_000.0
HOUR = 3600


class Slurm:
    """Plays scontrol and squeue: the limit of job 12 in seconds, and whether it may be raised."""

    def __init__(self, limit: float = HOUR, refusal: str = "", looks: int = 0) -> None:
        self.start = START
        self.limit, self.refusal, self.looks = limit, refusal, looks
        self.asked: list[str] = []
        self.pending: float | None = None

    async def __call__(self, command: Command) -> Output:
        self.asked.append(str(command))
        if command.argv[0] == "squeue":
            if self.pending is not None:
                self.looks -= 1
                if self.looks < 0:
                    self.limit, self.pending = self.pending, None
            times = (time.localtime(self.start + each) for each in (0, self.limit))
            return Output(command, 0, "|".join(time.strftime("%FT%T", each) for each in times))
        if self.refusal:
            return Output(command, 1, "", self.refusal)
        hours, minutes, seconds = map(int, command.argv[-1].partition("=")[2].split(":"))
        self.pending = hours * HOUR + minutes * 60 + seconds
        return Output(command, 0)


def head_of(slurm: Slurm, where: HeadPlace | None = None, batch: str = "slurm") -> SimpleNamespace:
    head: Any = SimpleNamespace(
        name="study",
        where=where or HeadPlace("job", "12", START + HOUR),
        client=BatchClient(driver(batch), slurm),
        controller=SimpleNamespace(changed=Changes()),
        scheduler=SimpleNamespace(events=[]),
    )
    head.scheduler.log_event = lambda topic, event: head.scheduler.events.append((topic, event))
    head.deadline = HeadDeadline(head)
    return head


async def test_the_end_moves_where_the_batch_system_moves_it() -> None:
    """The time is added to the walltime that the job has; those who watch are told."""
    slurm = Slurm(2 * HOUR)  # somebody has changed it before
    head = head_of(slurm)
    await head.deadline.renew(HOUR)
    assert slurm.asked[1] == "scontrol update JobId=12 TimeLimit=3:00:00"
    assert head.where == HeadPlace("job", "12", START + 3 * HOUR)
    assert head.controller.changed.count == 1


async def test_a_refusal_is_told_in_its_own_words_and_changes_nothing() -> None:
    """And who may do it."""
    slurm = Slurm(refusal="slurm_update error: Access/permission denied\n")
    head = head_of(slurm)
    with pytest.raises(BatchSystemError, match=r"(?s)permission denied.*operators alone"):
        await head.deadline.renew(HOUR)
    assert head.where.deadline == START + HOUR
    assert head.controller.changed.count == 0


async def test_what_is_granted_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while: then it is said that it is not yet granted, and nothing is presumed."""
    monkeypatch.setattr(head_deadline, "_FIRST_LOOK", 0.001)
    head = head_of(Slurm(looks=3))
    await head.deadline.renew(HOUR)
    assert head.where.deadline == START + 2 * HOUR
    monkeypatch.setattr(head_deadline, "_GRANTED", 0.02)
    head = head_of(Slurm(looks=1000))
    with pytest.raises(BatchSystemError, match=r"01:00:00 more .* job 12, but not yet granted"):
        await head.deadline.renew(HOUR)
    assert head.where.deadline == START + HOUR


async def test_two_who_ask_at_once_both_get_their_time() -> None:
    """One after the other."""
    head = head_of(Slurm())
    await asyncio.gather(head.deadline.renew(HOUR), head.deadline.renew(HOUR))
    assert head.where.deadline == START + 3 * HOUR


async def test_there_is_nothing_to_renew_without_a_job_or_a_command() -> None:
    """Nothing is run then."""
    slurm = Slurm()
    with pytest.raises(ConfigurationError, match="study runs in no job"):
        await head_of(slurm, HERE).deadline.renew(HOUR)
    with pytest.raises(ConfigurationError, match="local has no command"):
        await head_of(slurm, batch="local").deadline.renew(HOUR)
    assert slurm.asked == []
    assert not head_of(slurm, HERE).deadline.movable
    assert not head_of(slurm, batch="local").deadline.movable


async def test_a_job_that_is_not_listed_as_running_is_left_alone() -> None:
    """Its walltime is not known, and so nothing can be added to it."""
    asked = []

    async def nothing(command: Command) -> Output:
        asked.append(command.argv[0])
        return Output(command, 0)

    head = head_of(Slurm())
    head.client = BatchClient(driver("slurm"), nothing)
    with pytest.raises(BatchSystemError, match="does not tell when job 12 ends"):
        await head.deadline.renew(HOUR)
    assert asked == ["squeue"]


def test_a_head_knows_its_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its id; HTCondor tells a file that describes the job."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "LOCAL_"))]:
        monkeypatch.delenv(name)
    described = tmp_path / ".job.ad"
    described.write_text('Args = "x"\nClusterId = 4711\nProcId = 0\n')
    monkeypatch.setenv("_CONDOR_JOB_AD", str(described))
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    assert place_of_this_job(None) == HeadPlace("job", "4711", None)
    described.unlink()
    assert place_of_this_job(None) == HeadPlace("job", "", None)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1795374000")
    assert place_of_this_job(HOUR) == HeadPlace("job", "12", START)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times in hundredths of a second; an end counts as moved by a second."""
    monkeypatch.setattr(head_process, "WARNED_AHEAD", 0.5)
    monkeypatch.setattr(head_process, "CLOSED_AHEAD", 0.1)
    monkeypatch.setattr(head_deadline, "_SLACK", 0.9)


def next_second() -> float:
    """Of the clock: squeue tells whole ones."""
    return float(int(time.time() + 1.7))


def told(head: Any) -> list[str]:
    return [event["msg"] for _, event in head.scheduler.events]


@pytest.mark.usefixtures("soon")
async def test_a_head_warns_and_then_closes() -> None:
    """The warning names the way to more time where there is one."""
    slurm, end = Slurm(), next_second()
    slurm.start = end - HOUR
    head = head_of(slurm, HeadPlace("job", "12", end))
    await asyncio.wait_for(head_process._deadline(SimpleNamespace(name="study", head=head)), 5)
    assert end - 0.1 <= time.time() < end + 1
    first, last = told(head)
    assert "`dask-hpc renew study TIME`" in first
    assert "renew" not in last
    other = head_of(slurm, HeadPlace("job", "12", time.time() + 0.2), batch="local")
    await asyncio.wait_for(head_process._deadline(SimpleNamespace(name="study", head=other)), 5)
    assert not any("renew" in line for line in told(other))


@pytest.mark.usefixtures("soon")
async def test_more_time_is_seen_before_the_head_closes() -> None:
    """Whoever gave it, and also after the warning, which then comes again at its time."""
    slurm, end = Slurm(), next_second()
    slurm.start = end - HOUR
    head = head_of(slurm, HeadPlace("job", "12", end))
    living = asyncio.create_task(head_process._deadline(SimpleNamespace(name="study", head=head)))
    while not head.scheduler.events:
        await asyncio.sleep(0.01)
    slurm.limit += 100  # an operator
    while head.controller.changed.count < 1:
        await asyncio.sleep(0.01)
    assert end - 0.1 <= time.time() < end + 1
    assert head.where.deadline == end + 100
    await head.deadline.renew(HOUR)  # the user: it is taken in at once
    assert head.where.deadline == end + 100 + HOUR
    assert not living.done()
    assert len(told(head)) == 1
    living.cancel()


@pytest.mark.usefixtures("soon")
async def test_a_batch_system_that_does_not_answer_moves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The head closes by the end that it knows: in time."""
    monkeypatch.setattr(head_deadline, "_LOOK", 0.05)

    async def silent(command: Command) -> Output:
        await asyncio.sleep(60)
        return Output(command, 1)

    now = time.time()
    head = head_of(Slurm(), HeadPlace("job", "12", now + 0.3))
    head.client = BatchClient(driver("slurm"), silent)
    await asyncio.wait_for(head_process._deadline(SimpleNamespace(name="study", head=head)), 5)
    assert time.time() < now + 1.0
    assert len(told(head)) == 2


async def test_a_head_without_an_end_waits_for_ever() -> None:
    """And nothing is asked."""
    slurm = Slurm()
    head = head_of(slurm, HERE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            head_process._deadline(SimpleNamespace(name="study", head=head)), 0.05
        )
    assert slurm.asked == []
