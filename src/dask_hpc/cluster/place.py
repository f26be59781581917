"""Where a script runs, and so where its workers come from: the decision behind ``connect``.

Pure: what is seen of the place is handed in, a place and the reason come out.  What is then done
there is the business of :mod:`.connection`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dask_hpc.errors import ConfigurationError
from dask_hpc.launch.rank import Rank
from dask_hpc.model.job_environment import JobVariables, job_of


class Place(StrEnum):
    """Where workers come from, in the order in which ``connect`` looks.

    The first three were arranged by somebody for this very script, so they go before what the
    machine merely has.  A launch goes before a file that is named for good: each of its ranks runs
    the script, and only their roles keep the work from being done once per rank.  A file that is
    named goes before the job that the script is in: it was named on purpose.  A job goes before
    new jobs: its nodes are there, and paid for.
    """

    MPI = "mpi"
    SCHEDULER_FILE = "scheduler-file"
    ALLOCATION = "allocation"
    BATCH = "batch"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Named:
    """A scheduler that runs already, as somebody named it.

    Parameters
    ----------
    by
        Who, in a sentence's words.
    file, address
        Its scheduler file, or else its address.
    argument
        Whether the call itself names it: that goes before everything.
    """

    by: str
    file: Path | None = None
    address: str = ""
    argument: bool = False

    def __str__(self) -> str:
        return f"{self.by} names {self.file or self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The nodes of the job that this process is in.

    Parameters
    ----------
    batch, job
        Name of the batch system's driver, and the job's id.
    nodes
        How many.
    cores
        Of each node, the smallest counts; None if the batch system does not tell.
    inside
        Whether this process runs on one of them: ``salloc`` may leave it on the login node.
    listed
        Lines of the list of nodes, of which a launcher may start one process each.
    """

    batch: str
    job: str
    nodes: int = 1
    cores: int | None = None
    inside: bool = True
    listed: int = 1

    def __str__(self) -> str:
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return f"{self.batch} job {self.job} with {nodes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is seen of the place.

    Parameters
    ----------
    where
        What the call demands.
    launch
        What a launcher says of this process, if one started it.
    launched
        Whether this process is the client of a launch already.
    named
        A scheduler that runs, if one is named.
    allocation
        The job that we are in.
    batch, why
        The batch system to submit to, ``"local"`` without one, and what it was told by.
    """

    where: Place | None = None
    launch: Rank | None = None
    launched: bool = False
    named: Named | None = None
    allocation: Allocation | None = None
    batch: str = Place.LOCAL
    why: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place, and why it was chosen."""

    place: Place
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


def parse(where: str | None) -> Place | None:
    """Read ``where=``.

    Raises
    ------
    ConfigurationError
        If there is no such place.
    """
    try:
        return None if where is None else Place(where)
    except ValueError:
        raise ConfigurationError(
            f"where={where!r} is no place", hint=f"there are: {', '.join(Place)}"
        ) from None


def decide(facts: Facts) -> Choice:
    """Choose the place.

    Parameters
    ----------
    facts
        What is seen.

    Returns
    -------
    Choice
        The place that is demanded, or the first one that is there.

    Raises
    ------
    ConfigurationError
        If the place that is demanded is not there, or two are.
    """
    if facts.named is not None and facts.named.argument:
        if facts.where not in (None, Place.SCHEDULER_FILE):
            raise ConfigurationError(
                f"scheduler_file= and where={str(facts.where)!r} are two places",
                hint="give one of them",
            )
        return Choice(Place.SCHEDULER_FILE, str(facts.named))
    if facts.where is not None:
        return _demanded(facts.where, facts)
    return next(Choice(place, why) for place in Place if (why := _seen(place, facts)))


def _seen(place: Place, facts: Facts) -> str:
    """Why the script could be in a place; empty if it is not there."""
    if place is Place.MPI:
        return _launch(facts)
    if place is Place.SCHEDULER_FILE:
        return "" if facts.named is None else str(facts.named)
    if place is Place.ALLOCATION:
        return "" if facts.allocation is None else f"this is {facts.allocation}"
    if place is Place.BATCH:
        return "" if facts.batch == Place.LOCAL else f"{facts.batch}: {facts.why}"
    return facts.why or "there is no batch system here"


