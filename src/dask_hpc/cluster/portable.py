"""One script's keywords in many places: what of them holds where it runs now.

Pure: keywords and the machine's size go in, keywords come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.peer import ALIASES, MEANINGLESS_ON
from dask_hpc.drivers.registry import DRIVERS
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.layout import layout_for

#: What is said of submitting alone.
_OF_SUBMITTING = ("site", "batch", "config_name")


def for_batch(keywords: Mapping[str, Any], batch: str, *, submits: bool) -> dict[str, Any]:
    """Leave out what other batch systems alone know; on a laptop nobody asks for a queue.

    Parameters
    ----------
    keywords
        Of :class:`dask_hpc.HPCCluster`.
    batch
        Name of the batch system.
    submits
        Whether jobs are asked of the machine's own.
    """
    mine = DRIVERS[batch].OPTIONS
    words = {*ClusterOptions.__dataclass_fields__, *ALIASES, *mine}
    others = {option for name in DRIVERS for option in _options(name)} - words
    senseless = MEANINGLESS_ON.get(batch, {}).keys() - mine.keys()
    left_out = others | senseless | (set() if submits else set(_OF_SUBMITTING))
    return {name: value for name, value in keywords.items() if name not in left_out}


def _options(batch: str) -> Mapping[str, str]:
    try:
        return DRIVERS[batch].OPTIONS
    except ImportError:  # of another package, which does not load here
        return {}


def size(*, jobs: int | None, workers: int | None) -> dict[str, int]:
    """What to scale to, in the words of ``scale``; one job if nothing is said.

    Raises
    ------
    ConfigurationError
        If both numbers are given.
    """
    if jobs is not None and workers is not None:
        raise ConfigurationError("jobs= and workers= both say how many", hint="give one of them")
    if workers is None:
        return {"jobs": 1 if jobs is None else jobs}
    return {"n": workers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one machine has.

    Parameters
    ----------
    cores, slots
        Cores, and how many of them the local batch system hands out.
    memory
        Bytes.
    """

    cores: int
    slots: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A request that a machine can fulfil: what each job asks for, and how many there are."""

    cores: int
    processes: int | None
    memory: int | None
    jobs: int
    cut: bool

    @property
    def keywords(self) -> dict[str, Any]:
        """As :class:`dask_hpc.HPCCluster` takes them."""
        return {
            "cores": self.cores,
            "processes": self.processes,
            "memory": self.memory,
            "nodes": 1,
        }


def fit(options: ClusterOptions, jobs: int, machine: Machine) -> Fitted:
    """Cut a request down to one machine: jobs that are larger than it would wait for ever.

    Workers keep their threads, as far as there are cores: whether a worker has one thread or many
    is a property of the program.

    Parameters
    ----------
    options
        Of the cluster as it was asked for.
    jobs
        How many.
    machine
        To fit on.
    """
    cores = min(options.cores, machine.cores, machine.slots)
    jobs = min(jobs, max(1, machine.slots // cores))
    processes = options.processes
    if processes is not None:
        processes = max(1, cores // threads(options.cores, processes, most=cores))
    memory = options.memory
    if memory is not None:
        memory = min(memory, machine.memory // max(jobs, 1))
    cut = (cores, memory, options.nodes) != (options.cores, options.memory, 1)
    return Fitted(cores=cores, processes=processes, memory=memory, jobs=jobs, cut=cut)


def threads(cores: int, processes: int, *, most: int) -> int:
    """Threads of each of so many workers, of which a place with few cores has less."""
    return max(1, min(cores // processes, most))


def workers_on(cores: int, options: ClusterOptions) -> int:
    """Workers for a node of an allocation: of as many threads as asked for, in all its cores."""
    if options.processes is None:
        return layout_for(cores).workers
    return max(1, cores // threads(options.cores, options.processes, most=cores))
