"""What the ranks of a node get adds up to what the node has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.node.limits import Snapshot
from dask_hpc.node.shares import memory, threads

GIB = 1 << 30
ALL = frozenset(range(16))


@pytest.mark.parametrize(
    ("cpus", "environ", "expected"),
    [
        ([ALL] * 4, {}, [4, 4, 4, 4]),
        ([ALL] * 3, {}, [5, 5, 5]),
        ([ALL] * 32, {}, [1] * 32),
        ([frozenset({0, 1}), frozenset({2, 3, 4})], {}, [2, 3]),
        ([ALL] * 4, {"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "2"}, [2] * 4),
        ([ALL] * 4, {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8"}, [2] * 4),
        ([ALL] * 4, {"JOB_ID": "1", "NSLOTS": "4"}, [1] * 4),
    ],
)
def test_threads_of_each_rank(
    cpus: list[frozenset[int]], environ: dict[str, str], expected: list[int]
) -> None:
    """Bound ranks get their own, unbound ones equal parts, none more than the job has."""
    assert threads(cpus, environ) == expected


def test_a_quota_of_the_control_group_is_divided_too() -> None:
    """Four ranks on sixteen CPUs with the time of eight."""
    assert threads([ALL] * 4, {}, 8.0) == [2] * 4
    assert threads([ALL] * 4, {}, 32.0) == [4] * 4
    assert threads([frozenset({0, 1, 2, 3}), frozenset({4})], {}, 2.5) == [2, 1]


@given(st.lists(st.frozensets(st.integers(0, 15), min_size=1), min_size=1, max_size=20))
def test_threads_never_exceed_the_cores_but_for_one_each(cpus: list[frozenset[int]]) -> None:
    """Whatever the binding."""
    shares = threads(cpus, {})
    extra = sum(share for share in shares if share > 1)
    assert extra <= len(frozenset().union(*cpus))


@pytest.mark.parametrize(
    ("text", "expected", "warned"),
    [
        ("auto", (16 * GIB - (72 << 20)) // 4, False),
        ("0", 0, False),
        ("0.125", 2 * GIB, False),
        ("2 GiB", 2 * GIB, False),
        ("10 GB", 16 * GIB // 3, True),
    ],
)
def test_memory_of_each_worker(text: str, expected: int, warned: bool) -> None:
    """Four ranks, three workers, 16 GiB: what does not fit is cut, with a warning."""
    snapshot = Snapshot(environ={}, affinity=16, host_memory=16 * GIB)
    found, notes = memory(text, 4, 3, snapshot)
    assert (found, bool(notes)) == (expected, warned)
