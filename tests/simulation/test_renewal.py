"""The controller when jobs have a walltime, against a Slurm on a virtual clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dask_hpc.control import backoff
from dask_hpc.control.reconcile import Phase
from dask_hpc.errors import JobStartError
from tests.fakes.core import NODE, TIMEOUT
from tests.simulation.world import SPEC, World

WALLTIME = 600


def short_jobs(**truth: object) -> World:
    """Jobs of ten minutes."""
    return World(spec=replace(SPEC, walltime=WALLTIME), **truth)


async def test_ten_generations_of_jobs_keep_the_capacity_and_lose_nothing() -> None:
    """Each generation is one more submission; the old jobs leave before they are killed."""
    world = short_jobs(kill_late=True)
    await world.scale(20)
    await world.steps(5)
    for _ in range(10 * WALLTIME // 2):
        await world.step()
        assert world.controller.ledger.phases()[Phase.UP] >= 20
        assert world.core.live() <= 40
    assert TIMEOUT not in {job.state for _, job in world.core.jobs()}
    assert 10 <= len(world.core.submits) <= 13
    assert {count for _, count in world.core.submits} == {20}
    assert all(deadline is not None for deadline in world.given)


async def test_a_long_queue_is_entered_early() -> None:
    """Jobs that waited four minutes lately: the next ones are submitted that much earlier."""
    world = short_jobs(queue_time=240.0, kill_late=True)
    await world.scale(4)
    short = 0
    for i in range(5 * WALLTIME // 2):
        await world.step()
        short += i > 130 and world.controller.ledger.phases()[Phase.UP] < 4
    assert short == 0
    assert TIMEOUT not in {job.state for _, job in world.core.jobs()}


async def test_what_runs_when_the_replacement_comes_has_time_to_end() -> None:
    """Tasks of two minutes: the replacement is at work that long before the old job must go."""
    world = short_jobs(kill_late=True)
    world.task = 120.0
    await world.scale(2)
    await world.steps(2 * WALLTIME // 2)
    assert min(world.left) >= backoff.MIN_RESERVE + 120


async def test_a_full_queue_ends_in_leaving_not_in_being_killed() -> None:
    """No replacement starts: the old jobs leave in time all the same."""
    world = short_jobs(kill_late=True)
    await world.scale(3)
    await world.steps(5)
    world.core.slots = 0
    await world.steps(WALLTIME // 2)
    assert len(world.retired) == 3
    assert all(backoff.MIN_RESERVE - 3 <= left <= backoff.MIN_RESERVE for left in world.left)
    assert world.controller.ledger.phases()[Phase.PENDING] == 3
    assert TIMEOUT not in {job.state for _, job in world.core.jobs()}


async def test_a_job_that_is_killed_before_a_worker_joins_has_failed() -> None:
    """It is not replaced quietly for ever: something keeps its workers from joining."""
    world = short_jobs(kill_late=True, mute=True)
    await world.scale(1)
    await world.steps(4 * WALLTIME // 2)
    assert isinstance(world.controller.problem, JobStartError)
    assert len(world.core.submits) == backoff.MAX_START_FAILURES


async def test_an_extended_job_stays() -> None:
    """What the batch system says counts, not what was asked for."""
    world = short_jobs()
    await world.scale(1)
    await world.steps(5)
    for array in world.core.arrays.values():
        array.request.walltime = 10 * WALLTIME
    await world.steps(2 * WALLTIME // 2)
    assert world.retired == []
    assert len(world.core.submits) == 1


async def test_workers_are_told_how_long_they_have() -> None:
    """So that no task is sent to one that ends before it could be done."""
    world = short_jobs()
    await world.scale(2)
    began = world.now
    await world.steps(5)
    name = world.core.submits[0][0]
    assert world.ends == {f"{name}-{i}-0": pytest.approx(began + WALLTIME, abs=5) for i in range(2)}


async def test_a_warning_of_the_batch_system_is_heeded() -> None:
    """A job that is preempted leaves within the grace, and its replacement is on its way."""
    world = short_jobs()
    await world.scale(2)
    await world.steps(5)
    name = world.core.submits[0][0]
    world.controller.warned([f"{name}-1-0"], 30.0)
    end = world.now + 30.0
    await world.step()
    assert world.given == [end]
    assert world.retired == [f"{name}-1-0"]
    await world.steps(3)
    assert [count for _, count in world.core.submits] == [2, 1]
    assert world.controller.ledger.phases()[Phase.UP] == 2


async def test_a_warning_of_the_walltime_is_no_news() -> None:
    """Slurm warns a minute or more ahead: the job works on until its replacement is there."""
    world = short_jobs()
    await world.scale(2)
    await world.steps(5)
    end = next(iter(world.ends.values()))
    while world.now < end - 100:
        await world.step()
    name = world.core.submits[0][0]
    world.controller.warned([f"{name}-0-0", f"{name}-1-0"], 54.0)
    await world.step()
    assert world.retired == []
    for _ in range(30):
        await world.step()
        assert world.controller.ledger.phases()[Phase.UP] >= 2
    assert len(world.retired) == 2


async def test_a_requeued_job_is_adopted_and_not_doubled() -> None:
    """It comes back under the same identity: what was submitted in its place is given up."""
    world = short_jobs()
    await world.scale(2)
    await world.steps(5)
    name = world.core.submits[0][0]
    world.core.slots = 1
    world.controller.warned([f"{name}-1-0"], 30.0)
    world.stuck = {f"{name}-1-0"}
    await world.step()
    world.requeue(1)
    await world.steps(5)
    assert world.core.live() == 2
    world.core.slots = 9
    world.stuck = set()
    await world.steps(8)
    assert world.core.live() == 2
    assert world.controller.ledger.phases()[Phase.UP] == 2
    assert world.controller.problem is None


async def test_a_limit_on_the_users_jobs_is_learnt_and_respected() -> None:
    """Twelve wanted, seven allowed: seven run, few tries, and a job that ends is replaced."""
    world = World(most=7)
    await world.scale(12)
    await world.steps(40)
    assert world.core.live() == 7
    tries = world.batch.ran()["sbatch"]
    assert tries <= 8
    assert world.controller.problem is None
    assert "MaxSubmitJob" in world.controller.submitter.limited
    await world.steps(40)
    assert world.batch.ran()["sbatch"] == tries
    world.kill(0, NODE)
    await world.steps(10)
    assert world.core.live() == 7
    world.core.most = None
    await world.steps(400)
    assert world.core.live() == 12
    assert world.controller.submitter.limited == ""


async def test_jobs_are_kept_off_a_node_that_fails_them() -> None:
    """A black hole would swallow one job after the other."""
    world = World(slots=6, black_hole="node03")
    await world.scale(6)
    await world.steps(60)
    assert world.controller.ledger.phases()[Phase.UP] == 6
    assert world.controller.problem is None
    assert world.core.live() == 6


async def test_scaling_up_again_calls_back_who_has_not_left() -> None:
    """Nothing is submitted while workers finish their tasks before they leave."""
    world = World()
    await world.scale(4)
    await world.steps(5)
    world.slow = True
    await world.scale(1)
    await world.steps(3)
    assert world.controller.ledger.phases()[Phase.LEAVING] == 3
    await world.scale(4)
    await world.steps(3)
    assert world.controller.ledger.phases()[Phase.UP] == 4
    assert len(world.core.submits) == 1
    await world.scale(1)
    world.slow = False
    await world.scale(0)
    await world.steps(3)
    assert world.core.live() == 0
