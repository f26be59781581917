"""The book: what happened to jobs and tasks in, core-seconds and waiting times out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.control.accounts import Book
from dask_hpc.control.figures import Account, Jobs, Waits, waits
from dask_hpc.control.reconcile import JobKey
from dask_hpc.control.tracked import End
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool

SPEC = JobSpec(command=("true",), cores=4, log_directory=Path("/logs"))
POOLS = {
    "cpu": Pool("cpu", SPEC, Layout(2, 2, None)),
    "wide": Pool("wide", replace(SPEC, nodes=2, cores=2), Layout(1, 4, None)),
}
KEY, OTHER = JobKey("c-1", 0), JobKey("c-1", 1)
PENDING = JobStatus(JobState.PENDING)


def runs(start: float | None = None) -> JobStatus:
    return JobStatus(JobState.RUNNING, start=start)


def end(
    key: JobKey,
    state: JobState = JobState.COMPLETED,
    *,
    at: float | None = None,
    start: float | None = None,
    failure: bool = False,
    pool: str = "cpu",
) -> End:
    status = JobStatus(state, start=start, end=at)
    return End(key, JobId("1", key.index), pool, status, joined=True, failure=failure)


def book(pool: str = "cpu", jobs: int = 1) -> Book:
    made = Book(POOLS)
    made.submitted(Submission("c-1", jobs), pool, 100.0)
    return made


def figures(made: Book, now: float = 1000.0, pool: str = "cpu") -> Account:
    return made.accounts(now)[pool]


def test_a_job_costs_all_its_cores_from_its_start_to_its_end() -> None:
    """By the batch system's own instants, whenever they were seen."""
    made = book()
    made.observed({KEY: PENDING}, [], 105.0)
    made.observed({KEY: runs(110.0)}, [], 130.0)
    made.joined(KEY, 131.0)
    made.observed({}, [end(KEY, at=150.0)], 170.0)
    found = figures(made)
    assert (found.allocated, found.used, found.idle, found.lost) == (160.0, 0.0, 160.0, 0.0)
    assert found.jobs == Jobs(submitted=1, started=1)
    assert found.waits == Waits(1, 10.0, 10.0, 10.0)


def test_all_cores_of_all_nodes_count() -> None:
    """And a job that runs counts until now."""
    made = book("wide")
    made.observed({KEY: runs(100.0)}, [], 100.0)
    assert figures(made, 110.0, "wide").allocated == 40.0
    assert figures(made, 110.0, "wide").jobs == Jobs(submitted=1, started=1, running=1)
    assert figures(made, 110.0, "cpu").allocated == 0.0


def test_without_instants_of_the_batch_system_our_own_count() -> None:
    """A worker that joins proves a start sooner than the next query."""
    made = book()
    made.joined(KEY, 120.0)
    made.observed({KEY: PENDING}, [], 121.0)  # an answer that was on its way
    made.observed({KEY: runs()}, [], 125.0)
    made.observed({}, [end(KEY)], 130.0)
    found = figures(made)
    assert found.allocated == 40.0
    assert found.jobs == Jobs(submitted=1, started=1)


def test_a_job_that_never_had_a_worker_is_lost() -> None:
    """It was allocated and did nothing."""
    made = book()
    made.observed({KEY: runs(110.0)}, [], 111.0)
    made.observed({}, [end(KEY, JobState.FAILED, at=115.0, failure=True)], 120.0)
    found = figures(made)
    assert (found.allocated, found.lost, found.idle) == (20.0, 20.0, 0.0)
    assert found.jobs.failed == 1


