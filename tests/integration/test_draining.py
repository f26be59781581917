"""Workers in processes of their own are drained, with a real scheduler."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.config
import psutil
import pytest
from distributed import Client, Event, Lock, Nanny, Worker, wait, worker_client
from distributed.core import Status

from dask_hpc.cluster.joining import HeadScheduler
from dask_hpc.cluster.workers import SchedulerWorkers
from dask_hpc.control.drain import LEAST_MARGIN, MARGIN
from tests.integration.conftest import PLAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def until(true: Callable[[], object], seconds: float = 25) -> None:
    """Wait for a condition; the machine may be busy."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@dataclass
class Engine:
    """A scheduler, workers in processes, a client, and a file in which tasks note their runs."""

    scheduler: HeadScheduler
    workers: SchedulerWorkers
    client: Client
    notes: Path
    stack: AsyncExitStack

    async def start(self, *names: str, threads: int = 1) -> None:
        """Start workers, and wait until all are in service."""
        options = {"nthreads": threads, "memory_limit": 0}
        nannies = [Nanny(self.scheduler.address, name=name, **options) for name in names]
        for nanny in await asyncio.gather(*nannies):
            self.stack.push_async_callback(nanny.close, timeout=1)  # threads may go on
        await until(lambda: {str(ws.name) for ws in self.scheduler.running} >= set(names))

    async def start_here(self, name: str) -> None:
        """Start a worker in this process, which takes less time."""
        options = {"nthreads": 2, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
        worker = await Worker(self.scheduler.address, name=name, **options)
        self.stack.push_async_callback(worker.close)
        await until(lambda: self.status(name) is Status.running)

    def address(self, name: str) -> str:
        return next(ws.address for ws in self.scheduler.workers.values() if ws.name == name)

    def status(self, name: str) -> Status:
        return self.scheduler.workers[self.address(name)].status

    def names(self) -> set[str]:
        return {str(ws.name) for ws in self.scheduler.workers.values()}

    def holders(self, key: str) -> set[str]:
        return {ws.name for ws in self.scheduler.tasks[key].who_has or ()}

    def runs(self) -> Counter[str]:
        """How often each task began."""
        return Counter(self.notes.read_text().split()) if self.notes.exists() else Counter()

    async def begun(self, name: str) -> None:
        await until(lambda: self.runs()[name])

    def work(self, name: str, seconds: float = 0.0, *, on: str | None = None) -> Any:
        """Submit a task; it is sent to a worker, which does not have to run it."""
        where: dict[str, Any] = {}
        if on is not None:
            where = {"workers": [self.address(on)], "allow_other_workers": True}
        return self.client.submit(note, str(self.notes), name, seconds, key=name, **where)

    async def held(self, name: str, *, on: str) -> Any:
        """Have a task run on a worker until :meth:`go`."""
        workers = [self.address(on)]
        task = self.client.submit(
            held, str(self.notes), name, key=name, workers=workers, allow_other_workers=True
        )
        await self.begun(name)
        return task

    def go(self, name: str) -> None:
        Path(f"{self.notes}-go-{name}").touch()


def note(path: str, name: str, seconds: float = 0.0) -> str:
    with Path(path).open("a") as file:
        file.write(f"{name}\n")
    time.sleep(seconds)
    return name


def held(path: str, name: str) -> str:
    """Run until the test says so: no engine is needed to hear of it."""
    note(path, name)
    while not Path(f"{path}-go-{name}").exists():
        time.sleep(0.01)
    return name


@asynccontextmanager
async def engine_with(path: Path, **settings: Any) -> AsyncIterator[Engine]:
    # Tasks stay where they are sent, until the drain moves them.
    settings = {
        **PLAIN,
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.locks.lease-timeout": "2s",
        "distributed.scheduler.locks.lease-validation-interval": "500ms",
        **settings,
    }
    options = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
    with dask.config.set(settings):
        async with AsyncExitStack() as stack:
            scheduler = await stack.enter_async_context(
                HeadScheduler(dashboard=False, validate=True, **options)
            )
            client = await stack.enter_async_context(Client(scheduler.address, asynchronous=True))
            yield Engine(scheduler, SchedulerWorkers(scheduler), client, path / "notes", stack)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine_with(tmp_path) as engine:
        yield engine


async def busy(engine: Engine) -> tuple[Any, list[Any], list[Any], Any]:
    """Worker "a" runs one task, has 20 ready, ten results, and data that only the client knows."""
    results = [engine.work(f"result-{number}", on="a") for number in range(10)]
    await wait(results)
    data = await engine.client.scatter(
        {"scattered": bytes(1000)}, workers=[engine.address("a")], hash=False
    )
    running = await engine.held("running", on="a")
    ready = [engine.work(f"ready-{number}", on="a") for number in range(20)]
    # Where the engine steals, some may have gone already.
    await until(lambda: all(task.key in engine.scheduler.tasks for task in ready))
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
    everything = await busy(engine)
    deadline = None if seconds is None else time.time() + seconds
    retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False, deadline=deadline))
    await wait(everything[1])
    assert engine.status("a") is Status.closing_gracefully
    await until(lambda: engine.holders("scattered") == {"b"})
    assert not retiring.done()
    engine.go("running")
    assert await retiring == {"a"}
    assert engine.names() == {"b"}
    await check(engine, everything)
    assert set(engine.runs().values()) == {1}
    assert engine.workers.tasks_rerun == 0


