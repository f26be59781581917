"""The controller against a Slurm with faults, on a virtual clock."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_hpc.control import backoff
from dask_hpc.control.reconcile import Phase
from dask_hpc.errors import JobStartError, SubmitRejected
from dask_hpc.model.job import JobState, JobStatus
from tests.simulation.world import World

# What may happen between two rounds: (what, how much).
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.integers(0, 12)),
        st.tuples(st.just("step"), st.integers(1, 40)),
        st.tuples(st.just("down"), st.booleans()),
        st.tuples(st.just("lose_reply"), st.just(value=True)),
        st.tuples(st.just("lose_request"), st.just(value=True)),
        st.tuples(st.just("forget"), st.booleans()),
        st.tuples(st.just("accounting"), st.booleans()),
        st.tuples(st.just("slots"), st.integers(0, 12)),
        st.tuples(st.just("timeout"), st.integers(0, 11)),
        st.tuples(st.just("node"), st.integers(0, 11)),
        st.tuples(st.just("preempted"), st.integers(0, 11)),
        st.tuples(st.just("requeue"), st.integers(0, 11)),
    ),
    max_size=30,
)

FAULTS = {"down": "refuses", "lose_reply": "hangs", "lose_request": "hangs"}


async def _happen(world: World, what: str, value: int) -> None:
    if what == "scale":
        await world.scale(value)
    elif what == "step":
        await world.step(value)
    elif what in FAULTS:
        setattr(world.core.faults, what, FAULTS[what] if value else "")
    elif what in ("forget", "accounting", "slots"):
        setattr(world.core, what, value)
    elif what == "requeue":
        world.requeue(value)
    else:
        world.kill(value, what)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS)
@pytest.mark.timeout(300)
async def test_never_more_jobs_than_wanted_and_in_the_end_as_many(
    events: list[tuple[str, int]], monkeypatch_wait: None
) -> None:
    """Whatever fails, no submission makes too many jobs; when faults stop there are enough."""
    world = World(slots=8)
    wanted = 0

    def check(count: int) -> None:
        assert world.core.live() + count <= wanted, "more jobs than wanted"

    world.core.on_submit = check
    for what, value in events:
        if what == "scale":
            wanted = value
        await _happen(world, what, value)
    core = world.core
    core.faults.down = core.faults.lose_reply = core.faults.lose_request = ""
    core.slots = 100
    await world.steps(10, seconds=5)  # what failed is seen
    if world.controller.problem is not None:  # stopped after failures: the user's word resumes
        await world.scale(wanted)
    await world.steps(60, seconds=5)
    assert core.live() == wanted
    assert world.controller.ledger.phases()[Phase.UP] == wanted
    known = {event["name"] for event in world.journal.events if event["event"] == "intended"}
    assert {name for name, _ in core.submits} <= known, "a submission the journal does not know"


@pytest.fixture(scope="module")
def monkeypatch_wait() -> object:
    """Retries of a cancel wait no real seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr("dask_hpc.batch.client.FIRST_WAIT", 0.0)
    yield None
    patch.undo()


async def test_a_controller_down_for_a_minute_doubles_and_loses_nothing(
    monkeypatch_wait: None,
) -> None:
    """Slurm goes away in the middle of a scale: all jobs are there afterwards, once."""
    world = World()
    await world.scale(3)
    world.core.faults.down = "refuses"
    await world.scale(6)
    await world.steps(12, seconds=5)
    assert "Unable to contact" in world.controller.unanswered
    world.core.faults.down = ""
    await world.steps(20, seconds=5)
    assert world.controller.unanswered == ""
    assert world.core.live() == 6
    assert sum(count for _, count in world.core.submits) == 6


async def test_a_lost_answer_is_found_again_by_name() -> None:
    """sbatch worked, its answer did not arrive: the jobs are adopted, not submitted again."""
    world = World(lose_reply="hangs")
    await world.scale(5)
    await world.steps(3)
    assert len(world.core.submits) == 1
    assert world.controller.ledger.phases()[Phase.UP] == 5


