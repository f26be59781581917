"""How a node's share of a job is divided among workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.layout import Layout, layout_for


@given(cores=st.integers(1, 512), memory=st.none() | st.integers(512, 2**45))
def test_workers_never_get_more_than_the_job_has(cores: int, memory: int | None) -> None:
    """Threads and memory add up to at most the job's; no core is left over by our own choice."""
    layout = layout_for(cores, memory=memory)
    assert layout.workers * layout.threads == cores
    if memory is None:
        assert layout.memory is None
    else:
        assert layout.memory is not None
        assert 0 < layout.workers * layout.memory <= memory


@given(st.integers(1, 512).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_the_users_number_of_workers_is_kept(sizes: tuple[int, int]) -> None:
    """Cores that do not divide evenly stay idle rather than being promised twice."""
    cores, workers = sizes
    layout = layout_for(cores, workers=workers)
    assert layout.workers == workers
    assert cores - workers < layout.workers * layout.threads <= cores


@pytest.mark.parametrize(("cores", "shape"), [(1, (1, 1)), (4, (4, 1)), (16, (4, 4)), (36, (6, 6))])
def test_small_jobs_run_one_thread_each_and_large_ones_are_square(
    cores: int, shape: tuple[int, int]
) -> None:
    """Up to four cores one thread per worker; then about the square root."""
    layout = layout_for(cores)
    assert (layout.workers, layout.threads) == shape


@pytest.mark.parametrize(
    ("cores", "workers", "memory"), [(0, None, None), (4, 5, None), (4, 0, None), (4, 4, 3)]
)
def test_what_does_not_fit_is_refused(cores: int, workers: int | None, memory: int | None) -> None:
    """No core, no worker, more workers than cores or than bytes."""
    with pytest.raises(ConfigurationError):
        layout_for(cores, workers=workers, memory=memory)


@given(
    wanted=st.integers(0, 2**60),
    workers=st.integers(1, 64),
    threads=st.integers(1, 64),
    memory=st.integers(1, 2**45),
)
def test_jobs_are_enough_and_not_one_too_many(
    wanted: int, workers: int, threads: int, memory: int
) -> None:
    """Whole jobs, rounded up exactly, whatever the size."""
    layout = Layout(workers, threads, memory)
    for jobs, each in (
        (layout.jobs_for_workers(wanted), workers),
        (layout.jobs_for_cores(wanted), workers * threads),
        (layout.jobs_for_memory(wanted), workers * memory),
    ):
        assert jobs * each >= wanted > (jobs - 1) * each


@given(jobs=st.integers(1, 100), workers=st.integers(1, 64), memory=st.integers(64, 2**45))
def test_so_many_times_a_jobs_memory_are_so_many_jobs(jobs: int, workers: int, memory: int) -> None:
    """Whatever is left over when the workers of a job divide it."""
    assert layout_for(64, workers=workers, memory=memory).jobs_for_memory(jobs * memory) == jobs


def test_scaling_by_memory_needs_a_jobs_memory() -> None:
    """Where the site decides, nobody knows."""
    with pytest.raises(ConfigurationError, match="memory"):
        Layout(1, 1, None).jobs_for_memory(1)