async def test_what_cannot_end_in_time_starts_elsewhere_in_time(engine: Engine) -> None:
    """And only that; its results are handed over before the deadline."""
    await engine.start("a", "b")
    everything = await busy(engine)
    began = time.time()
    deadline = began + MARGIN + 1.5
    process = psutil.Process(engine.scheduler.workers[engine.address("a")].pid)
    retiring = engine.workers.retire({"a"}, force=False, deadline=deadline)
    assert await retiring == {"a"}
    assert began + 1.4 < time.time() < deadline
    await until(lambda: gone(process))  # the engine would wait for its thread, for 30 s
    assert engine.scheduler.tasks["running"].processing_on.name == "b"
    assert engine.workers.tasks_rerun == 1
    engine.go("running")
    await check(engine, everything)
    assert {name for name, runs in engine.runs().items() if runs > 1} == {"running"}


async def test_two_of_three_leave_at_once(engine: Engine) -> None:
    """Neither is given what the other hands over, not even what both hold."""
    await engine.start("a", "b", "c")
    results = [engine.work(f"{on}-{number}", on=on) for number in range(20) for on in ("a", "b")]
    await wait(results)
    both = await engine.client.scatter({"both": bytes(1000)}, workers=[engine.address("a")])
    await engine.client.replicate(list(both.values()), workers=[engine.address("b")])
    running = [await engine.held(f"running-{on}", on=on) for on in ("a", "b")]
    retiring = [
        asyncio.create_task(engine.workers.retire({name}, force=False)) for name in ("a", "b")
    ]
    await until(lambda: engine.holders("both") == engine.holders("a-0") == {"c"})
    for on in ("a", "b"):
        engine.go(f"running-{on}")
    assert await asyncio.gather(*retiring) == [{"a"}, {"b"}]
    assert await engine.client.gather(running) == ["running-a", "running-b"]
    assert len(await engine.client.gather(results)) == 40
    assert await both["both"] == bytes(1000)
    assert set(engine.runs().values()) == {1}
    assert engine.workers.keys_lost == 0


async def test_two_leave_in_a_hurry(engine: Engine) -> None:
    """Neither counts on the other for what both hold."""
    await engine.start("a", "b", "c")
    both = await engine.client.scatter({"both": bytes(1000)}, workers=[engine.address("a")])
    await engine.client.replicate(list(both.values()), workers=[engine.address("b")])
    assert engine.holders("both") == {"a", "b"}
    running = [await engine.held(f"running-{on}", on=on) for on in ("a", "b")]
    deadline = time.time() + MARGIN + 0.5
    assert await engine.workers.retire({"a", "b"}, force=False, deadline=deadline) == {"a", "b"}
    for on in ("a", "b"):
        engine.go(f"running-{on}")
    assert await both["both"] == bytes(1000)
    assert await engine.client.gather(running) == ["running-a", "running-b"]
    assert (engine.workers.tasks_rerun, engine.workers.keys_lost) == (2, 0)


def deaf(path: str, seconds: int) -> str:
    note(path, "deaf")
    ctypes.PyDLL(None).sleep(seconds)  # with Python's lock
    return "deaf"


