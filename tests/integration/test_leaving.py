"""A signal to a job: the head is told, workers work on until they are closed, nothing is lost."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, Scheduler, Security, Worker

from dask_hpc.cluster.joining import DISMISSAL, HeadScheduler
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from tests.helpers import wait_until
from tests.integration.account import Account
from tests.integration.supervised import Supervisor, joined, running, scheduler_process, until

Start = Callable[..., Supervisor]
Said = list[tuple[Collection[str], float]]


@pytest.fixture
async def ours(file: Path, tls: TLSFiles, security: Security) -> AsyncIterator[HeadScheduler]:
    """A scheduler of a head, with nothing behind it."""
    options: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    async with HeadScheduler(security=security, host="127.0.0.1", port=0, **options) as one:
        rendezvous.write(file, one.identity(), cluster="c", owner="o", tls=tls)
        yield one


@pytest.fixture
async def client(request: pytest.FixtureRequest, security: Security) -> AsyncIterator[Client]:
    """Of whichever scheduler the test has."""
    name = "ours" if "ours" in request.fixturenames else "scheduler"
    address = request.getfixturevalue(name).address
    async with Client(address, security=security, asynchronous=True) as one:
        yield one


def gated(gate: str) -> int:
    """Compute until a file is there."""
    while not Path(gate).exists():
        time.sleep(0.02)
    return os.getpid()


def heard(scheduler: HeadScheduler) -> Said:
    """What the head is told."""
    said: Said = []
    scheduler.on_leaving = lambda names, grace: said.append((names, grace))
    return said


def address_of(scheduler: Scheduler, name: str) -> str:
    return next(ws.address for ws in scheduler.workers.values() if ws.name == name)


def signal_all(supervisor: Supervisor, number: int) -> None:
    """To every process of the job, as most batch systems do."""
    for process in [psutil.Process(supervisor.process.pid), *supervisor.tree()]:
        process.send_signal(number)


async def pair(scheduler: Scheduler, start: Start, *arguments: str) -> Supervisor:
    """Start a job that is going to leave, and one that stays; the first."""
    leaves = start("--name", "leaves", *arguments)
    start("--name", "stays")
    await joined(scheduler, 2)
    await leaves.settled()
    return leaves


async def held_by(client: Client, scheduler: Scheduler, gate: Path) -> tuple[Any, Any]:
    """Data that only the job has that leaves, and a task that runs there."""
    only = {"workers": [address_of(scheduler, "leaves")], "allow_other_workers": True}
    data = await client.scatter({"x": list(range(1000))}, workers=only["workers"])
    task = client.submit(gated, str(gate), **only)
    await until(lambda: any(ws.processing for ws in scheduler.workers.values()))
    return data["x"], task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
async def test_a_head_is_told_and_closes_the_workers_when_it_likes(
    number: signal.Signals, ours: HeadScheduler, client: Client, start: Start, tmp_path: Path
) -> None:
    """The running task ends where it runs, whatever process of the job was signalled."""
    said = heard(ours)
    leaves = await pair(ours, start, "--grace", "60")
    data, task = await held_by(client, ours, tmp_path / "gate")
    pid = ours.workers[address_of(ours, "leaves")].pid
    signal_all(leaves, number)
    await until(lambda: said)
    assert said[0][0] == ["leaves"]
    assert 40 < said[0][1] <= 54
    (tmp_path / "gate").touch()
    assert await task == pid
    assert leaves.process.poll() is None
    await ours.retire_workers([address_of(ours, "leaves")], close_workers=True, remove=True)
    code, line = await leaves.ended()
    assert (code, line) == (128 + number, f"dask-hpc worker: ended: signal {number.name}")
    assert f"{number.name}: 1 workers leave, within 54 s" in leaves.text()
    assert await data == list(range(1000))
    assert len(said) == 1


async def test_a_head_with_nobody_behind_it_has_them_retired(
    ours: HeadScheduler, client: Client, start: Start, tmp_path: Path
) -> None:
    """As of `dask-scheduler`: the data is kept, the task runs again elsewhere."""
    leaves = await pair(ours, start, "--grace", "60")
    data, task = await held_by(client, ours, tmp_path / "gate")
    leaves.process.send_signal(signal.SIGTERM)
    assert (await leaves.ended())[0] == 143
    (tmp_path / "gate").touch()
    assert await task == ours.workers[address_of(ours, "stays")].pid
    assert await data == list(range(1000))
    assert [ts.suspicious for ts in ours.tasks.values()] == [0, 0]


async def test_any_scheduler_of_the_engine_has_them_retired(
    scheduler: Scheduler, client: Client, start: Start, tmp_path: Path
) -> None:
    """By its public call, as it knows nothing of ours."""
    leaves = await pair(scheduler, start, "--grace", "60")
    data, task = await held_by(client, scheduler, tmp_path / "gate")
    leaves.process.send_signal(signal.SIGTERM)
    assert (await leaves.ended())[0] == 143
    (tmp_path / "gate").touch()
    assert await task == scheduler.workers[address_of(scheduler, "stays")].pid
    assert await data == list(range(1000))


async def test_a_heartbeat_on_its_way_as_a_worker_goes_is_no_warning(
    ours: HeadScheduler, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a renewed cluster there would be one in each generation; of strangers it is one."""
    await pair(ours, start)
    address = address_of(ours, "leaves")
    await ours.retire_workers([address], close_workers=True, remove=True)
    assert ours.heartbeat_worker(address=address, metrics={}) == {"status": "missing"}
    assert "unregistered" not in caplog.text
    ours.heartbeat_worker(address="tcp://127.0.0.1:1", metrics={})
    assert "unregistered" in caplog.text


