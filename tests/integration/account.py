"""A user's account in a temporary directory, and clusters on its ``local`` batch system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dask_hpc import LocalJobCluster
from tests.helpers import wait_until

#: What every script of these tests starts with.
START = """
import sys
from dask_hpc import LocalJobCluster
options = dict(cores=1, memory="500 MiB", dashboard_port=0, name="script")
"""


#: In the home of dask-hpc, whatever clusters there were.
KEPT = ("tls", "local", "history.jsonl")


@dataclass(frozen=True)
class Account:
    """A home directory with nothing in it, and the processes that know of it."""

    path: Path

    @property
    def home(self) -> Path:
        """``$DASK_HPC_HOME``."""
        return self.path / "hpc"

    def cluster(self, name: str = "test", **options: Any) -> LocalJobCluster:
        """Start one; one core and one worker per job unless told otherwise."""
        options = {"cores": 1, "memory": "500 MiB", "dashboard_port": 0, **options}
        return LocalJobCluster(name=name, **options)

    def processes(self) -> list[psutil.Process]:
        """Others that have this account in their command line or their environment."""
        # Python's own helper process of a user of shared memory stays as long as that user.
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid()
            and str(self.path).encode() in _words(process)
            and b"resource_tracker" not in _words(process)
        ]

    def jobs(self) -> list[psutil.Process]:
        """Node supervisors, without what they forked."""
        workers = [process for process in self.processes() if _is_node(process)]
        pids = {process.pid for process in workers}
        return [process for process in workers if _parent(process) not in pids]

    def left(self) -> list[str]:
        """Files below the home, but the identity, what the batch system keeps, and the accounts."""
        names = (p.relative_to(self.home) for p in self.home.rglob("*"))
        return sorted(str(n) for n in names if n.parts[0] not in KEPT)

    def wait_until_nothing_is_left(self, timeout: float = 20.0) -> None:
        """No process and no file."""
        wait_until(lambda: not self.processes(), timeout)
        assert self.left() == []

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a script of this account, in a session of its own."""
        script = self.path / "script.py"
        script.write_text(START + code)
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, code: str, *arguments: str) -> tuple[int, str, str]:
        """Run a script to its end: exit code, output, errors."""
        process = self.start(code, *arguments)
        out, err = process.communicate(timeout=50)
        return process.returncode, out, err

    def kill_everything(self) -> None:
        """Whatever a failed test left."""
        for process in self.processes():
            kill(process.pid)


def kill(pid: int) -> None:
    """End a process at once, if there is one."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_node(process: psutil.Process) -> bool:
    return b"\0worker\0--scheduler-file\0" in _words(process)


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0


def _words(process: psutil.Process) -> bytes:
    folder = Path("/proc") / str(process.pid)
    try:
        return (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    except OSError:
        return b""
