"""Which commands tell the queues of a batch system and their limits, and how they are read.

Pure, as drivers are: :mod:`dask_hpc.site.discover` runs the commands.  A reader never raises over
what it does not understand: what is not told is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from dask_hpc.drivers.base import Command, Output
from dask_hpc.model.queue import Queue

#: Module of each batch system here; drmaa and local have no queues that anybody could ask for.
_MODULES = {
    "slurm": "slurm",
    "pbs": "pbs",
    "torque": "torque",
    "sge": "sge",
    "lsf": "lsf",
    "openlava": "lsf",
    "oar": "oar",
    "htcondor": "htcondor",
    "flux": "flux",
}


class Reader(Protocol):
    """What a module here has."""

    #: Commands that only read, few whatever the number of queues.
    COMMANDS: tuple[Command, ...]

    def read(self, outputs: Sequence[Output]) -> list[Queue]:
        """Queues in what the commands printed; those that failed are not among the outputs."""
        ...


def reader(batch: str) -> Reader | None:
    """The reader of a batch system; None where there is nothing to ask.

    Parameters
    ----------
    batch
        Name of its driver.
    """
    name = _MODULES.get(batch)
    return cast("Reader", import_module(f"{__name__}.{name}")) if name else None
