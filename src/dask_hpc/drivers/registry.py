"""Which drivers there are, and which one fits a machine.

Pure: what is installed and set on the machine is handed in (:mod:`dask_hpc.batch.detect` looks).
A driver's module is imported when it is asked for; other packages add theirs under the entry
point group ``dask_hpc.drivers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job_environment import BY_BATCH

if TYPE_CHECKING:
    from dask_hpc.drivers.base import Driver

GROUP = "dask_hpc.drivers"
#: The driver that works everywhere: jobs are processes of this machine.
FALLBACK = "local"

#: Ours, in the order of detection.
_BUILT_IN = {
    "slurm": "dask_hpc.drivers.slurm:Slurm",
    "flux": "dask_hpc.drivers.flux:Flux",
    "pbs": "dask_hpc.drivers.pbs:PBS",
    "torque": "dask_hpc.drivers.torque:Torque",
    "sge": "dask_hpc.drivers.sge:SGE",
    "lsf": "dask_hpc.drivers.lsf:LSF",
    "openlava": "dask_hpc.drivers.openlava:OpenLava",
    "oar": "dask_hpc.drivers.oar:OAR",
    "htcondor": "dask_hpc.drivers.htcondor:HTCondor",
    "drmaa": "dask_hpc.drivers.drmaa:DRMAA",
    "local": "dask_hpc.drivers.local:Local",
}


class Drivers(Mapping[str, "type[Driver]"]):
    """The classes of all drivers by name, each imported when it is first looked up.

    Parameters
    ----------
    plugins
        Entry points of other packages; ours win where names collide.
    """

    def __init__(self, plugins: tuple[EntryPoint, ...] | None = None) -> None:
        self._plugins = plugins
        self._points: dict[str, EntryPoint] | None = None

    def __getitem__(self, name: str) -> type[Driver]:
        loaded: type[Driver] = self._known()[name].load()
        return loaded

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def _known(self) -> dict[str, EntryPoint]:
        if self._points is None:  # read once, late: it scans every installed package
            plugins = entry_points(group=GROUP) if self._plugins is None else self._plugins
            ours = {name: EntryPoint(name, where, GROUP) for name, where in _BUILT_IN.items()}
            self._points = ours | {p.name: p for p in plugins if p.name not in ours}
        return self._points


DRIVERS: Mapping[str, type[Driver]] = Drivers()


@dataclass(frozen=True, slots=True)
class Detection:
    """Which batch system a machine has.

    Parameters
    ----------
    name
        Of its driver.
    why
        What it was told by, in a sentence's words.
    """

    name: str
    why: str


def driver(name: str) -> Driver:
    """Make the driver of a batch system.

    Parameters
    ----------
    name
        For example ``"slurm"``; case does not matter.

    Returns
    -------
    Driver
        Ready to use.

    Raises
    ------
    ConfigurationError
        If there is none of that name.
    """
    wanted = name.strip().lower()
    if wanted not in DRIVERS:
        close = get_close_matches(wanted, DRIVERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"a package may add one ({GROUP})"
        raise ConfigurationError(
            f"no batch system {name!r}; there are: {', '.join(DRIVERS)}", hint=hint
        )
    return DRIVERS[wanted]()


def detect(
    programs_found: Mapping[str, str | None],
    environment: Mapping[str, str],
    drivers: Mapping[str, type[Driver]] = DRIVERS,
    versions: Mapping[str, str] = MappingProxyType({}),
) -> Detection:
    """Tell which batch system a machine has.

    Parameters
    ----------
    programs_found
        Path of each program of each driver, None where the machine has none of that name.
    environment
        The environment: inside a job, its batch system wins over others that are installed.
    drivers
        The candidates, in order of preference.
    versions
        What the version command of a driver prints, by the driver's name: several batch systems
        call their commands ``qsub`` and ``qstat``.

    Returns
    -------
    Detection
        The first batch system all of whose programs are here, else ``"local"``.
    """
    present: dict[str, str] = {}
    partly: list[str] = []
    for name in drivers:
        kind = drivers[name]
        programs = kind.programs if name != FALLBACK else ()
        found = [program for program in programs if programs_found.get(program)]
        if programs and len(found) == len(programs):
            where = f"{found[0]} is {programs_found[found[0]]}"
            if version := recognise(kind, versions.get(name, "")):
                present[name] = f"{where}, version {version}"
            elif not kind.recognised_by:
                present[name] = where
            else:
                partly.append(f"{where}, but its version is not {name}'s")
        elif found:
            missing = ", ".join(program for program in programs if program not in found)
            partly.append(f"{name} lacks {missing}")
    for name, why in present.items():
        if job := _job(name, environment):
            return Detection(name, f"this is job {job} of it, and {why}")
    for name, why in present.items():
        others = [other for other in present if other != name]
        return Detection(name, f"{why}; also here: {', '.join(others)}" if others else why)
    known = ", ".join(name for name in drivers if name != FALLBACK)
    partly += [
        f"but this is {name} job {job}"
        for name in drivers
        if name != FALLBACK and (job := _job(name, environment))
    ]
    why = f"no batch system's programs are on the PATH (looked for {known})"
    return Detection(FALLBACK, "; ".join([why, *partly]))


def recognise(kind: type[Driver], printed: str) -> str:
    """Version of a batch system in what its version command printed; empty if it is another's."""
    first = printed.strip().partition("\n")[0].strip()
    if not kind.recognised_by:
        return first
    match = re.search(kind.recognised_by, printed, re.MULTILINE)
    return (match[1] if match.re.groups else first) if match else ""


def _job(name: str, environment: Mapping[str, str]) -> str:
    """Id of the job of this batch system that we are in; empty outside one."""
    row = BY_BATCH.get(name)
    return environment.get(row.job_id, "") if row else ""
