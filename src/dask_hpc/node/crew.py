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
from dask_hpc.node import options

if TYPE_CHECKING:
    from dask_hpc.model.layout import Layout
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
    worker_ports, nanny_ports
        To choose from; empty where the system chooses.
    """

    name: str | int
    threads: int
    memory: int
    cpus: frozenset[int] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    worker_ports: tuple[int, ...] = ()
    nanny_ports: tuple[int, ...] = ()


def equal_hands(wanted: WorkerOptions, layout: Layout) -> list[Hand]:
    """Describe the workers of a job: all alike.

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
    return [
        Hand(
            name=name,
            threads=layout.threads,
            memory=layout.memory or 0,
            worker_ports=tuple(worker),
            nanny_ports=tuple(nanny),
        )
        for name, (worker, nanny) in zip(names, ports, strict=True)
    ]