async def test_a_worker_that_does_not_answer_is_not_waited_for(engine: Engine) -> None:
    """Its task keeps the whole process from doing anything: what waits there goes in time."""
    await engine.start("a", "b")
    running = engine.client.submit(
        deaf, str(engine.notes), 8, key="deaf", workers=["a"], allow_other_workers=True
    )
    await engine.begun("deaf")
    ready = [engine.work(f"ready-{number}", on="a") for number in range(5)]
    await until(lambda: len(engine.scheduler.workers[engine.address("a")].processing) == 6)
    began = time.time()
    deadline = began + MARGIN + 1
    assert await engine.workers.retire({"a"}, force=False, deadline=deadline) == {"a"}
    assert time.time() < deadline
    assert await engine.client.gather(ready) == [f"ready-{number}" for number in range(5)]
    assert await running == "deaf"
    twice = {name for name, count in engine.runs().items() if count > 1}
    assert "deaf" in twice
    assert len(twice) <= 2  # its thread may begin one before the process hears


async def test_the_only_worker_works_on_until_another_joins(engine: Engine) -> None:
    """Then it hands over, and goes."""
    await engine.start("a")
    first = [engine.work(f"first-{number}", 0.01) for number in range(20)]
    await wait(first)
    retiring = asyncio.create_task(
        engine.workers.retire({"a"}, force=False, deadline=time.time() + 50)
    )
    more = [engine.work(f"more-{number}", 0.01) for number in range(20)]
    await wait(more)
    assert not retiring.done()
    await engine.start("b")
    assert await retiring == {"a"}
    assert len(await engine.client.gather([*first, *more])) == 40
    assert set(engine.runs().values()) == {1}


async def test_the_only_worker_stays_without_a_deadline(engine: Engine) -> None:
    """With its results, and takes tasks again; with nothing on it, it goes."""
    await engine.start("a")
    result = engine.work("result")
    await wait([result])
    assert await engine.workers.retire({"a"}, force=False) == set()
    assert engine.status("a") is Status.running
    assert await engine.work("more") == "more"
    result.release()
    await until(lambda: not engine.scheduler.tasks)
    assert await engine.workers.retire({"a"}, force=False) == {"a"}


async def test_a_deadline_passes_without_anybody_to_hand_over_to(engine: Engine) -> None:
    """It is in service to the end."""
    await engine.start("a")
    running = await engine.held("running", on="a")
    assert await engine.workers.retire({"a"}, force=False, deadline=time.time() + 0.5) == set()
    assert engine.status("a") is Status.running
    engine.go("running")
    assert await running == "running"


async def test_force_takes_no_time(engine: Engine) -> None:
    """No workers at all are wanted: nothing is waited for, and that is not counted as a loss."""
    await engine.start("a", "b")
    result = engine.work("result", on="a")
    await wait([result])
    running = await engine.held("running", on="a")
    process = psutil.Process(engine.scheduler.workers[engine.address("a")].pid)
    async with asyncio.timeout(10):
        assert await engine.workers.retire({"a", "b"}, force=True) == {"a", "b"}
    await until(lambda: gone(process))  # the engine would wait for its thread, for 30 s
    assert (engine.workers.keys_lost, engine.workers.tasks_rerun) == (0, 0)
    assert not running.done()


async def test_a_worker_that_dies_on_its_way_is_gone(engine: Engine) -> None:
    """What was on it is counted, runs again, and nothing is left of the drain."""
    await engine.start("a", "b")
    running = await engine.held("running", on="a")
    retiring = asyncio.create_task(
        engine.workers.retire({"a"}, force=False, deadline=time.time() + 50)
    )
    await until(lambda: engine.status("a") is Status.closing_gracefully)
    os.kill(engine.scheduler.workers[engine.address("a")].pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await retiring == {"a"}
    assert engine.workers.tasks_rerun == 1
    assert not engine.workers._draining._leaving
    engine.go("running")
    assert await running == "running"
    assert engine.runs()["running"] == 2


async def test_a_drain_that_is_given_up_leaves_nothing(engine: Engine) -> None:
    """The worker takes tasks again, and no policy of the memory manager moves its results."""
    await engine.start("a", "b")
    everything = await busy(engine)
    manager = engine.scheduler.extensions["amm"]
    before = set(manager.policies)
    retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False))
    await wait(everything[1])
    retiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retiring
    await until(lambda: engine.status("a") is Status.running)
    assert manager.policies == before
    only = engine.client.submit(note, str(engine.notes), "only", workers=["a"], key="only")
    engine.go("running")
    assert await only == "only"
    await check(engine, everything)
    assert set(engine.runs().values()) == {1}