async def test_a_lost_request_is_repeated_after_it_is_proved_lost() -> None:
    """sbatch never arrived: its absence is believed after a while, then it is submitted again."""
    world = World(lose_request="hangs")
    await world.scale(5)
    await world.steps(5)
    assert world.core.submits == []
    await world.steps(20)
    assert [count for _, count in world.core.submits] == [5]


async def test_a_script_that_fails_is_tried_three_times_and_no_more() -> None:
    """Repeated start failures end in one error, and nothing more is submitted."""
    world = World(script="broken")
    await world.scale(1)
    await world.steps(60)
    assert len(world.core.submits) == backoff.MAX_START_FAILURES
    assert isinstance(world.controller.problem, JobStartError)
    await world.steps(60)
    assert len(world.core.submits) == backoff.MAX_START_FAILURES


async def test_a_job_that_lost_a_node_is_neither_replaced_nor_a_failure() -> None:
    """It goes on with the others: a whole job until it ends, and given up with all its workers."""
    world = World()
    await world.scale(2)
    await world.steps(5)
    array, job = world.running()[0]
    names = [f"{array.name}-{job.index}-{node}.{k}" for node in range(3) for k in range(2)]
    world.controller.worker_left(f"{array.name}-{job.index}-0")
    for name in names:
        world.controller.worker_joined(name)
    for name in names[:2]:
        world.controller.worker_left(name)
    await world.steps(30)
    assert world.controller.ledger.phases()[Phase.UP] == 2
    assert [count for _, count in world.core.submits] == [2]
    assert world.controller.problem is None
    world.bytes = {f"{array.name}-{1 - job.index}-0": 10.0**9}
    await world.scale(1)
    await world.steps(5)
    assert set(world.retired) == set(names[2:])
    assert world.core.live() == 1


async def test_waiting_in_the_queue_is_no_failure() -> None:
    """Jobs may pend for a week: nothing is resubmitted, nothing reported."""
    world = World(slots=0)
    await world.scale(4)
    await world.steps(700, seconds=900)
    assert len(world.core.submits) == 1
    assert world.controller.problem is None


async def test_polls_become_rare_while_nothing_changes() -> None:
    """An hour of waiting costs at most 2 queries a minute."""
    world = World(slots=0)
    await world.scale(4)
    world.core.commands.clear()
    await world.steps(3600, seconds=1)
    assert world.batch.ran()["squeue"] <= 125


async def test_a_refusal_is_raised_and_not_repeated() -> None:
    """A bad partition is the user's to mend: scale() raises Slurm's words, once."""
    world = World(refuse="queue")
    with pytest.raises(SubmitRejected, match="Invalid partition"):
        await world.scale(4)
    await world.steps(30)
    assert world.batch.ran()["sbatch"] == 1


