"""A supervisor in a process of its own, and how tests look at it; its fixtures are in conftest."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from distributed import Scheduler

from dask_hpc.model.tls import TLSFiles

SCHEDULER = """
import asyncio, sys
from pathlib import Path
from distributed import Scheduler
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import head
async def main(file, *tls):
    tls = TLSFiles(*tls)
    security = head.security_for(tls, insecure=False)
    options = dict(dashboard=False, dashboard_address="127.0.0.1:0", host="127.0.0.1", port=0)
    async with Scheduler(security=security, **options) as scheduler:
        rendezvous.write(Path(file), scheduler.identity(), cluster="c", owner="o", tls=tls)
        await scheduler.finished()
asyncio.run(main(*sys.argv[1:]))
"""


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition; the machine may be busy."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


@dataclass
class Supervisor:
    """A supervisor in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    descendants: dict[int, psutil.Process] = field(default_factory=dict)

    def tree(self) -> list[psutil.Process]:
        """Its descendants, and those it ever had that still run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.descendants[child.pid] = child
        return [child for child in self.descendants.values() if running(child)]

    def server(self) -> psutil.Process:
        """The fork server: the child that has worker processes."""
        return next(p for p in psutil.Process(self.process.pid).children() if p.children())

    async def ended(self, seconds: float = 20) -> tuple[int, str]:
        """Exit code and last line, in time."""
        await until(lambda: self.process.poll() is not None, seconds)
        return self.process.returncode, self.text().splitlines()[-1]

    async def settled(self) -> None:
        """All workers run, and their nannies know."""
        await until(lambda: "joined" in self.text())

    def text(self) -> str:
        return self.log.read_text()


def running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def scheduler_process(file: Path, tls: TLSFiles) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCHEDULER, str(file), tls.ca_file, tls.cert, tls.key]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


async def joined(scheduler: Scheduler, count: int) -> None:
    def all_running() -> bool:
        states = [worker.status.name for worker in scheduler.workers.values()]
        return states == ["running"] * count

    await until(all_running, 30)
