"""Jobs that outlive their head: real supervisors, and one scheduler after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from distributed import Client, Scheduler, Security

from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import head
from dask_hpc.node.options import WorkerOptions
from tests.integration.supervised import Supervisor, joined, running, scheduler_process, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}


async def test_workers_join_the_next_head_under_their_old_names(
    file: Path, tls: TLSFiles, security: Security, start: Callable[..., Supervisor]
) -> None:
    """The job outlives its head: killed, and another one at another address in the same file."""
    with scheduler_process(file, tls) as head_process:
        supervisor = start("--name", "job", "--nworkers", "2", "--await-head", "60")
        await supervisor.settled()
        old = supervisor.server().children()
        head_process.kill()
        head_process.wait()
    await until(lambda: "waiting 60 s for another one" in supervisor.text())
    await until(lambda: not [child for child in old if running(child)])
    late = start("--name", "late", "--await-head", "60", "--death-timeout", "1")
    async with Scheduler(security=security, host="127.0.0.1", port=0, **PLAIN) as scheduler:
        rendezvous.write(file, scheduler.identity(), cluster="c", owner="o", tls=tls)
        await joined(scheduler, 3)
        names = sorted(str(worker.name) for worker in scheduler.workers.values())
        assert names == ["job-0", "job-1", "late"]
        async with Client(scheduler.address, security=security, asynchronous=True) as client:
            assert await client.submit(sum, [1, 2]) == 3
        await scheduler.retire_workers(list(scheduler.workers), close_workers=True, remove=True)
        for each in (supervisor, late):
            assert await each.ended() == (0, "dask-hpc worker: ended: closed by the cluster")


async def test_a_job_that_awaits_a_head_ends_when_the_cluster_has(
    file: Path, tls: TLSFiles, start: Callable[..., Supervisor]
) -> None:
    """Who closes a cluster removes its scheduler file."""
    with scheduler_process(file, tls) as head_process:
        supervisor = start("--name", "job", "--await-head", "60")
        await supervisor.settled()
        head_process.kill()
        head_process.wait()
    await until(lambda: "for another one" in supervisor.text())
    file.unlink()
    code, line = await supervisor.ended(10)
    assert (code, "the head is gone" in line) == (0, True)


async def test_a_head_that_was_cut_off_is_found_again(
    scheduler: Scheduler, file: Path, security: Security, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that the file has named all along, and it answers: the network is back."""
    monkeypatch.setattr(head, "PAUSE", 0.05)
    wanted = WorkerOptions(scheduler_file=file, await_head=20)
    named = rendezvous.read(file)
    found = await head.another(wanted, head.Head(named.address, security, named=named))
    assert found == named


@pytest.mark.parametrize(("seconds", "signalled"), [("1", False), ("60", True)])
async def test_a_job_awaits_a_head_no_longer_than_told(
    seconds: str,
    signalled: bool,
    file: Path,
    tls: TLSFiles,
    start: Callable[..., Supervisor],
) -> None:
    """Its time is over, or the batch system's signal ends it."""
    with scheduler_process(file, tls) as head_process:
        supervisor = start("--name", "job", "--await-head", seconds)
        await supervisor.settled()
        head_process.kill()
        head_process.wait()
    await until(lambda: "for another one" in supervisor.text())
    if signalled:
        supervisor.process.terminate()
    code, line = await supervisor.ended(10)
    assert code == (143 if signalled else 0)
    assert ("SIGTERM" if signalled else "the head is gone") in line
