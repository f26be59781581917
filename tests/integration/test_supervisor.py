"""A real supervisor, its workers and a real scheduler with TLS, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from distributed import Client, Scheduler, Security

from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import spawn
from tests.integration.supervised import Supervisor, joined, running, scheduler_process, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_workers_join_with_their_names_threads_and_memory(
    scheduler: Scheduler, security: Security, start: Callable[..., Supervisor]
) -> None:
    """Four workers: equal string hashes, different random numbers, one imported engine."""
    supervisor = start(
        *("--name", "job", "--nworkers", "4", "--nthreads", "1", "--memory-limit", "256 MiB")
    )
    await joined(scheduler, 4)
    workers = scheduler.workers.values()
    assert sorted(worker.name for worker in workers) == ["job-0", "job-1", "job-2", "job-3"]
    assert {worker.nthreads for worker in workers} == {1}
    assert {worker.memory_limit for worker in workers} == {256 << 20}
    assert all(worker.nanny for worker in workers)
    assert {str(worker.address)[:6] for worker in workers} == {"tls://"}
    assert {len(worker.services) for worker in workers} == {0}
    async with Client(scheduler.address, security=security, asynchronous=True) as client:
        assert len(set((await client.run(hash_of_a_string)).values())) == 1
        assert len(set((await client.run(global_random_numbers)).values())) == 4
        assert set((await client.run(open_file_limit)).values()) == {hard_limit()}
        assert await client.submit(sum, [1, 2]) == 3
    check_one_engine(supervisor)


def hash_of_a_string() -> int:
    return hash("x")


def global_random_numbers() -> tuple[float, float]:
    import random

    import numpy as np

    return random.random(), float(np.random.random())


def open_file_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def hard_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def check_one_engine(supervisor: Supervisor) -> None:
    """The fork server is a fork: its command line is the supervisor's own, as are workers'."""
    command = psutil.Process(supervisor.process.pid).cmdline()
    server = supervisor.server()
    assert server.cmdline() == command
    assert [worker.cmdline() for worker in server.children()] == [command] * 4


async def test_nothing_listens_but_tls(
    scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """One socket per worker and nanny; who speaks plain HTTP or TCP gets no answer."""
    supervisor = start("--name", "job", "--nworkers", "2")
    await joined(scheduler, 2)
    expected = {worker.address for worker in scheduler.workers.values()}
    expected |= {worker.nanny for worker in scheduler.workers.values()}
    listening = [
        connection.laddr
        for process in [psutil.Process(supervisor.process.pid), *supervisor.tree()]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {f"tls://{ip}:{port}" for ip, port in listening} == expected
    for address in listening:
        assert b"HTTP" not in await asyncio.to_thread(ask_in_plain_text, address)
    private = supervisor.server().net_connections("unix")
    assert not [c.laddr for c in private if str(c.laddr).startswith("@")]
    assert not list((supervisor.log.parent / "scratch").glob("dask-hpc-*"))


def ask_in_plain_text(address: Any) -> bytes:
    with socket.create_connection(tuple(address), timeout=5) as plain:
        plain.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            return plain.recv(4096)
    return b""


async def test_restart_and_a_killed_worker_come_back(
    scheduler: Scheduler, security: Security, start: Callable[..., Supervisor]
) -> None:
    """Nannies are the engine's, so `Client.restart` works and kill -9 costs one process."""
    supervisor = start("--name", "job", "--nworkers", "2", "--memory-limit", "0")
    await joined(scheduler, 2)
    await supervisor.settled()
    before = {worker.pid for worker in scheduler.workers.values()}
    async with Client(scheduler.address, security=security, asynchronous=True) as client:
        await client.restart()
        await joined(scheduler, 2)
        after = {worker.pid for worker in scheduler.workers.values()}
        assert not after & before
        victim = min(after)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in {w.pid for w in scheduler.workers.values()})
        await joined(scheduler, 2)
    assert sorted(worker.name for worker in scheduler.workers.values()) == ["job-0", "job-1"]


