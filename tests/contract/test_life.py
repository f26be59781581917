"""Whole lives of clusters on every batch system: the real controller, a virtual clock, faults."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dask_hpc.control import backoff
from dask_hpc.control.reconcile import Phase
from dask_hpc.errors import SubmitRejected
from dask_hpc.model.job import JobState
from tests.contract.site import SYSTEMS
from tests.fakes import core as c
from tests.fakes.path import dialect
from tests.simulation.world import SPEC, World

#: Jobs of the cluster whose commands are counted.
JOBS = 100


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each batch system in turn; retries wait no real seconds."""
    monkeypatch.setattr("dask_hpc.batch.client.FIRST_WAIT", 0.0)
    name: str = request.param
    return name


def states(world: World) -> set[JobState]:
    return {status.state for status in world.controller.ledger.statuses().values()}


@pytest.mark.parametrize("fate", ["hangs", "killed"])
async def test_a_lost_reply_is_adopted_by_its_name(system: str, fate: str) -> None:
    """The submission worked, its answer did not arrive: never doubled, and all of it found."""
    world = World(system, lose_reply=fate)
    await world.scale(5)
    await world.steps(12)
    assert len(world.core.submits) == 1
    assert world.controller.ledger.phases()[Phase.UP] == 5
    assert world.core.live() == 5


@pytest.mark.parametrize("fate", ["hangs", "killed"])
async def test_a_lost_request_is_repeated_once_it_is_proved_lost(system: str, fate: str) -> None:
    """It never arrived: nothing is submitted until its absence may be believed, then once."""
    world = World(system, lose_request=fate)
    await world.scale(5)
    await world.steps(5)
    assert world.core.submits == []
    await world.steps(30)
    assert [count for _, count in world.core.submits] == [5]
    assert world.controller.ledger.phases()[Phase.UP] == 5


async def test_a_server_down_for_a_minute_loses_and_doubles_nothing(system: str) -> None:
    """It goes away in the middle of a scale: afterwards all jobs are there, once."""
    world = World(system)
    await world.scale(3)
    await world.steps(4)
    world.core.faults.down = "refuses"
    await world.scale(6)
    await world.steps(12, seconds=5)
    assert world.controller.unanswered
    assert JobState.GONE not in states(world)
    world.core.faults.down = ""
    await world.steps(20, seconds=5)
    assert world.controller.unanswered == ""
    assert world.core.live() == sum(count for _, count in world.core.submits) == 6


async def test_one_garbled_answer_changes_nothing(system: str) -> None:
    """A gateway's page instead of the listing: jobs are as they were before, and go on."""
    world = World(system)
    await world.scale(4)
    await world.steps(20)
    world.core.faults.garbage = "<html>502 Bad Gateway</html>\n"
    polls = world.batch.ran().total()
    while world.batch.ran().total() == polls:
        await world.step(2)
    world.core.faults.garbage = ""
    await world.steps(30)
    assert world.controller.ledger.phases()[Phase.UP] == 4
    assert len(world.core.submits) == 1


async def test_chatter_changes_nothing(system: str) -> None:
    """A site's wrapper may talk all the time."""
    world = World(system, chatter=True)
    await world.scale(4)
    await world.steps(30)
    assert world.controller.ledger.phases()[Phase.UP] == 4
    assert len(world.core.submits) == 1


async def test_a_job_that_can_never_run_is_reported_within_two_polls(system: str) -> None:
    """Refused at once, or named as impossible by the second look at the latest."""
    world = World(system, spec=replace(SPEC, cores=64))
    try:
        await world.scale(2)
    except SubmitRejected:
        return
    await world.steps(2, seconds=backoff.MIN_POLL)
    assert world.controller.problem is not None, "nobody told the user"


async def test_waiting_for_a_turn_is_never_called_impossible(system: str) -> None:
    """An hour in a full queue is no problem to report."""
    world = World(system, slots=0)
    await world.scale(2)
    await world.steps(120, seconds=30)
    assert world.controller.problem is None
    assert len(world.core.submits) == 1


@pytest.mark.parametrize("end", [c.PREEMPTED, c.NODE, c.TIMEOUT, c.CANCELLED])
async def test_a_job_that_ends_is_replaced(system: str, end: str) -> None:
    """Whatever took it, the cluster has as many jobs as wanted again, and no more."""
    if end in dialect(system).absent:
        end = c.FAILED
    world = World(system)
    await world.scale(4)
    await world.steps(20)
    world.kill(1, end)
    await world.steps(30)
    assert world.core.live() == 4
    assert [count for _, count in world.core.submits] == [4, 1]


async def test_a_requeued_job_is_waited_for(system: str) -> None:
    """It comes back by itself under its own name: nothing is submitted for it."""
    world = World(system)
    await world.scale(4)
    await world.steps(10)
    world.requeue(2)
    await world.steps(10)
    assert world.controller.ledger.phases()[Phase.UP] == 4
    assert [count for _, count in world.core.submits] == [4]


async def test_a_job_that_vanishes_is_noticed_and_replaced(system: str) -> None:
    """No listing and no record has it: after a while it is believed gone."""
    world = World(system)
    await world.scale(4)
    await world.steps(20)
    array, job = world.running()[1]
    job.vanished, job.state = True, c.CANCELLED
    world.controller.worker_left(f"{array.name}-{job.index}-0")
    await world.steps(60)
    assert world.core.live() == 4
    assert [count for _, count in world.core.submits] == [4, 1]


async def test_what_a_cluster_of_100_jobs_costs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up, watched for a minute, down: one submission, few looks, the fewest cancels there are."""
    pause = asyncio.sleep
    world = World(SYSTEMS[0])

    async def sleep(seconds: float) -> None:
        world.now += seconds
        await pause(0)

    monkeypatch.setattr("dask_hpc.control.controller.asyncio.sleep", sleep)
    lines = []
    for system in SYSTEMS:
        world = World(system, slots=JOBS)
        ran = world.batch.ran
        await world.scale(JOBS)
        up = ran()
        await world.steps(10, seconds=1)  # they start
        start = ran()
        await world.steps(60, seconds=1)
        watched = ran()
        assert world.controller.ledger.phases()[Phase.UP] == JOBS, system
        assert await world.controller.close(timeout=60) == [], system
        down = ran()
        assert world.core.live() == 0, system
        cancels = len(world.core.cancels)
        programs = ", ".join(f"{number} {name}" for name, number in sorted(down.items()))
        watching = (watched - start).total()
        lines.append(f"{system:10} {watching:8} {cancels:8}   {programs}")
        assert len(world.core.submits) == 1, system
        assert up.total() <= 2, f"{system}: more than the limit and the submission"
        assert watching <= 60 / backoff.MIN_POLL / 3, f"{system}: quiet, and asked all the time"
        assert (start - up).total() <= 6, f"{system}: every 2 s, and why they wait"
        assert cancels == 1, f"{system}: one array, one command"
    with capsys.disabled():
        head = f"{'':10} {'looks/min':>9} {'cancels':>7}   all commands of {JOBS} jobs"
        print("\n" + "\n".join([head, *lines]))
