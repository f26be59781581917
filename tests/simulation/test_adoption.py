"""A controller is killed between any two of its writes and commands; another one follows.

The batch system, the journal and the jobs outlive it, as they outlive a head.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_hpc.batch.client import BatchClient
from dask_hpc.control.backoff import ACCOUNT_INTERVAL
from dask_hpc.control.controller import Controller
from dask_hpc.control.journal import remembered, submissions
from dask_hpc.control.ports import Place
from dask_hpc.control.reconcile import Phase
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import Submission
from tests.fakes.core import COMPLETED, RUNNING
from tests.simulation.world import MemoryJournal, World


class Killed(BaseException):
    """The process is gone: what it had begun is done, or not."""


class Fuse:
    """Kills the controller at one of its writes and commands, before or after it has its effect."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.blown = False

    def before(self) -> bool:
        """Whether the operation that is about to be is the last one, to be done."""
        if self.blown:
            raise Killed
        if self.left is None:
            return False
        self.left -= 1
        if self.left < 0:
            self.blown = True
            raise Killed
        return self.left == 0

    def after(self, *, last: bool) -> None:
        if last:
            self.blown = True
            raise Killed


class FusedJournal(MemoryJournal):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def append(self, event: str, **values: Any) -> None:
        last = self.fuse.before()
        super().append(event, **values)
        self.fuse.after(last=last)


