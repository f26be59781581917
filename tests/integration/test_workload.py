"""What tasks of one pool are worth is what the engine says, in the engine's own situations."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Event, LocalCluster

from dask_hpc.cluster.pools import label
from dask_hpc.cluster.workload import Room, loads, needed, share
from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool

THREADS = 2
SPEC = JobSpec(command=("true",), cores=THREADS, log_directory=Path("/l"))


def figures(scheduler: Any, duration: float = 5.0) -> tuple[int, int]:
    """Workers that the tasks of the one pool are worth: ours, the engine's."""
    pool = Pool("default", SPEC, Layout(1, THREADS, None), label("default"))
    found = needed(scheduler, share(loads(scheduler), [Room(pool, None, duration)]))
    return found.workers["default"], scheduler.adaptive_target(target_duration=duration)


async def held(event: str, _: int) -> None:
    await Event(event).wait(60)


def blob(size: int) -> bytes:
    return b"x" * size


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("tasks", [1, 5, 40, 400])
async def test_one_pools_share_is_the_engines_own_figure(workers: int, tasks: int) -> None:
    """Queued, without a worker, running: whatever the engine takes tasks for."""
    async with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=THREADS,
            processes=False,
            dashboard_address=":0",
            asynchronous=True,
            resources=label("default"),
            memory_limit="1 GiB",
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        scheduler = cluster.scheduler
        futures = client.map(held, [f"go-{workers}-{tasks}"] * tasks, range(tasks), pure=False)
        while sum(load.tasks for load in loads(scheduler).values()) < tasks:
            await asyncio.sleep(0.01)
        for duration in (0.1, 1.0, 5.0, 100.0):
            ours, engines = figures(scheduler, duration)
            # Without workers it cannot know of threads, and takes each for one worker.
            threads = 1 if workers else THREADS
            assert ours == max(math.ceil(engines / threads), 1)
        await Event(f"go-{workers}-{tasks}").set()
        await client.cancel(futures)


async def test_workers_are_kept_for_results_as_the_engine_keeps_them() -> None:
    """Idle ones with little go, and the memory of those that stay is enough for all."""
    async with (
        LocalCluster(
            n_workers=4,
            threads_per_worker=THREADS,
            processes=False,
            dashboard_address=":0",
            asynchronous=True,
            resources=label("default"),
            memory_limit="20 MiB",
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert figures(cluster.scheduler) == (0, 0)
        kept = []
        for size in (1 << 20, 6 << 20, 8 << 20):
            kept.append(client.submit(blob, size, pure=False))
            await client.gather(kept, direct=False)
            ours, engines = figures(cluster.scheduler)
            assert ours == engines > 0
