"""How each batch system moves the end of a job that runs, and tells when that is.

Pure, as drivers are: :mod:`dask_hpc.batch.client` runs the commands.  A reader never raises over
what it does not understand: what is not told is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from dask_hpc.drivers.base import Command, Output

#: Module of each batch system here.  The others have no command for it, or, as OpenLava, none that
#: tells the end of a job.
_MODULES = {
    "slurm": "slurm",
    "pbs": "pbs",
    "torque": "pbs",
    "lsf": "lsf",
    "oar": "oar",
    "flux": "flux",
}


@dataclass(frozen=True, slots=True)
class Run:
    """From when to when a job may run.

    Parameters
    ----------
    start, end
        Seconds since the epoch.
    """

    start: float
    end: float

    @property
    def walltime(self) -> int:
        """Seconds."""
        return round(self.end - self.start)


class Extension(Protocol):
    """What a module here has."""

    #: Who may do it, for those to whom it was refused.
    WHO: str

    def ask(self, job: str) -> Command:
        """Command that tells from when to when this job runs."""
        ...

    def read(self, output: Output, now: float) -> Run | None:
        """What it printed; None where the job does not run or has no end."""
        ...

    def extend(self, job: str, walltime: int) -> Command:
        """Command that gives it a walltime of so many seconds in all: it may be repeated."""
        ...


def extension(batch: str) -> Extension | None:
    """How a batch system does it; None where it has no command for it.

    Parameters
    ----------
    batch
        Name of its driver.
    """
    name = _MODULES.get(batch)
    return cast("Extension", import_module(f"{__name__}.{name}")) if name else None


def run(start: float | None, end: float | None) -> Run | None:
    """From when to when, where both are known."""
    return None if start is None or end is None else Run(start, end)


def clock(seconds: int) -> str:
    """Write a walltime as ``H:MM:SS``, which all of them read; not all know days."""
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
