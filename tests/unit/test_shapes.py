"""Which shape of job is best: the laws of the scores, the choice and its words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dask_hpc.control.shapes import HEADINGS, Shape, cells, horizon_of, make_plan, worker_hours
from dask_hpc.model.forecast import Forecast, Start, starts

HOUR = 3600
BIG = Shape(cores=16, memory=16 << 30, walltime=4 * HOUR, workers=4)
SMALL = Shape(cores=4, memory=4 << 30, walltime=HOUR // 2, queue="short", workers=1)
UNKNOWN = Forecast(said="nobody tells")


def at_once(jobs: int) -> Forecast:
    return Forecast(starts=starts((jobs, 0)))


def hours(shape: Shape, forecast: Forecast, workers: int = 4, horizon: float = 4 * HOUR) -> float:
    return worker_hours(shape, forecast, workers=workers, horizon=horizon)


# -- scores ---------------------------------------------------------------------------------------


def test_a_job_that_starts_at_once_and_outlives_the_horizon_gives_all_of_it() -> None:
    """Four workers for four hours."""
    assert hours(BIG, at_once(1)) == 16


def test_time_in_the_queue_gives_nothing() -> None:
    """One hour of four is spent waiting; after the horizon nothing counts."""
    assert hours(BIG, Forecast(starts=starts((1, HOUR)))) == 12
    assert hours(BIG, Forecast(starts=starts((1, 5 * HOUR)))) == 0


def test_of_the_last_job_no_more_workers_count_than_are_wanted() -> None:
    """Two jobs of four for five workers: the first brings four, the second one."""
    forecast = Forecast(starts=starts((1, 0), (1, 2 * HOUR)))
    assert hours(BIG, forecast, workers=5) == 4 * 4 + 1 * 2


def test_short_jobs_are_replaced_and_lose_a_minute_each_time() -> None:
    """Half an hour and a minute: in 4 h seven whole lives and most of another."""
    lives, rest = divmod(4 * HOUR, 31 * 60)
    assert hours(SMALL, at_once(4)) == pytest.approx(4 * (lives * 30 + rest / 60) / 60)


def test_who_replaces_a_job_waits_behind_our_own() -> None:
    """Half of eight wait for the others to end: the same slots are not counted twice."""
    forecast = Forecast(starts=starts((4, 0), (4, HOUR // 2)))
    assert hours(SMALL, forecast, workers=8, horizon=HOUR) == 4


def test_where_a_start_is_not_known_no_replacement_is() -> None:
    """Two of four start, and run once."""
    assert hours(SMALL, at_once(2)) == 1


def test_without_a_walltime_jobs_run_on() -> None:
    """The queue's default is not known here."""
    assert hours(replace(BIG, walltime=None), at_once(1), horizon=100 * HOUR) == 400


SHAPES = st.builds(
    Shape,
    cores=st.integers(1, 64),
    walltime=st.one_of(st.none(), st.integers(60, 100_000)),
    workers=st.integers(1, 16),
)
STEPS = st.lists(st.tuples(st.integers(1, 5), st.floats(0, 200_000)), max_size=5)
HORIZONS = st.floats(60, 200_000)


@given(SHAPES, STEPS, st.integers(1, 40), HORIZONS, st.data())
def test_an_earlier_start_never_scores_worse(
    shape: Shape, steps: list[tuple[int, float]], workers: int, horizon: float, data: st.DataObject
) -> None:
    """Whichever of the jobs it is."""
    assume(steps)
    which = data.draw(st.integers(0, len(steps) - 1))
    sooner = data.draw(st.floats(0, steps[which][1]))
    earlier = [*steps[:which], (steps[which][0], sooner), *steps[which + 1 :]]
    one, other = (Forecast(starts=starts(*each)) for each in (steps, earlier))
    assert hours(shape, other, workers, horizon) >= hours(shape, one, workers, horizon) - 1e-6


@given(SHAPES, STEPS, st.integers(1, 40), HORIZONS, st.floats(0, 200_000))
def test_a_start_that_becomes_known_never_scores_worse(
    shape: Shape, steps: list[tuple[int, float]], workers: int, horizon: float, when: float
) -> None:
    """One more job is told of, later than the others or not."""
    fewer, more = Forecast(starts=starts(*steps)), Forecast(starts=starts(*steps, (1, when)))
    assume(more.known <= shape.jobs(workers))
    assert hours(shape, more, workers, horizon) >= hours(shape, fewer, workers, horizon) - 1e-6


@given(SHAPES, STEPS, st.integers(1, 40), HORIZONS)
def test_no_score_is_more_than_all_workers_for_all_the_time(
    shape: Shape, steps: list[tuple[int, float]], workers: int, horizon: float
) -> None:
    """And none is negative."""
    found = hours(shape, Forecast(starts=starts(*steps)), workers, horizon)
    assert 0 <= found <= workers * horizon / HOUR * (1 + 1e-9)


@given(st.lists(st.tuples(SHAPES, STEPS), min_size=1, max_size=6), st.integers(1, 40))
def test_the_choice_is_the_best_and_says_when_it_is_a_guess(
    drawn: list[tuple[Shape, list[tuple[int, float]]]], workers: int
) -> None:
    """Nothing gives more; a start that is not known is taken only where no other is known."""
    shapes = [shape for shape, _ in drawn]
    forecasts = [Forecast(starts=starts(*steps)) for _, steps in drawn]
    plan = make_plan(shapes, forecasts, workers=workers)
    assert plan.best.hours >= max(row.hours for row in plan.rows) * 0.99
    if plan.best.forecast.first is None:
        assert all(row.forecast.first is None for row in plan.rows)
        assert len(plan.rows) == 1 or "no start is known" in plan.why
    assert plan.why
    assert len(cells(plan)) == len(shapes)


