"""Workers in processes of their own are drained, with a real scheduler."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.config
import pytest
from distributed import Client, Event, Nanny, wait
from distributed.core import Status

from dask_hpc.cluster.joining import HeadScheduler
from dask_hpc.cluster.workers import SchedulerWorkers
from dask_hpc.control.drain import MARGIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition; the machine may be busy."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@dataclass
class Engine:
    """A scheduler, its workers in processes, a client, and a file in which tasks note their runs."""

    scheduler: HeadScheduler
    workers: SchedulerWorkers
    client: Client
    notes: Path
    stack: AsyncExitStack

    async def start(self, *names: str) -> None:
        """Start workers with one thread each, and wait until all are in service."""
        nannies = [
            Nanny(self.scheduler.address, name=name, nthreads=1, memory_limit=0) for name in names
        ]
        for nanny in await asyncio.gather(*nannies):
            self.stack.push_async_callback(nanny.close)
        await until(lambda: {str(ws.name) for ws in self.scheduler.running} >= set(names))

    def address(self, name: str) -> str:
        return next(ws.address for ws in self.scheduler.workers.values() if ws.name == name)

    def status(self, name: str) -> Status:
        return self.scheduler.workers[self.address(name)].status

    def names(self) -> set[str]:
        return {str(ws.name) for ws in self.scheduler.workers.values()}

    def runs(self) -> Counter[str]:
        """How often each task began."""
        return Counter(self.notes.read_text().split()) if self.notes.exists() else Counter()

    async def begun(self, name: str) -> None:
        await until(lambda: self.runs()[name])

    def work(
        self, name: str, seconds: float = 0.0, *, on: str | None = None, **options: Any
    ) -> Any:
        """Submit a task; it is sent to a worker, which does not have to run it."""
        where: dict[str, Any] = {} if on is None else {"workers": [self.address(on)]}
        return self.client.submit(
            note, str(self.notes), name, seconds, key=name, allow_other_workers=True, **where
        )


def note(path: str, name: str, seconds: float = 0.0) -> str:
    with Path(path).open("a") as file:
        file.write(f"{name}\n")
    time.sleep(seconds)
    return name


def held(path: str, name: str) -> str:
    note(path, name)
    Event(f"go-{name}").wait(50)
    return name


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    quiet = {"distributed.scheduler.work-stealing": False, "distributed.admin.log-length": 0}
    with dask.config.set(quiet):
        async with AsyncExitStack() as stack:
            scheduler = await stack.enter_async_context(
                HeadScheduler(
                    host="127.0.0.1",
                    port=0,
                    dashboard=False,
                    dashboard_address="127.0.0.1:0",
                    validate=True,
                )
            )
            client = await stack.enter_async_context(Client(scheduler.address, asynchronous=True))
            yield Engine(scheduler, SchedulerWorkers(scheduler), client, tmp_path / "notes", stack)


async def busy(engine: Engine, seconds: float) -> tuple[Any, list[Any], list[Any], Any]:
    """Worker "a" runs one task, has 20 ready, ten results, and data that only the client knows."""
    results = [engine.work(f"result-{number}", on="a") for number in range(10)]
    await wait(results)
    data = await engine.client.scatter(
        {"scattered": bytes(1000)}, workers=[engine.address("a")], hash=False
    )
    running = engine.work("running", seconds, on="a")
    await engine.begun("running")
    ready = [engine.work(f"ready-{number}", on="a") for number in range(20)]
    await until(lambda: len(engine.scheduler.workers[engine.address("a")].processing) == 21)
    return running, ready, results, data["scattered"]


async def check(engine: Engine, everything: tuple[Any, list[Any], list[Any], Any]) -> None:
    running, ready, results, data = everything
    assert await running == "running"
    assert await engine.client.gather(ready) == [f"ready-{number}" for number in range(20)]
    assert await engine.client.gather(results) == [f"result-{number}" for number in range(10)]
    assert await data == bytes(1000)
    assert engine.workers.keys_lost == 0


@pytest.mark.parametrize("seconds", [None, 60.0], ids=["no deadline", "a far deadline"])
async def test_nothing_runs_twice_and_nothing_is_lost(
    engine: Engine, seconds: float | None
) -> None:
    """What waits goes at once, what runs ends, results and data are handed over, and it closes."""
    await engine.start("a", "b")
    everything = await busy(engine, 3)
    deadline = None if seconds is None else time.time() + seconds
    began = time.monotonic()
    retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False, deadline=deadline))
    await wait(everything[1])
    moved = time.monotonic() - began
    assert engine.status("a") is Status.closing_gracefully
    assert not everything[0].done()
    await until(lambda: len(engine.scheduler.tasks["scattered"].who_has) > 0)
    assert await retiring == {"a"}
    took = time.monotonic() - began
    print(f"20 ready tasks ran elsewhere after {moved:.3f} s; closed after {took:.3f} s")
    assert moved < 2.5
    assert engine.names() == {"b"}
    await check(engine, everything)
    assert set(engine.runs().values()) == {1}
    assert engine.workers.tasks_rerun == 0


async def test_what_cannot_end_in_time_starts_elsewhere_in_time(engine: Engine) -> None:
    """And only that; its results are handed over before the deadline."""
    await engine.start("a", "b")
    everything = await busy(engine, 30)
    began = time.time()
    deadline = began + MARGIN + 1.5
    retiring = engine.workers.retire({"a"}, force=False, deadline=deadline)
    assert await retiring == {"a"}
    assert 1.4 < time.time() - began < MARGIN
    running, *_ = everything
    assert engine.scheduler.tasks["running"].processing_on.name == "b"
    assert engine.workers.tasks_rerun == 1
    await until(lambda: engine.runs()["running"] == 2)
    running.release()
    await until(lambda: "running" not in engine.scheduler.tasks)
    assert {name for name, runs in engine.runs().items() if runs > 1} == {"running"}