async def test_a_worker_class_of_the_users_has_no_http_server_either(
    scheduler: Scheduler, start: Callable[..., Supervisor], tmp_path: Path
) -> None:
    """And keeps its own name and behaviour."""
    (tmp_path / "users.py").write_text(
        "from distributed import Worker\nclass Mine(Worker):\n    pass\n"
    )
    start("--worker-class", "users.Mine", "--name", "w", PYTHONPATH=str(tmp_path))
    await joined(scheduler, 1)
    (worker,) = scheduler.workers.values()
    assert (worker.name, dict(worker.services)) == ("w", {})
    assert "mine-" in worker.local_directory


async def test_it_ends_when_the_cluster_closes_its_workers(
    scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """Scaling down frees the node at once, and leaves nothing in scratch."""
    supervisor = start("--name", "job", "--nworkers", "2")
    await joined(scheduler, 2)
    addresses = list(scheduler.workers)
    began = time.monotonic()
    await scheduler.retire_workers(addresses, close_workers=True, remove=True)
    assert await supervisor.ended() == (0, "dask-hpc worker: ended: closed by the cluster")
    assert time.monotonic() - began < 10
    left = (supervisor.log.parent / "scratch").rglob("*worker-*")
    assert [path.name for path in left if path.is_dir()] == []


async def test_it_ends_soon_after_its_head_was_killed(
    file: Path, tls: TLSFiles, start: Callable[..., Supervisor]
) -> None:
    """Nobody would use the cores any more."""
    with scheduler_process(file, tls) as head_process:
        supervisor = start("--name", "job", "--nworkers", "2")
        await supervisor.settled()
        children = supervisor.tree()
        head_process.kill()
        head_process.wait()
    code, line = await supervisor.ended(10)
    assert code == 0
    assert line.startswith("dask-hpc worker: ended: the head is gone")
    await until(lambda: not [child for child in children if running(child)])


async def test_a_worker_killed_when_the_head_is_gone_does_not_keep_the_job(
    file: Path, tls: TLSFiles, start: Callable[..., Supervisor]
) -> None:
    """Its nanny would try to start it again until the walltime."""
    with scheduler_process(file, tls) as head_process:
        supervisor = start("--name", "job", "--death-timeout", "50")
        await supervisor.settled()
        (worker,) = supervisor.server().children()
        head_process.send_signal(signal.SIGSTOP)  # so that the worker notices nothing
        worker.kill()
        head_process.kill()
        head_process.wait()
    code, line = await supervisor.ended(30)
    assert (code, "the head is gone" in line) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_the_workers(
    number: signal.Signals, scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """The scheduler is told, and the exit code is the shell's."""
    supervisor = start("--name", "job", "--nworkers", "2")
    await joined(scheduler, 2)
    children = supervisor.tree()
    supervisor.process.send_signal(number)
    code, line = await supervisor.ended()
    assert (code, line) == (128 + number, f"dask-hpc worker: ended: signal {number.name}")
    await until(lambda: not scheduler.workers)
    await until(lambda: not [child for child in children if running(child)])


async def test_a_signal_to_every_process_of_the_job_closes_it_too(
    scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """Batch systems signal all processes: the fork server must not take the workers along."""
    supervisor = start("--name", "job", "--nworkers", "2")
    await joined(scheduler, 2)
    for process in [psutil.Process(supervisor.process.pid), *supervisor.tree()]:
        process.send_signal(signal.SIGTERM)
    code, line = await supervisor.ended()
    assert (code, line) == (143, "dask-hpc worker: ended: signal SIGTERM")


async def test_a_killed_supervisor_leaves_no_process(
    scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """Orphans would use a node that is no longer ours."""
    supervisor = start("--name", "job", "--nworkers", "2")
    await joined(scheduler, 2)
    assert len(supervisor.tree()) >= 3
    supervisor.process.kill()
    supervisor.process.wait()
    await until(lambda: not supervisor.tree(), 5)


async def test_a_killed_fork_server_is_replaced(
    scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """The standard library starts another, and nannies start their workers from that."""
    supervisor = start("--name", "job", "--nworkers", "2", "--memory-limit", "0")
    await joined(scheduler, 2)
    before = {worker.pid for worker in scheduler.workers.values()}
    await supervisor.settled()
    supervisor.tree()
    supervisor.server().kill()
    await until(lambda: not before & {worker.pid for worker in scheduler.workers.values()})
    await joined(scheduler, 2)


async def test_a_stale_scheduler_file_is_called_stale(
    file: Path, tls: TLSFiles, start: Callable[..., Supervisor]
) -> None:
    """With its address, its writer and when."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tls://127.0.0.1:{free.getsockname()[1]}"
    rendezvous.write(file, {"address": address}, cluster="c", owner="o", tls=tls)
    supervisor = start("--death-timeout", "4")
    code, line = await supervisor.ended()
    assert code == 75
    assert line.startswith(f"dask-hpc worker: ended: cannot reach the head: {address}, named in")
    assert f"by process {os.getpid()} on {socket.gethostname()} (stale:" in line


async def test_no_scheduler_file_in_time_ends_the_job(start: Callable[..., Supervisor]) -> None:
    """The cores go back to the batch system."""
    supervisor = start("--death-timeout", "0.5")
    code, line = await supervisor.ended()
    assert code == 75
    assert "there is no scheduler file" in line


async def test_a_signal_while_waiting_for_the_head_ends_with_its_last_line(
    start: Callable[..., Supervisor],
) -> None:
    """A job that is cancelled before it began says so as well."""
    supervisor = start("--death-timeout", "60")
    await until(lambda: psutil.Process(supervisor.process.pid).children())
    supervisor.process.terminate()
    assert await supervisor.ended() == (143, "dask-hpc worker: ended: signal SIGTERM")


async def test_a_cluster_without_tls_is_refused_unless_told(
    file: Path, start: Callable[..., Supervisor]
) -> None:
    """Whoever reaches such a cluster runs code as its owner."""
    rendezvous.write(file, {"address": "tcp://127.0.0.1:1"}, cluster="c", owner="o", tls=None)
    code, line = await start().ended()
    assert code == 78
    assert "has no TLS" in line


async def test_a_worker_that_fails_to_start_is_named_in_the_last_line(
    scheduler: Scheduler, start: Callable[..., Supervisor], tmp_path: Path
) -> None:
    """The whole job ends: half a job would hide the fault."""
    (tmp_path / "broken.py").write_text(
        "from distributed import Worker\n"
        "class Broken(Worker):\n"
        "    def __init__(self, *a, **k):\n"
        "        raise RuntimeError('no GPU here')\n"
    )
    supervisor = start("--worker-class", "broken.Broken", PYTHONPATH=str(tmp_path))
    code, line = await supervisor.ended()
    assert (code, line) == (70, "dask-hpc worker: ended: a worker failed to start: no GPU here")


async def test_a_module_that_cannot_be_imported_is_a_bad_option(
    scheduler: Scheduler, start: Callable[..., Supervisor]
) -> None:
    """Found before any worker is started."""
    code, line = await start("--fork-preload", "no_such_module").ended()
    assert code == 78
    assert "cannot import no_such_module" in line


def test_the_standard_librarys_fork_server_is_built_as_we_know_it() -> None:
    """If this fails, this Python needs another look at `node/spawn.py`; until then it is slow."""
    assert spawn.supported()


async def test_without_the_warm_fork_workers_still_start(
    scheduler: Scheduler, security: Security, start: Callable[..., Supervisor]
) -> None:
    """The public way: slower, and the same in all that users see."""
    code = (
        "from dask_hpc.node import spawn; spawn.supported = lambda: False\n"
        "from dask_hpc.cli.entry import main; main()"
    )
    supervisor = start("--name", "job", "--nworkers", "2", code=code)
    await joined(scheduler, 2)
    async with Client(scheduler.address, security=security, asynchronous=True) as client:
        assert len(set((await client.run(hash_of_a_string)).values())) == 1
        assert len(set((await client.run(global_random_numbers)).values())) == 2
    children = supervisor.tree()
    supervisor.process.terminate()
    assert (await supervisor.ended())[0] == 143
    await until(lambda: not [child for child in children if running(child)])


async def test_the_environment_is_fixed_before_the_engine_is_imported(
    scheduler: Scheduler, security: Security, start: Callable[..., Supervisor]
) -> None:
    """By hand, nobody exports a hash seed: the process starts itself again, once."""
    start("--name", "w", PYTHONHASHSEED="random", OMP_NUM_THREADS="3")
    await joined(scheduler, 1)
    async with Client(scheduler.address, security=security, asynchronous=True) as client:
        (seen,) = (await client.run(lambda: dict(os.environ))).values()
    assert (seen["PYTHONHASHSEED"], seen["OMP_NUM_THREADS"]) == ("6640", "3")