# -- the choice -----------------------------------------------------------------------------------


def test_small_jobs_that_start_now_win_against_a_large_one_that_waits() -> None:
    """And the sentence says what the other would give."""
    wait = Forecast(starts=starts((1, 3 * HOUR)), said="sbatch --test-only")
    plan = make_plan([BIG, SMALL], [wait, at_once(4)], workers=4)
    assert plan.best.shape is SMALL
    assert plan.why == (
        "15.5 worker-hours within 4.0 h for 4 workers; "
        "4.0 with 16 cores, 16 GiB, 04:00:00: in 3.0 h"
    )


def test_the_first_named_wins_among_those_that_are_alike() -> None:
    """Half a percent is no difference."""
    late = Forecast(starts=starts((1, 0.005 * 4 * HOUR)))
    other = replace(BIG, queue="night")
    plan = make_plan([BIG, other], [late, at_once(1)], workers=4)
    assert plan.chosen == 0
    assert "you named it first" in plan.why
    later = Forecast(starts=starts((1, 0.02 * 4 * HOUR)))
    assert make_plan([BIG, other], [later, at_once(1)], workers=4).chosen == 1


def test_a_known_start_is_preferred_to_an_unknown_one() -> None:
    """Even where it gives nothing within the horizon; and the sentence says what counts."""
    late = Forecast(starts=starts((1, 30 * HOUR)))
    plan = make_plan([SMALL, BIG], [UNKNOWN, late], workers=4)
    assert plan.best.shape is BIG
    assert "no shape is known to start within 4.0 h" in plan.why
    soon = Forecast(starts=starts((1, HOUR)))
    plan = make_plan([SMALL, BIG], [UNKNOWN, soon], workers=4)
    assert plan.best.shape is BIG
    assert "a start that is not known counts as none" in plan.why


def test_where_nothing_is_known_the_first_is_taken_and_it_is_said() -> None:
    """With the reason for which nothing is."""
    plan = make_plan([BIG, SMALL], [UNKNOWN, UNKNOWN], workers=4)
    assert plan.chosen == 0
    assert (
        plan.why == "no start is known of any shape (nobody tells): this is the first that can run"
    )


def test_what_would_be_refused_is_not_taken() -> None:
    """Unless every shape would: then the batch system is to say why."""
    refused = Forecast(refused="no node has 16 cores")
    plan = make_plan([BIG, SMALL], [refused, UNKNOWN], workers=4)
    assert plan.best.shape is SMALL
    assert "no other shape can run" in plan.why
    plan = make_plan([BIG, SMALL], [refused, refused], workers=4)
    assert plan.chosen == 0
    assert "every shape would be refused" in plan.why


def test_a_single_shape_is_taken() -> None:
    """There is nothing to choose."""
    assert make_plan([BIG], [UNKNOWN], workers=4).why == (
        "it is the only shape: not known, 0.00 worker-hours within 4.0 h"
    )


def test_the_horizon_is_the_longest_walltime() -> None:
    """An hour where none has one."""
    assert horizon_of([SMALL, BIG, replace(BIG, walltime=None)]) == 4 * HOUR
    assert horizon_of([replace(BIG, walltime=None)]) == HOUR


# -- the table ------------------------------------------------------------------------------------


def test_the_table_says_what_is_known_of_each_shape() -> None:
    """Starts in their order, what is not known, what is refused; the chosen one has an arrow."""
    plan = make_plan(
        [BIG, SMALL, replace(SMALL, nodes=2, memory=None, account="lab")],
        [
            Forecast(refused="queue long takes no jobs"),
            Forecast(starts=(Start(2, 5.0), Start(1, 1500.0)), said="sbatch --test-only"),
            UNKNOWN,
        ],
        workers=4,
    )
    *rows, last = str(plan).splitlines()
    assert [re.split(r" {2,}", row.strip()) for row in rows] == [
        list(HEADINGS[1:]),
        ["16 cores, 16 GiB, 04:00:00", "1", "never", "-", "queue long takes no jobs"],
        [
            *("->", "4 cores, 4 GiB, 00:30:00, queue short", "4"),
            *("2 at once, 1 in 25 min, 1 not known", "1.5", "sbatch --test-only"),
        ],
        [
            *("2 nodes of 4 cores, 00:30:00, queue short, account lab", "4"),
            *("not known", "-", "nobody tells"),
        ],
    ]
    assert last == f"4 cores, 4 GiB, 00:30:00, queue short: {plan.why}"
    assert rows[0].index("shape") == rows[1].index("16 cores")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (30, "at once"),
        (90, "in 90 s"),
        (1500, "in 25 min"),
        (9000, "in 2.5 h"),
        (2e5, "in 2.3 days"),
    ],
)
def test_waits_are_said_as_people_do(seconds: float, expected: str) -> None:
    """Half a minute is when a batch system looks next."""
    plan = make_plan([BIG], [Forecast(starts=starts((1, seconds)))], workers=4)
    assert cells(plan)[0][3] == expected