def _launch(facts: Facts) -> str:
    told = facts.launch
    if facts.launched:
        return "this is the client of an MPI launch"
    if told is None or told.size == 1:
        return ""
    return f"{told.launcher} started {f'{told.size} ranks' if told.size else 'ranks'}"


_MISSING: Mapping[Place, tuple[str, str]] = {
    Place.SCHEDULER_FILE: (
        "no scheduler file is named",
        "scheduler_file=, DASK_HPC_SCHEDULER_FILE, or dask-hpc.scheduler-file in the configuration",
    ),
    Place.ALLOCATION: (
        "this is no job of a batch system: none of their variables are set",
        "run the script in a job (sbatch, qsub, salloc ...), or leave where= out",
    ),
    Place.BATCH: (
        "there is no batch system here",
        "`dask-hpc batch` tells what was looked for; batch= names one",
    ),
}


def _demanded(place: Place, facts: Facts) -> Choice:
    if place in _MISSING and not _seen(place, facts):
        what, hint = _MISSING[place]
        detail = f" ({facts.why})" if place is Place.BATCH and facts.why else ""
        raise ConfigurationError(f"where={str(place)!r}: {what}{detail}", hint=hint)
    seen = _seen(place, facts) if place in _MISSING else _launch(facts) * (place is Place.MPI)
    said = f"where={str(place)!r} says so"  # of a launch that nobody sees, MPI itself will tell
    return Choice(place, f"{said}; {seen}" if seen else said)


# -- the nodes of a job ---------------------------------------------------------------------------


def allocation_of(
    environ: Mapping[str, str], read: Callable[[str], str] = lambda _: ""
) -> Allocation | None:
    """Read what a batch system tells its jobs of their nodes.

    Parameters
    ----------
    environ
        Of this process.
    read
        Returns the text of a file, empty where there is none.

    Returns
    -------
    Allocation or None
        None outside of jobs.
    """
    row = job_of(environ)
    if row is None:
        return None
    hosts = _hosts(row, environ, read)
    counted = environ.get(row.nodes, "") if row.nodes else ""
    return Allocation(
        batch=row.batch,
        job=environ[row.job_id].rpartition("/")[2],
        nodes=int(counted) if counted.isdecimal() else len(hosts) or 1,
        cores=_cores(row, environ, hosts),
        # slurmd sets it in all that it starts: batch scripts and steps.
        inside=row.batch != "slurm" or bool(environ.get("SLURMD_NODENAME")),
        listed=sum(hosts.values()) or 1,
    )


def _hosts(
    row: JobVariables, environ: Mapping[str, str], read: Callable[[str], str]
) -> Counter[str]:
    """How often each host is in the list of the nodes; Grid Engine's has the slots beside it."""
    hosts: Counter[str] = Counter()
    path = environ.get(row.node_file, "") if row.node_file else ""
    for line in read(path).splitlines() if path else ():
        words = line.split()
        if words:
            slots = words[1] if row.batch == "sge" and len(words) > 1 else "1"
            hosts[words[0]] += int(slots) if slots.isdecimal() else 1
    return hosts


#: Of these the list of nodes has a line for each core (and Grid Engine's its number).
_LINE_PER_CORE = ("torque", "lsf", "openlava", "oar", "sge")


def _cores(row: JobVariables, environ: Mapping[str, str], hosts: Counter[str]) -> int | None:
    if row.batch == "slurm":  # not SLURM_CPUS_PER_TASK: all tasks of the node are ours
        told = environ.get("SLURM_JOB_CPUS_PER_NODE") or environ.get("SLURM_CPUS_ON_NODE", "")
        numbers = re.findall(r"(?:^|,)(\d+)", told)  # 16(x2),8
        return min(map(int, numbers), default=None)
    if row.batch in _LINE_PER_CORE and hosts:
        return min(hosts.values())
    names = (name for name in row.cores if environ.get(name, "").isdecimal())
    return next((int(environ[name]) for name in names), None)
