"""The workers of one node, one by one: what each is called and may use.

Values only: starting them is the supervisor's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_hpc.model.job_environment import name_of_job
from dask_hpc.node import limits, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_hpc.model.layout import Layout
    from dask_hpc.node.gpus import Devices
    from dask_hpc.node.limits import Snapshot
    from dask_hpc.node.options import WorkerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """One worker.

    Parameters
    ----------
    name
        Of the worker.
    threads
        Of the worker.
    memory
        Bytes; 0 for no limit.
    cpus
        That it may use; None for all of the supervisor's.
    environ
        Variables that it has beyond, or unlike, the supervisor.
    gpus
        That it has.
    worker_ports, nanny_ports
        To choose from; empty where the system chooses.
    """

    name: str | int
    threads: int
    memory: int
    cpus: frozenset[int] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    worker_ports: tuple[int, ...] = ()
    nanny_ports: tuple[int, ...] = ()


def equal_hands(
    wanted: WorkerOptions,
    layout: Layout,
    *,
    places: Sequence[frozenset[int]] | None = None,
    devices: Devices | None = None,
) -> list[Hand]:
    """Describe the workers of a job: all alike, but for where they run.

    Parameters
    ----------
    wanted, layout
        What the user asked, and what came of it.
    places
        CPUs of each worker; None where workers are not bound.
    devices
        GPUs to deal; None where there are none.

    Raises
    ------
    ConfigurationError
        If there are fewer ports than workers.
    """
    # Containers share host names, and process ids repeat from host to host.
    unique = "-".join(
        filter(None, (socket.gethostname(), name_of_job(os.environ), str(os.getpid())))
    )
    names = options.worker_names(wanted, layout.workers, unique=unique)
    ports = options.share_ports(wanted.worker_port, wanted.nanny_port, layout.workers)
    own_cpus: Sequence[frozenset[int] | None] = places or [None] * layout.workers
    dealt = _dealt(devices, layout.workers)
    return [
        Hand(
            name=name,
            threads=layout.threads,
            memory=layout.memory or 0,
            cpus=own,
            environ=environ,
            gpus=count,
            worker_ports=tuple(worker),
            nanny_ports=tuple(nanny),
        )
        for name, (worker, nanny), own, (environ, count) in zip(
            names, ports, own_cpus, dealt, strict=True
        )
    ]


def _dealt(devices: Devices | None, workers: int) -> list[tuple[dict[str, str], int]]:
    if devices is None:
        return [({}, 0)] * workers
    from dask_hpc.node import gpus  # late, as few jobs have any

    return gpus.deal(devices, workers)


def bound(
    wanted: WorkerOptions, layout: Layout, snapshot: Snapshot
) -> tuple[list[frozenset[int]] | None, str]:
    """CPUs of each worker, or None where they are not bound; and a warning if that was asked for.

    Where the batch system leaves a job on all CPUs though it has given it fewer, nobody knows which
    are the job's: two jobs would bind their workers to the same ones.
    """
    if wanted.bind is options.Bind.NONE:
        return None, ""
    from dask_hpc.node import cpus  # late, as few jobs want it

    told = limits.told(snapshot)
    free = snapshot.affinity >= (os.cpu_count() or 1)
    if told is not None and wanted.job_cores is None and free and told.amount < snapshot.affinity:
        return None, (
            f"workers are not bound: the job has {told.amount} cores ({told.source}) and may run on"
            f" {snapshot.affinity}, of which others may use some"
        )
    topology = cpus.look()
    places = cpus.places(topology, workers=layout.workers, threads=layout.threads, bind=wanted.bind)
    few = f"workers are not bound: {layout.workers} workers on {len(topology.all)} CPUs"
    return places, few if places is None else ""
