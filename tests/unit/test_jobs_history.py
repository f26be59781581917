"""The last hour of a cluster's jobs: counts in, steps to be drawn out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.cluster.jobs_history import COARSE, FINE, LATELY, SPAN, JobsHistory

MOST = 2 * (SPAN / COARSE + LATELY / FINE) + 2
STATES = ("pending", "running")


def test_a_change_is_a_step() -> None:
    """Not a slope from one count to the next; the last one holds until now."""
    history = JobsHistory()
    history.add(1000.0, {"pending": 4})
    history.add(1010.0, {"pending": 1, "running": 3})
    series = history.series(STATES, 1030.0)
    assert series.times == [1000.0, 1010.0, 1010.0, 1030.0]
    assert series.counts == {"pending": [4, 4, 1, 1], "running": [0, 0, 3, 3]}


def test_nothing_known_is_nothing_drawn() -> None:
    """A cluster of this second."""
    series = JobsHistory().series(STATES, 5.0)
    assert (series.times, series.counts) == ([], {"pending": [], "running": []})


def test_what_is_not_news_is_not_kept() -> None:
    """A night in the queue is two points; noughts say nothing."""
    history = JobsHistory()
    for second in range(1000):
        history.add(float(second), {"pending": 2, "running": 0})
    assert len(history) == 1


def test_the_last_change_is_never_missed() -> None:
    """However quickly they follow each other."""
    history = JobsHistory()
    for tick in range(100):
        history.add(tick * 0.1, {"running": tick})
    assert history.series(STATES, 20.0).counts["running"][-1] == 99
    assert len(history) < 25


def test_an_hour_is_drawn_from_what_was_the_case_at_its_beginning() -> None:
    """The moment before is kept for that."""
    history = JobsHistory()
    history.add(0.0, {"running": 1})
    history.add(100.0, {"running": 2})
    history.add(2 * SPAN, {"running": 3})
    assert len(history) == 2
    series = history.series(STATES, 2 * SPAN + 10)
    assert series.times == [SPAN + 10, 2 * SPAN, 2 * SPAN, 2 * SPAN + 10]
    assert series.counts["running"] == [2, 2, 3, 3]


@given(
    st.lists(
        st.tuples(st.floats(-10, 900), st.dictionaries(st.sampled_from(STATES), st.integers(0, 3)))
    )
)
def test_memory_is_bounded_and_time_goes_forward(steps: list[tuple[float, dict[str, int]]]) -> None:
    """Whatever the clock does, and however long it lasts."""
    history, now = JobsHistory(), 1e6
    for step, counts in steps:
        now += step
        history.add(now, counts)
        assert len(history) <= MOST
        series = history.series(STATES, now)
        assert series.times == sorted(series.times)
        assert {len(each) for each in series.counts.values()} == {len(series.times)}


def test_a_day_of_changes_each_second_is_bounded() -> None:
    """Some hundreds of moments: all of the last minutes, one in ten seconds of the hour."""
    history = JobsHistory()
    for second in range(86400):
        history.add(float(second), {"running": second})
    assert len(history) <= SPAN / COARSE + LATELY / FINE + 1
    series = history.series(STATES, 86400.0)
    assert series.times[0] == 86400 - SPAN
    for ago in (1, 100, 200):
        assert 86400 - ago in series.times
    for at, running in zip(series.times, series.counts["running"], strict=True):
        assert abs(running - at) <= COARSE + 1
