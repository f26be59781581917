"""How many workers a job runs, with how many threads and how much memory each."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from dask_hpc.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Layout:
    """The workers of one node of a job.

    Parameters
    ----------
    workers
        Workers (processes).
    threads
        Threads per worker.
    memory
        Bytes of the job per worker, or None where nothing bounds it.  On its node, a worker gets a
        little less: some are left to what runs beside it (:func:`dask_hpc.node.limits.headroom`).
    rest
        Bytes of the job that do not divide among the workers.
    """

    workers: int
    threads: int
    memory: int | None
    rest: int = 0

    def jobs_for_workers(self, workers: int) -> int:
        """Jobs that hold at least this many workers."""
        return -(-workers // self.workers)

    def jobs_for_cores(self, cores: int) -> int:
        """Jobs whose workers have at least this many threads."""
        return -(-cores // (self.workers * self.threads))

    def jobs_for_memory(self, memory: int) -> int:
        """Jobs that have at least this many bytes, as they ask the batch system for them.

        Raises
        ------
        ConfigurationError
            If the memory of a job is not known.
        """
        if self.memory is None:
            raise ConfigurationError(
                "scale(memory=...) needs to know a job's memory", hint="give the cluster memory=..."
            )
        return -(-memory // (self.workers * self.memory + self.rest))


def layout_for(cores: int, *, workers: int | None = None, memory: int | None = None) -> Layout:
    """Divide a node's share of a job among workers.

    Parameters
    ----------
    cores
        Cores of the job on one node.
    workers
        Workers on the node; None chooses one per core up to four cores, and beyond that about the
        square root of the cores, so that neither one interpreter lock nor one process per core
        rules.
    memory
        Bytes of the job on one node.

    Returns
    -------
    Layout
        Threads and memory never add up to more than the job has.

    Raises
    ------
    ConfigurationError
        If there are more workers than cores or bytes.
    """
    if cores < 1:
        raise ConfigurationError(f"a job needs at least one core, not {cores}")
    if workers is None:
        workers = max(count for count in range(1, isqrt(cores) + 1) if cores % count == 0)
        if cores <= 4:  # noqa: PLR2004  (as the engine does on small machines)
            workers = cores
    if workers < 1:
        raise ConfigurationError(f"a job needs at least one worker, not {workers}")
    if workers > cores:
        raise ConfigurationError(
            f"{workers} workers do not fit on {cores} cores",
            hint="ask for more cores, or fewer processes",
        )
    if memory is not None and memory < workers:
        raise ConfigurationError(
            f"{memory} bytes are no memory for {workers} workers",
            hint='write for example memory="32 GiB"; None leaves it to the site',
        )
    if memory is None:
        return Layout(workers, cores // workers, None)
    return Layout(workers, cores // workers, *divmod(memory, workers))
