"""How each batch system is asked when jobs of a shape would start, and how its answers are read.

Pure, as drivers are: :mod:`dask_hpc.site.foresee` runs the commands, none of which submits.  A
reader never raises over what it does not understand: what is not told is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Protocol, cast

from dask_hpc.drivers.base import Command, Driver, Output
from dask_hpc.drivers.script import all_directives
from dask_hpc.model.forecast import Forecast
from dask_hpc.model.job import JobSpec

#: Module of each batch system here; drmaa has no call that tells.
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
    "local": "local",
}


@dataclass(frozen=True, slots=True)
class Question:
    """So many jobs of one shape: the question is when they would start if submitted now.

    Parameters
    ----------
    driver
        Of the batch system.
    spec
        Of a job.
    jobs
        At least one.
    """

    driver: Driver
    spec: JobSpec
    jobs: int

    def directives(self, *without: str) -> list[str]:
        """Directives of a job, without generated ones that have nothing to do with its start."""
        spec = replace(self.spec, directives_skip=(*self.spec.directives_skip, *without))
        return all_directives(spec, self.driver)


class Forecaster(Protocol):
    """What a module here has."""

    def ask(self, question: Question, heard: Sequence[Output], now: float) -> Command | None:
        """The next command to run, after those whose outputs were heard; None when it is enough.

        The same command for several questions is run once; ``now`` is in seconds since the epoch.
        """
        ...

    def read(self, question: Question, heard: Sequence[Output], now: float) -> Forecast:
        """What the outputs of the commands tell."""
        ...


def forecaster(batch: str) -> Forecaster | None:
    """The forecaster of a batch system; None where there is nothing to ask.

    Parameters
    ----------
    batch
        Name of its driver.
    """
    name = _MODULES.get(batch)
    return cast("Forecaster", import_module(f"{__name__}.{name}")) if name else None