@pytest.mark.parametrize(
    ("state", "start", "ran"),
    [
        (JobState.CANCELLED, None, False),
        (JobState.CANCELLED, 140.0, False),  # Slurm's accounting: a start at the end
        (JobState.CANCELLED, 130.0, True),
        (JobState.GONE, None, False),
        (JobState.FAILED, None, True),  # between two queries, on a system that tells no instants
        (JobState.COMPLETED, 120.0, True),
    ],
)
def test_a_job_that_no_query_saw_running(state: JobState, start: float | None, ran: bool) -> None:
    """It has run if its end says so."""
    made = book()
    made.observed({KEY: PENDING}, [], 101.0)
    made.observed({}, [end(KEY, state, start=start, at=140.0)], 150.0)
    found = figures(made)
    assert (found.jobs.started, found.jobs.never_ran) == (int(ran), int(not ran))
    assert found.allocated == (4 * (140.0 - start) if ran and start else 0.0)


def test_a_requeued_job_has_two_lives() -> None:
    """Both are charged, both waits count, and between them it costs nothing."""
    made = book()
    made.observed({KEY: runs(110.0)}, [], 111.0)
    made.joined(KEY, 112.0)
    made.observed({KEY: PENDING}, [], 120.0)
    assert figures(made, 500.0).allocated == 40.0
    made.observed({KEY: runs(160.0)}, [], 161.0)
    made.joined(KEY, 162.0)
    made.observed({}, [end(KEY, JobState.PREEMPTED, at=170.0)], 171.0)
    found = figures(made)
    assert (found.allocated, found.lost) == (80.0, 0.0)
    assert found.jobs == Jobs(submitted=1, started=2, requeued=1, preempted=1)
    assert found.waits == Waits(2, 10.0, 40.0, 40.0)


def test_a_job_requeued_between_two_queries_is_not_charged_for_the_queue() -> None:
    """Its start has moved: the first life ended when it was last seen."""
    made = book()
    made.observed({KEY: runs(110.0)}, [], 120.0)
    made.joined(KEY, 121.0)
    made.observed({KEY: runs(180.0)}, [], 185.0)
    made.joined(KEY, 186.0)
    made.observed({}, [end(KEY, at=190.0)], 195.0)
    found = figures(made)
    assert found.allocated == 4 * (10 + 10)
    assert found.jobs.requeued == 1


def test_a_start_that_is_corrected_by_a_second_is_no_requeue() -> None:
    """Batch systems round, each command its own way."""
    made = book()
    made.observed({KEY: runs(110.0)}, [], 120.0)
    made.observed({KEY: runs(111.0)}, [], 122.0)
    assert figures(made, 121.0).allocated == 40.0
    assert figures(made).jobs.requeued == 0


def test_tasks_are_used_and_those_undone_lost() -> None:
    """A thread counts as a core; the rest of the allocation is idle."""
    made = book()
    made.observed({KEY: runs(100.0)}, [], 101.0)
    made.joined(KEY, 102.0)
    made.used("cpu", 25.0)
    made.undone("cpu", 3.0)
    made.observed({}, [end(KEY, JobState.NODE_FAIL, at=110.0)], 111.0)
    found = figures(made)
    assert (found.allocated, found.used, found.lost, found.idle) == (40.0, 25.0, 3.0, 12.0)


def test_tasks_under_way_are_used_so_far() -> None:
    """In a report they count; in the book they do when they end."""
    made = book()
    made.observed({KEY: runs(100.0)}, [], 101.0)
    assert made.accounts(110.0, {"cpu": 7.0})["cpu"].used == 7.0
    assert made.accounts(110.0)["cpu"].used == 0.0


def test_more_threads_than_cores_share_them() -> None:
    """Four threads on two cores: each counts as half a core."""
    made = book("wide")
    made.observed({KEY: runs(100.0)}, [], 101.0)
    made.used("wide", 8.0)
    assert figures(made, 110.0, "wide").used == 4.0


def test_the_total_is_the_sum_and_counts_all_waits() -> None:
    """A median of medians would be none."""
    made = Book(POOLS)
    made.submitted(Submission("c-1", 2), "cpu", 100.0)
    made.submitted(Submission("c-2", 1), "wide", 100.0)
    made.observed({KEY: runs(110.0), OTHER: runs(120.0), JobKey("c-2", 0): runs(150.0)}, [], 150.0)
    made.observed({}, [end(OTHER, at=130.0)], 150.0)
    each = made.accounts(160.0)
    total = made.total(each)
    assert total.allocated == each["cpu"].allocated + each["wide"].allocated == 240.0 + 40.0
    assert total.waits == Waits(3, 20.0, 50.0, 50.0)
    assert total.jobs == Jobs(submitted=3, started=3, running=2)
    assert made.jobs_submitted == 3


