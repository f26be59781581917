"""What a queue of a batch system offers and where it ends, in one form for all of them.

Values only.  How one batch system tells them is :mod:`dask_hpc.drivers.queues`' business.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue; None where the batch system sets no limit or does not tell.

    Parameters
    ----------
    name
        As a job names it; empty for a batch system without queues.
    max_walltime, default_walltime
        Seconds.
    nodes
        Nodes that it has.
    cores, memory, gpus
        Of its largest node; memory in bytes.
    max_nodes, max_cores, max_jobs
        Of one job; of one job; jobs of one user.
    takes_jobs, starts_jobs
        Whether it accepts submissions now, and whether it starts what waits.
    routes
        Whether it only hands jobs on to other queues.
    default
        Whether jobs that name none go there.
    groups
        Who alone may use it; empty for all.
    yours
        Whether this user may, as far as the batch system tells.
    """

    name: str
    max_walltime: int | None = None
    default_walltime: int | None = None
    nodes: int | None = None
    cores: int | None = None
    memory: int | None = None
    gpus: int | None = None
    max_nodes: int | None = None
    max_cores: int | None = None
    max_jobs: int | None = None
    takes_jobs: bool = True
    starts_jobs: bool = True
    routes: bool = False
    default: bool = False
    groups: tuple[str, ...] = ()
    yours: bool = True
