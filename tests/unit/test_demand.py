"""How many jobs a changing demand is worth."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.cluster.adaptive import Following
from dask_hpc.cluster.sizes import jobs_between
from dask_hpc.control.backoff import MAX_PATIENCE, MIN_PATIENCE, RETURN
from dask_hpc.control.demand import Bounds, Demand
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.layout import Layout


def test_more_are_wanted_at_once_and_fewer_after_the_patience() -> None:
    """The highest of the last ten seconds counts."""
    demand = Demand(Bounds(), patience=10)
    assert [demand.want(jobs, now) for now, jobs in enumerate([1, 8, 3, 3])] == [1, 8, 8, 8]
    assert demand.want(3, 11) == 8
    assert demand.want(3, 12) == 3
    assert demand.want(0, 13) == 3
    assert demand.want(0, 30) == 0


def test_after_a_takeover_jobs_are_kept_until_clients_may_be_back() -> None:
    """Their tasks are lost with the old head; how they are followed is not."""
    first = Following(Demand(Bounds(1, 9), patience=3), interval=2.0, target_duration=7.0)
    now = time.monotonic()
    resumed = Following.resumed(json.loads(json.dumps(first.told())), 6)
    assert resumed.told() == first.told()
    assert resumed.demand.want(0, now + RETURN - 1) == 6
    assert resumed.demand.want(8, now + RETURN) == 8
    assert resumed.demand.want(0, now + RETURN + 10) == 1


def test_a_square_wave_faster_than_the_patience_submits_once() -> None:
    """Bursts of 20 s and gaps of 20 s, for an hour."""
    demand = Demand(Bounds(), patience=30)
    wanted = [demand.want(10 if now // 20 % 2 else 0, now) for now in range(20, 3600)]
    assert set(wanted) == {10}


def test_a_slow_square_wave_follows_each_wave_once() -> None:
    """Bursts and gaps of ten minutes: up and down once each, and never in between."""
    demand = Demand(Bounds(), patience=30)
    wanted = [demand.want(10 if now // 600 % 2 else 0, now) for now in range(7200)]
    assert set(wanted) == {0, 10}
    assert sum(after > before for before, after in pairwise(wanted)) == 6


@given(
    st.lists(st.tuples(st.floats(0, 60), st.integers(0, 50)), min_size=1, max_size=60),
    st.floats(0, 100),
    st.integers(0, 10),
    st.integers(10, 40),
)
def test_wanted_is_the_highest_of_the_window(
    steps: list[tuple[float, int]], patience: float, least: int, most: int
) -> None:
    """Whatever comes: not less than is needed, nor more than was lately, nor out of bounds."""
    demand, now, seen = Demand(Bounds(least, most), patience), 0.0, list[tuple[float, int]]()
    for pause, needed in steps:
        now += pause
        seen.append((now, needed))
        window = [jobs for at, jobs in seen if at >= now - patience]
        assert demand.want(needed, now) == max(least, min(most, max(window)))


def test_patience_follows_the_queue() -> None:
    """A job that is hard to get is kept longer; but nobody keeps idle cores for hours."""
    demand = Demand(Bounds())
    assert demand.patience([]) == MIN_PATIENCE
    assert demand.patience([1, 2, 3]) == MIN_PATIENCE
    assert demand.patience([10, 120, 7200]) == 120
    assert demand.patience([7200]) == MAX_PATIENCE
    assert Demand(Bounds(), patience=5).patience([7200]) == 5


@pytest.mark.parametrize(
    ("least", "most", "bounds"),
    [
        ({}, {}, Bounds(0, None)),
        ({"n": 5}, {"n": 11}, Bounds(2, 2)),
        ({"n": None}, {"n": float("inf")}, Bounds(0, None)),
        ({"jobs": 1}, {"jobs": 7}, Bounds(1, 7)),
        ({"cores": 9}, {"cores": 24}, Bounds(2, 3)),
        ({"memory": "9 GiB"}, {"memory": "20 GiB"}, Bounds(3, 5)),
        ({}, {"n": 3}, Bounds(0, 1)),
    ],
)
def test_bounds_are_whole_jobs(
    least: dict[str, object], most: dict[str, object], bounds: Bounds
) -> None:
    """Four workers of two threads and a GiB each: the least is rounded up, the most down."""
    assert jobs_between(Layout(4, 2, 1 << 30), least=least, most=most) == bounds


@pytest.mark.parametrize(
    ("least", "most"),
    [
        ({"n": 9}, {"n": 8}),
        ({"n": 1, "jobs": 1}, {}),
        ({}, {"cores": 8, "jobs": 1}),
        ({"n": -1}, {}),
        ({}, {"jobs": -1}),
        ({}, {"n": 1.5}),
        ({"n": "2"}, {}),
    ],
)
def test_bounds_that_make_no_sense_are_refused(
    least: dict[str, object], most: dict[str, object]
) -> None:
    """Before anything happens."""
    with pytest.raises(ConfigurationError):
        jobs_between(Layout(4, 2, 1 << 30), least=least, most=most)
