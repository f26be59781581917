"""A scheduler and workers by hand, as people start them, in a test's account."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dask_hpc.launch import rendezvous
from dask_hpc.launch.rendezvous import Rendezvous
from tests.helpers import wait_until

SCHEDULER = (sys.executable, "-m", "dask_hpc", "scheduler", "--no-dashboard", "--host", "127.0.0.1")
WORKER = (sys.executable, "-m", "dask_hpc", "worker")


@contextmanager
def running(*command: str | Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the block ends."""
    process = subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def there(file: Path) -> Rendezvous:
    """Wait for a scheduler file."""
    wait_until(file.exists)
    return rendezvous.read(file)


def started(worker: subprocess.Popen[str]) -> None:
    """Wait until a worker says that it has joined: the scheduler knows of it a moment earlier."""
    assert worker.stderr is not None
    assert any("workers joined" in line for line in worker.stderr)


@contextmanager
def cluster(file: Path, workers: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
    """Run a scheduler and some workers: the processes, the scheduler's first."""
    with ExitStack() as stack:
        processes = [stack.enter_context(running(*SCHEDULER, "--scheduler-file", file))]
        there(file)
        command = (*WORKER, "--scheduler-file", file, "--nthreads", "1", "--memory-limit", "0")
        processes += [stack.enter_context(running(*command)) for _ in range(workers)]
        yield processes