async def test_workers_are_closed_before_the_kill(
    ours: HeadScheduler, client: Client, start: Start, tmp_path: Path
) -> None:
    """A head that cannot empty them does not hold them: a third of a short grace is to close in."""
    said = heard(ours)
    leaves = await pair(ours, start, "--grace", "3")
    await held_by(client, ours, tmp_path / "gate")
    began = time.monotonic()
    leaves.process.send_signal(signal.SIGTERM)
    code, _ = await leaves.ended()
    assert time.monotonic() - began > 1.9
    assert (code, len(said)) == (143, 1)
    assert "not all workers could leave in time" in leaves.text()
    await until(lambda: len(ours.workers) == 1)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_closes_at_once(
    second: signal.Signals, ours: HeadScheduler, start: Start
) -> None:
    """Not one that follows at once, which is the first one forwarded; Ctrl-C always."""
    said = heard(ours)
    leaves = await pair(ours, start, "--grace", "600")
    leaves.process.send_signal(signal.SIGTERM)
    await until(lambda: said)
    if second is signal.SIGTERM:
        leaves.process.send_signal(second)
        with pytest.raises(TimeoutError):
            await leaves.ended(1.5)
    leaves.process.send_signal(second)
    assert await leaves.ended(10) == (143, "dask-hpc worker: ended: signal SIGTERM")


async def test_without_a_head_nothing_is_waited_for(
    file: Path, tls: TLSFiles, start: Start
) -> None:
    """A signal that comes as the head has died ends the job as quickly as ever."""
    with scheduler_process(file, tls) as head_process:
        supervisor = start("--name", "job", "--grace", "600")
        await supervisor.settled()
        head_process.send_signal(signal.SIGSTOP)  # so that the worker notices nothing
        head_process.kill()
        supervisor.process.send_signal(signal.SIGTERM)
        head_process.wait()
    assert (await supervisor.ended(10))[0] == 143


async def test_what_tasks_started_hears_signals_as_ever(
    ours: HeadScheduler, client: Client, start: Start
) -> None:
    """Only workers leave them to the supervisor: a program, or a fork, can be terminated."""
    start("--name", "job")
    await joined(ours, 1)
    assert await client.submit(terminate_a_program) == -signal.SIGTERM
    for n in range(20):  # at once, before it can have done anything
        assert await client.submit(terminate_a_fork, n) == -signal.SIGTERM
    assert await client.submit(signal_of_my_own) == "here"


def terminate_a_program() -> int:
    with subprocess.Popen(["sleep", "60"]) as process:
        process.terminate()
        return process.wait(20)


def terminate_a_fork(_n: int) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process._config["daemon"] = True  # a worker is one itself, and may have no others
    multiprocessing.current_process()._config["daemon"] = False
    process.start()
    process.terminate()
    process.join(20)
    return process.exitcode


def signal_of_my_own() -> str:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    return "here"


async def test_a_job_that_comes_back_takes_the_place_of_its_dead_namesakes(
    ours: HeadScheduler, client: Client, start: Start
) -> None:
    """Requeued after its node failed: the old worker is silent, and its name is taken."""
    first = start("--name", "job")
    await joined(ours, 1)
    await first.settled()
    (old,) = ours.workers.values()
    for process in [psutil.Process(first.process.pid), *first.tree()]:
        process.suspend()
    second = start("--name", "job")
    await until(lambda: second.text().count("1 workers joined") == 1, 30)
    (new,) = ours.workers.values()
    assert (new.name, new.pid != old.pid) == ("job", True)
    assert await client.submit(os.getpid) == new.pid


async def test_a_living_namesake_keeps_its_name(ours: HeadScheduler, start: Start) -> None:
    """Two jobs of one name by hand are a mistake that is told, as the engine does."""
    first = start("--name", "job")
    await joined(ours, 1)
    second = start("--name", "job")
    code, line = await second.ended()
    assert (code, "name taken, job" in line) == (70, True)
    assert first.process.poll() is None
    assert len(ours.workers) == 1


def test_a_job_that_the_batch_system_cancels_loses_no_data(account: Account) -> None:
    """Somebody's own cancel, or a preemption: every process of the job is sent SIGTERM."""
    with account.cluster(n_workers=2) as cluster, cluster.get_client() as client:
        cluster.wait_for_workers(2, timeout=30)
        first, *_ = client.scheduler_info(n_workers=-1)["workers"]
        data = client.scatter({"x": list(range(1000))}, workers=[first])["x"]
        job = client.run(parent_of_parent, workers=[first])[first]
        children = psutil.Process(job).children(recursive=True)
        for process in [psutil.Process(job), *children]:
            process.send_signal(signal.SIGTERM)
        wait_until(lambda: not running(psutil.Process(job)) if psutil.pid_exists(job) else True)
        assert data.result(timeout=20) == list(range(1000))


def parent_of_parent() -> int:
    """The supervisor: the fork server is between."""
    return psutil.Process(os.getppid()).ppid()


async def test_who_joins_while_the_others_are_seen_off_is_seen_off_too(
    ours: HeadScheduler, security: Security, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that start as their cluster is closed held its end up for five seconds."""
    options: dict[str, Any] = {"security": security, "nthreads": 1, "dashboard": False}
    asked, close = [], ours.close_worker

    def close_both(address: str) -> None:
        asked.append(address)
        if len(asked) > 1:
            for each in asked:
                close(each)

    monkeypatch.setattr(ours, "close_worker", close_both)
    async with Worker(ours.address, **options) as first:
        seeing_off = asyncio.create_task(ours.see_off())
        await asyncio.wait({seeing_off}, timeout=0.05)
        assert asked == [first.address]
        async with Worker(ours.address, **options) as second:
            began = time.monotonic()
            await seeing_off
            assert asked == [first.address, second.address]
    assert not ours.workers
    assert time.monotonic() - began < DISMISSAL / 2
