"""The workers that fit in what this job has on this node.

Pure, over a snapshot; memory is :mod:`.memory`'s business.  No engine: its own reading knows no
batch system and only the root control group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_hpc.errors import NodeError
from dask_hpc.model.job_environment import told_cores
from dask_hpc.model.layout import Layout, layout_for
from dask_hpc.node.memory import (
    asked_memory,
    for_workers,
    headroom,
    memory,
    of_each,
    of_one_process,
    starved,
)
from dask_hpc.node.snapshot import Share, Snapshot, look, process_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_hpc.node.gpus import Devices
    from dask_hpc.node.options import WorkerOptions

#: Cores of this one are slots, of which it has several per core.
_SLOTS = "LOCAL_CPUS"


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers to start, and what to tell the user about them.

    Parameters
    ----------
    layout
        Of the workers; None as memory is no limit.
    notes
        Warnings.
    gpus
        Of this job here; None where none are wanted.
    """

    layout: Layout
    notes: tuple[str, ...] = ()
    gpus: Devices | None = None


def cores(snapshot: Snapshot, asked: int | None = None) -> Share:
    """Cores of this job on this node: the smallest of all that bound them.

    Parameters
    ----------
    snapshot
        What the machine says.
    asked
        What the job's script says, which alone counts.
    """
    return min(_core_bounds(snapshot, asked), key=lambda share: share.amount)


def told(snapshot: Snapshot) -> Share | None:
    """Cores of this job on this node as the batch system tells; None if it does not."""
    if snapshot.listed_cores[0]:
        return Share(*snapshot.listed_cores)
    return next((Share(*each) for each in told_cores(snapshot.environ)), None)


def _core_bounds(snapshot: Snapshot, asked: int | None) -> Iterator[Share]:
    if asked:
        yield Share(asked, "--job-cores")
        return
    share = told(snapshot)
    if share is not None:
        yield share
        if share.source == _SLOTS:
            return
    source = "the machine" if share is None else "the affinity of this process"
    yield Share(snapshot.affinity, source, promised=False)
    if snapshot.cpu_quota is not None:
        quota = max(1, int(snapshot.cpu_quota))
        yield Share(quota, "the control group's quota", promised=False)


def plan(options: WorkerOptions, snapshot: Snapshot) -> Plan:
    """Divide the job among workers.

    Parameters
    ----------
    options
        What the user asked.
    snapshot
        What the machine says.

    Returns
    -------
    Plan
        The layout, and warnings.

    Raises
    ------
    NodeError
        If more is asked than the job has.
    """
    have = cores(snapshot, options.job_cores)
    devices = None
    if options.gpus:
        from dask_hpc.node import gpus  # late, as few jobs have any

        devices = gpus.of_job(snapshot.environ, options.gpus, snapshot.devices or gpus.NONE)
    workers = _workers(options, have.amount, devices)
    threads = options.nthreads or max(1, have.amount // workers)
    limit, notes = of_each(options, workers, snapshot)
    return Plan(
        Layout(workers, threads, limit),
        (
            *_check_threads(workers, threads, tuple(_core_bounds(snapshot, options.job_cores))),
            *notes,
            *(devices.notes if devices else ()),
        ),
        devices,
    )


def library_threads(options: WorkerOptions, snapshot: Snapshot) -> int:
    """Threads that numpy's libraries may take in each thread of a worker, at least 1.

    Raises
    ------
    NodeError
        If more is asked than the job has.
    """
    layout = plan(options, snapshot).layout
    have = cores(snapshot, options.job_cores).amount
    return max(1, have // (layout.workers * layout.threads))


def _workers(options: WorkerOptions, have: int, devices: Devices | None) -> int:
    if options.nworkers in (None, "auto") and devices is not None:
        return min(devices.count, have)
    if options.nworkers is None:
        return 1
    if options.nworkers == "auto":
        if options.nthreads:
            return max(1, have // options.nthreads)
        return layout_for(have).workers
    if options.nworkers < 0:  # the engine's rule
        return max(1, have + 1 + options.nworkers)
    return options.nworkers


def _check_threads(workers: int, threads: int, bounds: tuple[Share, ...]) -> tuple[str, ...]:
    total = workers * threads
    exceeded = [share for share in bounds if total > share.amount]
    if not exceeded:
        return ()
    promises = [share for share in exceeded if share.promised]
    have = min(promises or exceeded, key=lambda share: share.amount)
    message = (
        f"{workers} workers x {threads} threads = {total} threads on {have.amount} cores"
        f" ({have.source})"
    )
    if promises:
        raise NodeError(message, hint="ask for more cores, or fewer --nworkers or --nthreads")
    return (message,)


__all__ = [
    "Plan",
    "Share",
    "Snapshot",
    "asked_memory",
    "cores",
    "for_workers",
    "headroom",
    "library_threads",
    "look",
    "memory",
    "of_one_process",
    "plan",
    "process_limits",
    "starved",
    "told",
]