def test_what_was_never_submitted_is_not_in_the_book() -> None:
    """A stranger's job, one that has ended twice."""
    made = book()
    made.joined(OTHER, 1.0)
    made.observed({OTHER: runs(100.0)}, [end(OTHER), end(KEY), end(KEY)], 100.0)
    assert figures(made).jobs == Jobs(submitted=1, started=1)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_half_and_nine_tenths_of_the_jobs_waited_no_longer(seconds: list[float]) -> None:
    """And no fewer."""
    found = waits(seconds)
    for part, value in ((0.5, found.median), (0.9, found.p90), (1.0, found.longest)):
        assert value in seconds
        assert sum(each <= value for each in seconds) >= part * len(seconds)
        assert sum(each < value for each in seconds) < part * len(seconds)


# -- properties -----------------------------------------------------------------------------------

Happening = Callable[[Book], None]
instants = st.floats(0, 1e5)
states = st.sampled_from(list(JobState))
statuses = st.builds(JobStatus, states, start=st.none() | instants, end=st.none() | instants)


@st.composite
def lives(draw: st.DrawFn, index: int) -> list[Happening]:
    """What happens to one job, in its order: observations, workers, at last an end or none."""
    key, pool = JobKey(f"c-{index}", 0), draw(st.sampled_from(sorted(POOLS)))
    at = sorted(draw(st.lists(instants, min_size=2, max_size=6)))
    submission = Submission(key.name, 1)
    happenings: list[Happening] = [lambda made: made.submitted(submission, pool, at[0])]
    for now in at[1:]:
        status, joins = draw(statuses), draw(st.booleans())
        happenings.append(lambda made, s=status, now=now: made.observed({key: s}, [], now))
        if joins:
            happenings.append(lambda made, now=now: made.joined(key, now))
    if draw(st.booleans()):
        last = draw(statuses.filter(lambda status: not status.state.live))
        over = End(key, JobId("1", 0), pool, last, joined=True, failure=draw(st.booleans()))
        happenings.append(lambda made: made.observed({}, [over], at[-1]))
    return happenings


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Happening], list[Happening]]:
    """Two orders of the same happenings: what concerns one job stays in its order."""
    jobs = [draw(lives(index)) for index in range(draw(st.integers(1, 4)))]
    pools, seconds = st.sampled_from(sorted(POOLS)), st.floats(-10, 1e6)
    for pool, spent, done in draw(st.lists(st.tuples(pools, seconds, st.booleans()), max_size=5)):
        jobs.append(
            [lambda made, p=pool, s=spent, d=done: made.used(p, s) if d else made.undone(p, s)]
        )
    which = [number for number, happenings in enumerate(jobs) for _ in happenings]
    orders = []
    for order in (draw(st.permutations(which)), draw(st.permutations(which))):
        left = [iter(happenings) for happenings in jobs]
        orders.append([next(left[number]) for number in order])
    return orders[0], orders[1]


@given(stories(), instants)
def test_nothing_is_negative_all_adds_up_and_order_is_nothing(
    story: tuple[list[Happening], list[Happening]], now: float
) -> None:
    """Allocated is used, idle and lost, whatever happened and whoever told of it first."""
    found = []
    for order in story:
        made = Book(POOLS)
        for happens in order:
            happens(made)
        each = made.accounts(now, {"cpu": 3.0})
        total = made.total(each)
        for one in (*each.values(), total):
            parts = (one.used, one.idle, one.lost)
            assert min(*parts, one.allocated) >= 0
            assert sum(parts) == pytest.approx(one.allocated)
            assert one.jobs.submitted >= one.jobs.never_ran + one.jobs.running
            assert one.jobs.started == one.waits.jobs
        found.append(total)
    first, second = found
    assert (first.jobs, first.waits) == (second.jobs, second.waits)
    costs = [(one.allocated, one.used, one.lost) for one in found]
    assert costs[0] == pytest.approx(costs[1])


