"""When workers may join, and how many a head can hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job_environment import position
from dask_hpc.model.joining import (
    AT_ONCE,
    FILES_BESIDE,
    FILES_PER_WORKER,
    JOIN_SECONDS,
    KNOCK_SECONDS,
    LONGEST_KNOCK,
    Turns,
    check_files,
    knock_delay,
    patience,
)


def test_few_workers_wait_for_nobody() -> None:
    """Bringing a small cluster up takes no longer than before."""
    turns = Turns()
    assert [turns.take(8, 100.0) for _ in range(AT_ONCE // 8)] == [0.0] * (AT_ONCE // 8)


def test_a_late_worker_does_not_wait() -> None:
    """A job that starts alone finds a head that has nothing to do."""
    turns = Turns()
    turns.take(10_000, 0.0)
    assert turns.take(1, 1_000.0) == 0.0


@given(
    st.lists(
        st.tuples(st.integers(1, 128), st.floats(0, 5, allow_nan=False)), min_size=1, max_size=60
    )
)
def test_never_more_than_the_head_takes_in(arrivals: list[tuple[int, float]]) -> None:
    """Of any arrivals, those let in within a time fit in it, and `AT_ONCE` beside."""
    turns, now, let_in = Turns(), 0.0, []
    for workers, pause in arrivals:
        now += pause
        let_in.append((now + turns.take(workers, now), workers))
    for first, _ in let_in:
        for last, _ in (each for each in let_in if each[0] >= first):
            inside = [workers for at, workers in let_in if first <= at <= last]
            beyond = sum(inside) - max(inside) - AT_ONCE  # a node's workers are not divided
            assert beyond * JOIN_SECONDS <= last - first + 1e-6


@given(st.lists(st.integers(1, 128), min_size=1, max_size=200))
def test_all_join_within_the_bound_that_their_number_sets(nodes: list[int]) -> None:
    """The last of N that come at once waits N times what one takes, and never longer."""
    turns = Turns()
    waits = [turns.take(workers, 7.0) for workers in nodes]
    assert waits == sorted(waits)
    assert waits[-1] <= sum(nodes) * JOIN_SECONDS
    assert waits[-1] <= patience(sum(nodes))


@given(st.integers(0, 100_000))
def test_a_knock_comes_soon(place: int) -> None:
    """At once for the first, in order for the others, and for none later than the longest delay."""
    assert 0 <= knock_delay(place) < LONGEST_KNOCK
    assert knock_delay(0) == 0
    assert place >= 900 or knock_delay(place) == pytest.approx(place * KNOCK_SECONDS)


@pytest.mark.parametrize(
    ("environ", "node", "expected"),
    [
        ({}, None, 0),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "12", "SLURM_CPUS_ON_NODE": "4"}, None, 12),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}, "3", 3),
        ({"JOB_ID": "7", "SGE_TASK_ID": "undefined", "NSLOTS": "1"}, None, 0),
        ({}, "host_a", 0),
    ],
)
def test_the_batch_system_tells_the_place(
    environ: dict[str, str], node: str | None, expected: int
) -> None:
    """The index in the array and the number of the node; 0 where neither is told."""
    assert position(environ, node) == expected


def test_more_workers_than_a_head_can_hold_are_refused() -> None:
    """The message says how many would fit."""
    limit = 100 * FILES_PER_WORKER + FILES_BESIDE
    check_files(100, limit)
    with pytest.raises(ConfigurationError, match=r"101 workers .* enough for 100 workers"):
        check_files(101, limit)