class Mortal(World):
    """A world whose controller can be killed; heads that may come back have jobs that wait."""

    def __init__(self, **truth: Any) -> None:
        super().__init__(**truth)
        self.fuse = Fuse()
        self.lives = 0
        self.journal = FusedJournal(self.fuse)
        self.begin()

    async def run(self, command: Command) -> Output:
        last = self.fuse.before()
        output = await self.batch.run(command)
        self.fuse.after(last=last)
        return output

    def begin(self) -> None:
        """Start a controller: as a head does, from the journal alone."""
        self.lives += 1
        self.fuse.left, self.fuse.blown = None, False
        pool = next(iter(self.controller.pools.values()))
        self.controller = Controller(
            name="sim",
            pools={"default": pool},
            client=BatchClient(driver("slurm"), self.run),
            journal=self.journal,  # type: ignore[arg-type]
            place=Place(self.scripts, self.controller._place.logs),
            workers=self,
            clock=lambda: self.now,
            wall=lambda: self.now,
        )
        if self.lives > 1:
            self.controller.adopt(remembered(self.journal.events))
            for _, job in self.core.jobs():
                job.joined = False  # workers that live join anew

    async def survive(self, what: str, value: int) -> None:
        """Have something happen; should it kill the controller, the next one begins."""
        try:
            if what == "scale":
                await self.scale(value)
            elif what == "step":
                await self.step(value)
            elif what == "kill":
                self.fuse.left = value
            elif what == "outage":
                self.core.faults.down = "refuses" if value else ""
            elif what == "timeout":
                self.kill(value, "timeout")
            elif what == "requeue":
                self.requeue(value)
        except Killed:
            pass
        if self.fuse.blown:
            self.begin()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.integers(0, 12)),
        st.tuples(st.just("step"), st.integers(1, 40)),
        st.tuples(st.just("kill"), st.integers(0, 6)),
        st.tuples(st.just("outage"), st.integers(0, 1)),
        st.tuples(st.just("timeout"), st.integers(0, 11)),
        st.tuples(st.just("requeue"), st.integers(0, 11)),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def no_waiting() -> object:
    """Retries of a cancel wait no real seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr("dask_hpc.batch.client.FIRST_WAIT", 0.0)
    yield None
    patch.undo()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS, forget=st.booleans(), accounting=st.booleans())
@pytest.mark.timeout(300)
async def test_never_doubled_never_orphaned_and_in_the_end_as_many_as_wanted(
    events: list[tuple[str, int]], forget: bool, accounting: bool, no_waiting: None
) -> None:
    """Whenever it was killed, the next one knows every job, and brings them to the number."""
    world = Mortal(slots=8, forget=forget, accounting=accounting)

    def check(count: int) -> None:
        wanted = world.controller.wanted["default"]
        assert world.core.live() + count <= wanted, "more jobs than wanted"

    world.core.on_submit = check
    for what, value in events:
        await world.survive(what, value)
    world.core.faults.down = ""
    world.core.slots = 100
    world.fuse.left = None
    for _ in range(10):
        await world.survive("step", 5)
    told = remembered(world.journal.events).jobs.get("default", 0)
    if world.controller.problem is not None:
        await world.scale(told)
    await world.steps(60, seconds=5)
    known = submissions(world.journal.events)
    assert {name for name, _ in world.core.submits} <= known.keys()
    assert world.core.live() == told
    assert world.controller.ledger.phases()[Phase.UP] == told
    live = {array.name for array, job in world.core.jobs() if job.live}
    assert not any(known[name].over for name in live), "a live job that nobody would look for"
    book = world.controller.book
    jobs = book.accounts(world.now)["default"].jobs
    waiting = sum(job.started is None for job in book._jobs.values())
    assert jobs.submitted == sum(count for _, count in world.core.submits)
    assert jobs.started + jobs.never_ran + waiting == jobs.submitted + jobs.requeued


async def up(jobs: int, **truth: Any) -> Mortal:
    world = Mortal(**truth)
    await world.scale(jobs)
    await world.steps(5)
    return world


async def test_jobs_are_taken_over_as_they_are() -> None:
    """With their ids, indices, workers and deadlines; nothing is submitted beside them."""
    world = await up(5, slots=4)
    before = world.controller.ledger
    world.now += 600
    world.begin()
    assert world.controller.wanted == {"default": 5}
    await world.steps(3)
    after = world.controller.ledger
    assert after.statuses().keys() == before.statuses().keys()
    assert after.phases()[Phase.UP] == 4
    assert after.phases()[Phase.PENDING] == 1
    assert after.arrivals == {}, "how long jobs took to join an earlier head is not known"
    started = {i: at for each in before.arrays.values() for i, at in each.started.items()}
    assert {i: at for each in after.arrays.values() for i, at in each.started.items()} == started
    assert [count for _, count in world.core.submits] == [5]
    assert world.controller.book.jobs_submitted == 5


async def test_what_jobs_and_tasks_have_cost_is_taken_over() -> None:
    """Those that had ended too, once each; of what tasks used, all but the last minute."""
    world = await up(5)
    world.controller.book.used("default", 10.0)
    await world.scale(3)
    world.now += ACCOUNT_INTERVAL
    await world.steps(3)
    world.controller.book.used("default", 7.0)
    before = world.controller.book.accounts(world.now)["default"]
    assert (before.jobs.submitted, before.jobs.started, before.jobs.running) == (5, 5, 3)
    for _ in range(2):
        world.begin()
        await world.steps(3)
        after = world.controller.book.accounts(world.now)["default"]
        assert after.jobs == before.jobs
        assert after.waits == before.waits
        assert before.allocated <= after.allocated <= before.allocated + 3 * 4 * 60
        assert before.used - after.used == 7.0
    await world.scale(0)
    await world.steps(10)
    events = [each["event"] for each in world.journal.events]
    assert events[-2:] == ["account", "ended"]
    world.begin()
    last = world.controller.book.accounts(world.now)["default"]
    assert (last.jobs.submitted, last.jobs.started, last.jobs.running) == (5, 5, 0)
    assert last.waits.jobs == 5


async def test_nothing_is_done_before_the_batch_system_has_told() -> None:
    """Its silence is no answer: jobs of unknown fate are neither replaced nor given up."""
    world = await up(6)
    for _, job in list(world.core.jobs())[:4]:
        world.core.end(job, COMPLETED)
    world.core.faults.down = "refuses"
    world.begin()
    world.controller.wanted["default"] = 3
    world.core.cancels.clear()
    await world.steps(10, seconds=5)
    assert (len(world.core.submits), world.core.cancels) == (1, [])
    world.core.faults.down = ""
    await world.steps(20, seconds=5)
    assert [count for _, count in world.core.submits] == [6, 1]
    assert world.core.cancels == []
    assert world.core.live() == 3


async def test_how_jobs_ended_without_a_head_is_no_start_failure() -> None:
    """Whether workers of theirs had joined, nobody knows; one that waited and then fails is one."""
    world = await up(5, slots=4)
    for _, job in list(world.core.jobs())[:4]:
        world.core.end(job, "failed", code=1)
    world.core.faults.script = "broken"
    world.core.slots = 0
    world.begin()
    await world.steps(10)
    assert world.controller._failures._budget.failures == 0
    world.core.slots = 1
    await world.steps(3)
    assert world.controller._failures._budget.failures > 0


async def test_a_submission_whose_answer_died_with_its_head_is_found_again() -> None:
    """It is in the journal as intended alone, and in the queue: adopted by its name."""
    world = Mortal()
    await world.survive("kill", 4)  # the journal twice, the site's limits, and sbatch itself
    await world.survive("scale", 3)
    assert world.lives == 2
    assert [each["event"] for each in world.journal.events] == ["wanted", "intended"]
    await world.steps(30)
    assert [count for _, count in world.core.submits] == [3]
    assert world.controller.ledger.phases()[Phase.UP] == 3


async def test_a_submission_on_its_way_while_its_head_dies_is_not_repeated() -> None:
    """The submit command outlives its head, and may do its work after the next one has begun."""
    world = Mortal()
    await world.survive("kill", 3)  # the intention is the last that is done
    await world.survive("scale", 3)
    assert [each["event"] for each in world.journal.events] == ["wanted", "intended"]
    world.now += 100
    world.begin()
    await world.steps(10)
    name = world.journal.events[1]["name"]
    spec, script = world.controller.pools["default"].spec, world.scripts["default"]
    await world.batch.run(driver("slurm").submit(Submission(name, 3), spec, script))
    await world.steps(30)
    assert world.core.submits == [(name, 3)]
    assert world.controller.ledger.phases()[Phase.UP] == 3


async def test_a_pool_that_follows_the_demand_keeps_its_jobs_at_first() -> None:
    """The tasks are lost; how many jobs they are worth is known when clients are back."""
    world = await up(4)
    world.controller.adapt("default", {"minimum": 1})
    await world.step()
    world.begin()
    assert world.controller.wanted == {"default": 4}
    assert world.controller.adapting == {"default": {"minimum": 1}}
    await world.scale(2)
    assert remembered(world.journal.events).adapting == {}
    assert remembered(world.journal.events).jobs == {"default": 2}


async def test_jobs_of_a_pool_that_is_not_there_are_refused() -> None:
    """They could not be counted, and not be replaced."""
    world = await up(2)
    for event in world.journal.events:
        if event["event"] == "intended":
            event["pool"] = "gpu"
    with pytest.raises(ConfigurationError, match="jobs of gpu"):
        world.begin()


async def test_a_requeued_job_begins_a_new_life_unseen() -> None:
    """It ran when the first head saw it, and waits when the next one does: no deadline is known."""
    world = await up(1)
    ((_, job),) = world.core.jobs()
    assert job.state == RUNNING
    world.core.requeue(job)
    world.core.slots = 0
    world.begin()
    await world.steps(2)
    (tracked,) = world.controller.ledger.arrays.values()
    assert tracked.started == {}
    assert tracked.adopted == set()