def test_waits_are_counted_between_edges() -> None:
    """Those of all pools, of jobs that run and that have ended; an edge begins the next bin."""
    made = book(jobs=2)
    made.submitted(Submission("w-1", 1), "wide", 100.0)
    made.observed({KEY: runs(110.0), OTHER: runs(130.0)}, [], 131.0)
    made.observed({}, [end(KEY, at=150.0)], 151.0)
    made.observed({JobKey("w-1", 0): runs(100.0)}, [], 151.0)
    assert made.spread([1, 10, 20]) == [1, 0, 1, 1]
    assert Book(POOLS).spread([1]) == [0, 0]


# -- what passes to the next head -----------------------------------------------------------------

STEPS: tuple[Callable[[Book], None], ...] = (
    lambda made: made.submitted(Submission("c-1", 2), "cpu", 100.0),
    lambda made: made.observed({KEY: runs(110.0), OTHER: runs(120.0)}, [], 121.0),
    lambda made: made.joined(KEY, 122.0),
    lambda made: made.used("cpu", 12.3456),
    lambda made: made.observed({}, [end(KEY, at=150.0)], 151.0),
    lambda made: made.submitted(Submission("w-1", 1), "wide", 160.0),
    lambda made: made.undone("wide", 1.5),
    lambda made: made.observed({}, [end(OTHER, JobState.PREEMPTED, at=170.0)], 171.0),
    lambda made: made.used("cpu", 1.0),
)


@given(st.lists(st.booleans(), min_size=len(STEPS), max_size=len(STEPS)))
def test_what_is_written_down_adds_up_to_the_book(written: list[bool]) -> None:
    """However often it is written, the next head has the same figures; nothing comes twice."""
    first, lines = Book(POOLS), []
    for step, write in zip(STEPS, [*written[:-1], True], strict=True):
        step(first)
        if write and (news := first.news()):
            lines.append(json.loads(json.dumps(news)))
            first.written(news)
    assert first.news() == {}
    second = Book(POOLS)
    assert second.resume(lines, {"cpu": 2}) == {"c-1": {0, 1}}
    second.submitted(Submission("w-1", 1), "wide", 160.0)
    assert second.news() == {}
    for pool, account in first.accounts(200.0).items():
        found = second.accounts(200.0)[pool]
        assert (found.jobs, found.waits) == (account.jobs, account.waits)
        for part in ("allocated", "used", "lost"):
            assert getattr(found, part) == pytest.approx(getattr(account, part), abs=0.01)


def test_a_job_that_is_settled_is_not_counted_again() -> None:
    """The rest of its submission lives on."""
    made = Book(POOLS)
    over = made.resume([{"pools": {"cpu": {"started": 1, "waits": [5]}}, "over": {"c-1": [0]}}], {})
    made.submitted(Submission("c-1", 2), "cpu", 100.0, over["c-1"])
    made.joined(KEY, 110.0)
    made.observed({}, [end(KEY, at=150.0), end(OTHER, JobState.CANCELLED, at=150.0)], 151.0)
    assert figures(made).jobs == Jobs(submitted=2, started=1, never_ran=1)
    assert figures(made).allocated == 0.0


def test_what_could_not_be_written_is_in_the_next_news() -> None:
    """With what has come since."""
    made = Book(POOLS)
    made.used("cpu", 2.0)
    news = made.news()
    assert news == made.news() == {"pools": {"cpu": {"used": 2.0}}, "over": {}}
    made.used("cpu", 3.0)
    made.written(news)
    assert made.news() == {"pools": {"cpu": {"used": 3.0}}, "over": {}}
