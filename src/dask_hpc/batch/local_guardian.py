"""One server at a time, and nothing of its jobs left when it is killed: its lock and its guardian.

No job is started or judged here.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING

from dask_hpc.batch import local_directory as files
from dask_hpc.batch import local_processes as processes
from dask_hpc.errors import BatchSystemError

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds between looks at what was just killed, or at a lock that will soon be free.
AGAIN = 0.02
#: Seconds a new server waits for the one before it, which still ends or is being cleaned up after.
SUCCESSION = 15.0


def become_the_server(directory: Path) -> int:
    """Take the server's lock and write our pid in it.

    Returns
    -------
    int
        A descriptor, which holds the lock as long as it is open.

    Raises
    ------
    BatchSystemError
        If another server runs and does not end.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(directory / files.SERVER_LOCK, flags, 0o600)
    deadline = time.monotonic() + SUCCESSION
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise BatchSystemError(f"another server runs in {directory}") from None
            time.sleep(AGAIN)
            continue
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return descriptor


def start_guardian(directory: Path, mark: str) -> tuple[int, int]:
    """Fork the process that cleans up when the server is killed.

    prctl(2) kills a job's script with the server, not what the script started.  The guardian
    shares the server's lock, so nobody calls the jobs dead before they are.

    Parameters
    ----------
    directory
        The state directory.
    mark
        Value of ``LOCAL_SERVER`` in the environment of the server's jobs.

    Returns
    -------
    tuple
        A descriptor whose closing, by whatever end of the server, sets the guardian to work, and
        its pid.
    """
    waits, lifeline = os.pipe()
    guardian = os.fork()
    if guardian:
        os.close(waits)
        return lifeline, guardian
    try:
        os.close(lifeline)
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.read(waits, 1)  # returns at the server's death
        _clean_up(directory, mark)
    finally:
        os._exit(0)


def _clean_up(directory: Path, mark: str) -> None:
    live = [job for job in files.read_book(directory).jobs.values() if job.live]
    sessions = {job.pid for job in live if job.pid is not None}
    deadline = time.monotonic() + SUCCESSION / 2  # what hangs in the kernel is not waited for
    while processes.kill_all_of(mark, sessions) and time.monotonic() < deadline:
        time.sleep(AGAIN)