async def test_a_second_word_brings_the_deadline_forward(engine: Engine) -> None:
    """Two that ask for the same worker both hear of its end."""
    await engine.start("a", "b")
    running = await engine.held("running", on="a")
    first = asyncio.create_task(engine.workers.retire({"a"}, force=False))
    await until(lambda: engine.status("a") is Status.closing_gracefully)
    second = engine.workers.retire({"a"}, force=False, deadline=time.time() + MARGIN + 0.5)
    async with asyncio.timeout(20):
        assert await asyncio.gather(first, second) == [{"a"}, {"a"}]
    assert engine.workers.tasks_rerun == 1
    engine.go("running")
    assert await running == "running"


async def test_a_known_end_counts_though_there_is_no_hurry(engine: Engine) -> None:
    """The worker goes as it is not wanted, but its job ends before its task would."""
    await engine.start("a", "b")
    running = await engine.held("running", on="a")
    engine.workers.deadlines({"a": time.time() + MARGIN + 0.5})
    assert await engine.workers.retire({"a"}, force=False) == {"a"}
    assert engine.workers.tasks_rerun == 1
    engine.go("running")
    assert await running == "running"


async def test_what_is_known_to_take_too_long_starts_elsewhere_at_once(engine: Engine) -> None:
    """There is time for a task of unknown length, and for a short one."""
    await engine.start("b", "c")
    await engine.start("a", threads=3)
    with dask.config.set({"distributed.scheduler.default-task-durations": {"long": "1h"}}):
        tasks = [await engine.held(name, on="a") for name in ("long-1", "short-1", "x-1")]
    engine.scheduler.task_prefixes["short"].duration_average = 5.0
    retiring = asyncio.create_task(
        engine.workers.retire({"a"}, force=False, deadline=time.time() + 50)
    )
    await until(lambda: engine.runs()["long-1"] == 2)
    for name in ("long-1", "short-1", "x-1"):
        engine.go(name)
    assert await retiring == {"a"}
    assert await engine.client.gather(tasks) == ["long-1", "short-1", "x-1"]
    assert engine.runs() == {"long-1": 2, "short-1": 1, "x-1": 1}
    assert engine.workers.tasks_rerun == 1


def with_a_client(path: str, name: str) -> list[str]:
    note(path, name)
    with worker_client() as client:
        Event("others").wait(20)
        keys = [f"{name}-{number}" for number in range(5)]
        return client.gather([client.submit(note, path, key, key=key) for key in keys])


async def test_a_task_that_starts_others_is_waited_for(engine: Engine) -> None:
    """It has left its thread, and is not on its worker's hands; its tasks run elsewhere."""
    await engine.start("a", "b")
    task = engine.client.submit(
        with_a_client, str(engine.notes), "parent", workers=["a"], key="parent"
    )
    await engine.begun("parent")
    await until(lambda: engine.scheduler.workers[engine.address("a")].long_running)
    retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False))
    await until(lambda: engine.status("a") is Status.closing_gracefully)
    await Event("others").set()
    assert await retiring == {"a"}
    assert await task == [f"parent-{number}" for number in range(5)]
    assert set(engine.runs().values()) == {1}


class Counting:
    """An actor."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


async def test_an_actor_keeps_its_worker(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """It cannot move: with a deadline its worker works to the end, or until the actor is gone."""
    await engine.start("a", "b")
    future = engine.client.submit(Counting, actor=True, workers=["a"], key="actor")
    actor = await future
    assert await engine.workers.retire({"a"}, force=False) == set()
    retiring = asyncio.create_task(
        engine.workers.retire({"a"}, force=False, deadline=time.time() + 40)
    )
    assert [await actor.add() for _ in range(3)] == [1, 2, 3]
    assert await engine.client.submit(note, str(engine.notes), "x", workers=["a"]) == "x"
    told = [record for record in caplog.records if "actors" in record.getMessage()]
    assert len(told) == 2  # once for each retirement
    assert not retiring.done()
    del actor
    future.release()
    assert await retiring == {"a"}


async def test_a_lock_of_a_task_that_is_moved_is_free_again(engine: Engine) -> None:
    """The worker of the first run cannot give it back any more: the engine's lease runs out."""
    await engine.start("a", "b")
    task = engine.client.submit(
        locked, str(engine.notes), 3.0, workers=["a"], allow_other_workers=True, key="locked"
    )
    await engine.begun("locked")
    deadline = time.time() + LEAST_MARGIN + 0.5
    assert await engine.workers.retire({"a"}, force=False, deadline=deadline) == {"a"}
    async with asyncio.timeout(40):
        assert await task == "locked"
    assert engine.runs()["locked"] == 2


