"""Where a real scheduler places tasks, as some of its workers end soon."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import dask.config
import pytest
from distributed import Client, Event, Worker, get_worker, wait
from distributed.core import Status

from dask_hpc.cluster.joining import HeadScheduler
from dask_hpc.cluster.workers import SchedulerWorkers
from dask_hpc.control.drain import MARGIN
from tests.integration.conftest import PLAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

#: That the engine believes these to take; it halves what it believes with each that ends at once.
DURATIONS = {"long": f"{10**15}s", "short": "1s"}


async def where(_: Any = None, *, event: str | None = None) -> str:
    if event is not None:
        await Event(event).wait()
    return str(get_worker().name)


class Engine:
    """A scheduler and workers "near", which ends soon, and "far", in this process.

    The scheduler does not validate itself as in other tests: that includes that no task is queued
    as long as a worker has nothing to do.
    """

    def __init__(self, scheduler: HeadScheduler, client: Client) -> None:
        self.scheduler = scheduler
        self.workers = SchedulerWorkers(scheduler)
        self.client = client
        self.running: dict[str, Worker] = {}

    async def start(self, *names: str) -> None:
        for name in names:
            self.running[name] = await Worker(
                self.scheduler.address,
                name=name,
                nthreads=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
            )
        async with asyncio.timeout(10):
            while len(self.scheduler.running) < len(self.running):
                await asyncio.sleep(0.01)

    def near_ends_in(self, seconds: float) -> None:
        self.workers.deadlines({"near": time.time() + seconds, "unheard-of": 0.0})

    def submit(self, prefix: str, count: int, **options: Any) -> list[Any]:
        """Submit tasks in one graph, so that they are one group."""
        keys = [f"{prefix}-{number}" for number in range(count)]
        return self.client.map(where, range(count), key=keys, **options)

    async def ran_on(self, futures: Iterable[Any]) -> Counter[str]:
        return Counter(await self.client.gather(list(futures)))


@asynccontextmanager
async def engine_with(**settings: Any) -> AsyncIterator[Engine]:
    settings = {
        **PLAIN,
        "distributed.scheduler.default-task-durations": DURATIONS,
        **settings,
    }
    with dask.config.set(settings):
        async with AsyncExitStack() as stack:
            scheduler = await stack.enter_async_context(
                HeadScheduler(
                    host="127.0.0.1",
                    port=0,
                    dashboard=False,
                    dashboard_address="127.0.0.1:0",
                )
            )
            client = await stack.enter_async_context(Client(scheduler.address, asynchronous=True))
            engine = Engine(scheduler, client)
            try:
                yield engine
            finally:
                for worker in engine.running.values():
                    await worker.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with engine_with() as engine:
        yield engine


@pytest.fixture(params=[1.1, float("inf")], ids=["queued", "sent at once"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with engine_with(**{"distributed.scheduler.worker-saturation": request.param}) as engine:
        yield engine


@pytest.mark.parametrize("count", [2, 30], ids=["few", "many"])
async def test_long_tasks_go_where_they_can_end(either: Engine, count: int) -> None:
    """Whether the engine takes them for one of many or not."""
    await either.start("near", "far")
    either.near_ends_in(60)
    assert await either.ran_on(either.submit("long", count)) == {"far": count}


async def test_short_and_unknown_tasks_go_anywhere(either: Engine) -> None:
    """As long as they can end."""
    await either.start("near", "far")
    either.near_ends_in(60)
    for prefix in ("short", "unknown"):
        assert set(await either.ran_on(either.submit(prefix, 30))) == {"near", "far"}
    either.near_ends_in(MARGIN)  # kept for handing over
    assert await either.ran_on(either.submit("short", 30, pure=False)) == {"far": 30}


async def test_what_was_told_last_counts(either: Engine) -> None:
    """A job that was given more time is as good as any."""
    await either.start("near", "far")
    either.near_ends_in(60)
    either.workers.deadlines({})
    assert set(await either.ran_on(either.submit("long", 30))) == {"near", "far"}


async def test_where_all_end_too_early_tasks_run_nevertheless(either: Engine) -> None:
    """They may be done sooner than others were."""
    await either.start("near")
    either.near_ends_in(60)
    assert await either.ran_on(either.submit("long", 30)) == {"near": 30}


async def test_a_task_stays_where_it_must_run(engine: Engine) -> None:
    """The user's word goes first."""
    await engine.start("near", "far")
    engine.near_ends_in(60)
    futures = engine.submit("long", 3, workers=["near"])
    assert await engine.ran_on(futures) == {"near": 3}
    futures = engine.submit("long-if-so", 3, workers=["near"], allow_other_workers=True)
    assert await engine.ran_on(futures) == {"near": 3}
    engine.scheduler.task_prefixes["long-if-so"].duration_average = 100.0
    futures = engine.submit("long-if-so-2", 1, workers=["near"], allow_other_workers=True)
    assert await engine.ran_on(futures) == {"far": 1}


async def test_one_that_ends_soon_takes_what_it_can_end_from_the_queue(engine: Engine) -> None:
    """Though what is first in the queue waits for another."""
    await engine.start("near", "far")
    engine.near_ends_in(60)
    held = engine.submit("long", 10, event="go")
    async with asyncio.timeout(10):
        while len(engine.scheduler.queued) < 8:  # two are sent to "far"
            await asyncio.sleep(0.01)
    short = engine.submit("short", 10, priority=-1)
    await wait(short)
    assert await engine.ran_on(short) == {"near": 10}
    assert not any(future.done() for future in held)
    await Event("go").set()
    assert await engine.ran_on(held) == {"far": 10}


@pytest.mark.parametrize("hears", [True, False], ids=["told", "noticed"])
async def test_nothing_waits_for_a_worker_that_is_gone(engine: Engine, hears: bool) -> None:
    """What was kept for it goes to those that are left."""
    await engine.start("near", "far")
    engine.near_ends_in(60)
    held = engine.submit("long", 10, event="go")
    await engine.running["far"].close(nanny=False)
    await Event("go").set()
    if hears:
        engine.near_ends_in(60)
    async with asyncio.timeout(10):
        assert await engine.ran_on(held) == {"near": 10}


async def test_nothing_waits_for_a_worker_that_takes_no_tasks(engine: Engine) -> None:
    """It may do so without a word: its memory is full, or it is drained."""
    await engine.start("near", "far")
    engine.near_ends_in(60)
    held = engine.submit("long", 10, event="go")
    async with asyncio.timeout(10):
        while len(engine.scheduler.queued) < 8:
            await asyncio.sleep(0.01)
    engine.running["far"].status = Status.paused
    async with asyncio.timeout(10):
        while len(engine.scheduler.workers[engine.running["near"].address].processing) < 2:
            await asyncio.sleep(0.01)
    await Event("go").set()
    engine.running["far"].status = Status.running
    await wait(held)


async def test_results_go_to_those_that_stay_longest(engine: Engine) -> None:
    """Not to one that leaves next."""
    await engine.start("near", "far", "leaving")
    engine.near_ends_in(300)
    results = engine.submit("short", 20, workers=["leaving"])
    await wait(results)
    assert await engine.workers.retire({"leaving"}, force=False) == {"leaving"}
    holders = {ws.name for ts in engine.scheduler.tasks.values() for ws in ts.who_has}
    assert holders == {"far"}