async def test_the_loop_itself_polls_after_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop sleeps without a date while there are no jobs; scale() wakes it."""
    monkeypatch.setattr(backoff, "MIN_POLL", 0.01)
    world = World(slots=0)
    world.controller._clock = time.monotonic
    loop = asyncio.create_task(world.controller.run())
    try:
        await asyncio.sleep(0)
        await world.scale(1)
        async with asyncio.timeout(5):
            while not any("free resources" in s.reason for s in _statuses(world)):
                world.controller.changed.clear()
                await world.controller.changed.wait()
    finally:
        loop.cancel()


def _statuses(world: World) -> list[JobStatus]:
    return list(world.controller.ledger.statuses().values())


async def test_an_array_is_split_at_the_sites_limit() -> None:
    """2,500 jobs with MaxArraySize=1001 are three arrays."""
    world = World()
    await world.scale(2500)
    assert [count for _, count in world.core.submits] == [1001, 1001, 498]


async def test_pending_jobs_are_given_up_first_then_the_least_loaded() -> None:
    """Scaling down costs as little as it can, with one scancel."""
    world = World(slots=4)
    await world.scale(6)
    await world.steps(4)
    name = world.core.submits[0][0]
    world.bytes = {f"{name}-{i}-0": float(10 - i) for i in range(4)}
    world.core.commands.clear()
    await world.scale(3)
    assert world.batch.ran()["scancel"] == 1
    assert world.retired == [f"{name}-3-0"]
    await world.steps(3)
    assert world.core.live() == 3


async def test_a_worker_whose_data_has_nowhere_to_go_keeps_its_job() -> None:
    """A retirement that fails is no loss: the job stays."""
    world = World()
    await world.scale(2)
    await world.steps(3)
    name = world.core.submits[0][0]
    world.stuck = {f"{name}-{i}-0" for i in range(2)}
    await world.scale(1)
    await world.steps(3)
    assert world.core.live() == 2


async def test_ten_thousand_jobs_cost_one_query_and_little_time_a_round(
    record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    """One query per round whatever the number; the round's own work is measured and printed."""
    world = World(slots=10_000)
    await world.scale(10_000)
    await world.steps(3)
    assert world.controller.ledger.phases()[Phase.UP] == 10_000
    world.core.commands.clear()
    answers = {}

    async def replay(command: object) -> object:
        world.core.commands.append(("squeue",))
        return answers["squeue"]

    now = world.controller.ledger.to_query()
    answers["squeue"] = await world.batch.run(world.controller.client.driver.query(now))
    world.core.commands.clear()
    world.controller.client._runner = replay
    rounds = 5
    begin = time.process_time()
    for _ in range(rounds):
        world.now += 60
        await world.controller.round()
    spent = (time.process_time() - begin) / rounds * 1000
    assert world.batch.ran()["squeue"] == rounds
    record_property("round_cpu_ms", spent)
    with capsys.disabled():
        print(f"\n10,000 jobs: {spent:.0f} CPU-ms per round, one query each")
    assert spent < 200, "a round at 10,000 jobs must not stall the head"


async def test_a_falling_demand_spares_jobs_that_are_of_use() -> None:
    """Busy ones, and those that start any moment; they go when they are not, idle ones at once."""
    world = World(slots=4)
    await world.scale(6)
    await world.steps(5)
    (tracked,) = world.controller.ledger.arrays.values()
    busy = sorted(worker for workers in tracked.workers.values() for worker in workers)
    assert len(busy) == 4
    soon, late = sorted(set(tracked.status) - set(tracked.workers))
    epoch = world.now
    tracked.status[soon] = JobStatus(JobState.PENDING, start=epoch + 30)
    tracked.status[late] = JobStatus(JobState.PENDING, start=epoch + 3600)
    world.computing = set(busy[:2])
    world.controller.want({"default": 0})
    await world.step(0)
    assert sorted(world.retired) == busy[2:]
    assert tracked.phase(soon) is Phase.PENDING
    assert tracked.phase(late) is Phase.LEAVING
    world.computing = set(busy[:1])
    world.controller.want({"default": 0})
    await world.step(0)
    assert sorted(world.retired) == busy[1:]
    world.computing = set()
    world.controller.want({"default": 0})
    await world.steps(5)
    assert world.controller.ledger.live_jobs() == 0


async def test_a_pool_that_is_short_of_jobs_hides_no_surplus_of_another() -> None:
    """Busy jobs of one are spared, though fewer are there in all than are wanted in all."""
    world = World(most=2)
    pools = world.controller.pools
    pools["gpu"] = replace(pools["default"], name="gpu")
    world.controller.wanted["gpu"] = 0
    world.scripts["gpu"] = world.scripts["default"]
    await world.scale(2)
    await world.steps(5)
    world.computing = {f"{world.core.submits[0][0]}-{i}-0" for i in range(2)}
    await world.controller.scale({"gpu": 5})
    world.controller.want({"default": 0})
    await world.steps(3)
    assert world.retired == []
    world.controller.want({"gpu": 4})  # of another pool: it spares nothing here
    await world.controller.scale({"default": 1})
    await world.steps(3)
    assert len(world.retired) == 1


async def test_a_demand_does_not_resume_after_failures() -> None:
    """Only the user's word does; what the tasks would like is no reason to try a fourth time."""
    world = World(script="broken")
    world.controller.want({"default": 2})
    for _ in range(60):
        await world.step()
        world.controller.want({"default": 2})
    submitted = world.controller.book.jobs_submitted
    assert world.controller.problem is not None
    world.controller.want({"default": 3})
    await world.steps(10)
    assert world.controller.book.jobs_submitted == submitted