def locked(path: str, seconds: float) -> str:
    with Lock("one"):
        return note(path, "locked", seconds)


@pytest.mark.parametrize(
    "setting",
    [
        {"distributed.scheduler.work-stealing": True},
        {"distributed.scheduler.active-memory-manager.start": False},
    ],
    ids=["with stealing", "without memory manager"],
)
async def test_what_the_user_runs_beside_changes_nothing(
    tmp_path: Path, setting: dict[str, bool]
) -> None:
    """The engine moves tasks for reasons of its own, and its memory manager may be off."""
    async with engine_with(tmp_path, **setting) as engine:
        await engine.start("a", "b", "c")
        everything = await busy(engine)
        retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False))
        await wait(everything[1])
        engine.go("running")
        assert await retiring == {"a"}
        await check(engine, everything)
        assert set(engine.runs().values()) == {1}
        callbacks = [name for name in engine.scheduler.periodic_callbacks if "amm" in name]
        assert len(callbacks) == setting.get(
            "distributed.scheduler.active-memory-manager.start", True
        )


async def test_results_do_not_wait_for_the_tasks_that_still_run(engine: Engine) -> None:
    """Those that were there, and those of tasks that end while others go on."""
    await engine.start("b")
    await engine.start("a", threads=2)
    first = engine.work("first", on="a")
    await wait([first])
    long, short = await engine.held("long", on="a"), await engine.held("short", on="a")
    retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False))
    await until(lambda: engine.holders("first") == {"b"})
    engine.go("short")
    await until(lambda: engine.holders("short") == {"b"})
    engine.go("long")
    assert await retiring == {"a"}
    assert await engine.client.gather([first, short, long]) == ["first", "short", "long"]
    assert set(engine.runs().values()) == {1}


async def test_a_shuffle_between_workers_is_over_first(engine: Engine) -> None:
    """It would start again without a worker that went."""
    array = pytest.importorskip("dask.array")
    await engine.start("a", "b", "c")
    with dask.config.set({"array.rechunk.method": "p2p", "optimization.fuse.active": False}):
        rows = array.ones((9, 9), chunks=(1, 9)).map_blocks(
            noted, "in", str(engine.notes), dtype=float
        )
        columns = rows.rechunk((9, 1)).map_blocks(noted, "out", str(engine.notes), dtype=float)
        total = engine.client.compute(columns.sum())
    shuffles = engine.scheduler.plugins["shuffle"].active_shuffles
    await until(lambda: shuffles)
    retiring = asyncio.create_task(engine.workers.retire({"a"}, force=False))
    assert await total == 81
    assert await retiring == {"a"}
    assert len(engine.runs()) == 18
    assert set(engine.runs().values()) == {1}


def noted(block: Any, name: str, path: str, block_info: Any = None) -> Any:
    number = max(block_info[0]["chunk-location"])
    note(path, f"{name}-{number}", 0.2)
    return block


def step(path: str, name: str, *_: Any) -> str:
    return note(path, name, random.random() * 0.05)


async def test_workers_come_and_go_under_load(tmp_path: Path) -> None:
    """One leaves as another comes, again and again: every task of a graph runs once."""
    notes, width, rounds = str(tmp_path / "notes"), 60, 6
    async with engine_with(tmp_path, **{"distributed.scheduler.work-stealing": True}) as engine:
        for name in ("w0", "w1", "w2"):
            await engine.start_here(name)
        submit, last = engine.client.submit, list[Any]()
        for come in range(rounds):
            await engine.start_here(f"w{come + 3}")
            last = [
                submit(step, notes, f"t{come}-{n}", *last[n : n + 3], key=f"t{come}-{n}")
                for n in range(width)
            ]
            leaving = engine.scheduler.workers[engine.address(f"w{come}")]
            await until(lambda ws=leaving: len(ws.processing) > ws.nthreads)
            deadline = None if come % 2 else time.time() + 50
            left = await engine.workers.retire({f"w{come}"}, force=False, deadline=deadline)
            assert left == {f"w{come}"}
        assert len(await engine.client.gather(last)) == width
        assert len(engine.runs()) == width * rounds
        assert set(engine.runs().values()) == {1}
        assert (engine.workers.tasks_rerun, engine.workers.keys_lost) == (0, 0)
