"""What a worker that is to go may still do."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.control.drain import (
    LEAST_MARGIN,
    MARGIN,
    OUTLIVES,
    SLOWEST,
    Task,
    hand_over_time,
    outlives,
)

seconds = st.floats(0, 1e6)


def test_a_task_that_ends_in_time_may_finish() -> None:
    assert Task(elapsed=30, expected=100).may_finish(70)
    assert not Task(elapsed=30, expected=100).may_finish(69)


def test_one_of_unknown_length_may_use_all_the_time_there_is() -> None:
    """None of its kind has ended yet, or the worker has not told since when it runs."""
    assert Task(elapsed=30, expected=None).may_finish(0.1)
    assert Task(elapsed=None, expected=100).may_finish(0.1)


def test_one_that_runs_longer_than_others_may_end_at_any_moment() -> None:
    assert Task(elapsed=120, expected=100).may_finish(0.1)


@given(st.none() | seconds, st.none() | seconds)
def test_none_runs_on_when_there_is_no_time_and_all_do_when_there_is_no_deadline(
    elapsed: float | None, expected: float | None
) -> None:
    task = Task(elapsed, expected)
    assert not task.may_finish(0)
    assert not task.may_finish(-1)
    assert task.may_finish(math.inf)


@given(st.none() | seconds, st.none() | seconds, seconds, seconds)
def test_more_time_never_ends_a_task(
    elapsed: float | None, expected: float | None, left: float, more: float
) -> None:
    task = Task(elapsed, expected)
    assert task.may_finish(left + more) or not task.may_finish(left)


@given(st.floats(0, 1e15), st.floats(0, 1e15), st.floats(0, 1e12))
def test_more_bytes_need_more_time(nbytes: float, more: float, bandwidth: float) -> None:
    assert MARGIN <= hand_over_time(nbytes, bandwidth) <= hand_over_time(nbytes + more, bandwidth)


def test_time_to_hand_over_follows_the_network() -> None:
    """But a network is not believed to be slower than any is."""
    assert hand_over_time(0, 1e9) == MARGIN
    assert hand_over_time(25e9, 1e9) == MARGIN + 100
    assert hand_over_time(1e9, 1.0) == hand_over_time(1e9, SLOWEST)


def test_results_go_to_workers_that_stay_for_a_while() -> None:
    assert outlives(None, 1000.0)
    assert outlives(1000.0 + OUTLIVES, 1000.0)
    assert not outlives(1000.0 + OUTLIVES - 1, 1000.0)


def test_of_a_short_grace_the_first_half_is_for_tasks() -> None:
    """As far as the second one suffices for their results; a long grace keeps the whole margin."""
    assert hand_over_time(0, 1e9, given=60.0) == MARGIN
    assert hand_over_time(0, 1e9, given=14.0) == 7.0
    assert hand_over_time(0, 1e9, given=6.7) == LEAST_MARGIN
    assert hand_over_time(0, 1e9, given=2.0) == LEAST_MARGIN  # nothing may begin to end there
