"""What this job has on this node, and the workers that fit in it.

A pure core over a snapshot; `look` alone reads the machine.  No engine: its own reading knows no
batch system and only the root control group.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.model.job_environment import cores_file, listed_cores, told_cores, told_memory
from dask_hpc.model.layout import Layout, layout_for
from dask_hpc.node import cgroups
from dask_hpc.units import format_memory, parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_hpc.node.gpus import Devices, Present
    from dask_hpc.node.options import WorkerOptions

MIB = 1 << 20
#: Batch systems round memory to MiB or pages: a limit this close above it is still the same one.
_ROUNDING = 1.01
#: What a job uses beside its workers: the supervisor, its fork server, the kernel's buffers.
#: Measured in a control group, Python 3.11, engine 2026.8: 65 MiB, and 1.4 MiB for each worker's
#: nanny and sockets.  Of a small job it takes no more than an eighth: there it is covered by the
#: 47 MiB that each worker shares with the fork server, which count in its resident memory as well.
_SUPERVISOR, _NANNY, _LARGEST_PART = 64 * MIB, 2 * MIB, 8
#: How far a worker's address space exceeds what it uses: 310 MiB measured with one thread, most of
#: it reserved by malloc and for stacks, and more with each thread.
_ADDRESS_SPACE = 512 * MIB
#: Cores of this one are slots, of which it has several per core.
_SLOTS = "LOCAL_CPUS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the machine says.

    Parameters
    ----------
    environ
        The job's environment.
    affinity
        Cores this process may use; the kernel has applied cpusets.
    host_memory
        Bytes of the whole machine.
    cgroup_memory
        Limits in bytes of our control group and its ancestors.
    cpu_quota
        CPUs' worth of time our control group and its ancestors may use, or None.
    process_memory
        Limits in bytes of one process (getrlimit(2)), by name.
    listed_cores
        Cores here in the batch system's file of the job's nodes and the file's variable, where a
        job of several nodes is told them in no other way; else 0.
    devices
        GPUs that the machine has, whoever may use them; None if nobody looked.
    """

    environ: Mapping[str, str]
    affinity: int
    host_memory: int
    cgroup_memory: tuple[int, ...] = ()
    cpu_quota: float | None = None
    process_memory: tuple[tuple[str, int], ...] = ()
    listed_cores: tuple[int, str] = (0, "")
    devices: Present | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """An amount, who says so, and whether that is a promise of the batch system."""

    amount: int
    source: str
    promised: bool = True


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


def memory(snapshot: Snapshot, asked: int | None = None) -> Share:
    """Bytes of this job on this node: the smallest of all that bound it."""
    return min(_memory_bounds(snapshot, asked), key=lambda share: share.amount)


def _memory_bounds(snapshot: Snapshot, asked: int | None) -> Iterator[Share]:
    if asked:
        yield Share(asked, "--job-memory")
    for number, name in told_memory(snapshot.environ):
        yield Share(number, name)
    for limit in snapshot.cgroup_memory:
        yield Share(limit, "the control group")
    yield Share(snapshot.host_memory, "the machine", promised=False)


def headroom(room: int, workers: int) -> int:
    """Bytes of a job that its workers must leave to what runs beside them.

    Parameters
    ----------
    room
        Bytes of the job on this node.
    workers
        On this node.
    """
    return min(_SUPERVISOR + workers * _NANNY, room // _LARGEST_PART)


def for_workers(room: int, workers: int) -> int:
    """Bytes for each worker when they divide what the headroom leaves."""
    return (room - headroom(room, workers)) // workers


def of_one_process(snapshot: Snapshot) -> Share | None:
    """Bytes that one worker can use at most, whatever the job has; None without such a limit.

    These limits hold for each process and not for their sum.  The address space is larger than what
    is used of it, so a worker that may use all of it would run out before its memory policy acts.
    """
    bounds = [
        Share(limit - min(_ADDRESS_SPACE, limit // 2) if name == "RLIMIT_AS" else limit, name)
        for name, limit in snapshot.process_memory
    ]
    return min(bounds, key=lambda share: share.amount, default=None)


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
    limit, notes = _memory_limit(options, workers, snapshot)
    return Plan(
        Layout(workers, threads, limit),
        (
            *_check_threads(workers, threads, tuple(_core_bounds(snapshot, options.job_cores))),
            *notes,
            *_check_addresses(snapshot),
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


def _memory_limit(
    options: WorkerOptions, workers: int, snapshot: Snapshot
) -> tuple[int | None, tuple[str, ...]]:
    """Bytes for each worker, None for no limit; and warnings."""
    room = memory(snapshot, options.job_memory)
    limit = asked_memory(options.memory_limit, room.amount)
    if limit is None:
        return None, ()
    notes = [] if limit else _less_than_said(options, room)
    if limit:
        notes = _check_memory(workers, limit, room)
        fits = room.amount // workers  # rounded as the batch system did
        limit = min(limit, fits) if limit * workers <= room.amount * _ROUNDING else limit
    bound = of_one_process(snapshot)
    if bound is not None and bound.amount < limit:
        notes.append(
            f"a worker may have {format_memory(limit)}, but one process no more than"
            f" {format_memory(bound.amount)} ({bound.source})"
        )
    limit = limit or for_workers(room.amount, workers)
    return limit if bound is None else min(limit, bound.amount), tuple(notes)


def _check_addresses(snapshot: Snapshot) -> tuple[str, ...]:
    limit = dict(snapshot.process_memory).get("RLIMIT_AS")
    if limit is None or limit >= 2 * _ADDRESS_SPACE:
        return ()
    return (
        f"a process may have {format_memory(limit)} of addresses (RLIMIT_AS: ulimit -v, or h_vmem of"
        " Grid Engine), of which Python with threads reserves half a GiB: if workers do not start,"
        " ask for more",
    )


def _less_than_said(options: WorkerOptions, room: Share) -> list[str]:
    if options.job_memory is None or options.job_memory <= room.amount * _ROUNDING:
        return []
    said, have = format_memory(options.job_memory), format_memory(room.amount)
    return [f"the job was to have {said}, and has {have} ({room.source}), which its workers divide"]


def _check_memory(workers: int, limit: int, room: Share) -> list[str]:
    total = workers * limit
    message = (
        f"{workers} workers x {format_memory(limit)} = {format_memory(total)} of memory, and the"
        f" job has {format_memory(room.amount)} ({room.source})"
    )
    if total <= room.amount - headroom(room.amount, workers):
        return []
    if total <= room.amount * _ROUNDING:
        own = format_memory(headroom(room.amount, workers))
        return [f"{message}: less than {own} is left for the processes beside them"]
    if room.promised:
        raise NodeError(
            message, hint="ask for more memory, or a smaller --memory-limit or fewer workers"
        )
    return [message]


def asked_memory(text: str, room: int) -> int | None:
    """Read a memory limit: bytes per worker; 0 for "divide", None for "no limit"."""
    if text == "auto":
        return 0
    try:
        number = float(text)
    except ValueError:
        return parse_memory(text)
    if number == 0:
        return None
    if number < 0:
        raise ConfigurationError(
            f"--memory-limit {text} is below zero", hint='0 means no limit, "auto" divides'
        )
    return round(number * room) if number <= 1 else int(number)


def look(*, devices: bool = False) -> Snapshot:
    """Read the machine.

    Parameters
    ----------
    devices
        Whether to look for GPUs.
    """
    return Snapshot(
        environ=os.environ,
        affinity=len(os.sched_getaffinity(0)),
        host_memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_memory=cgroups.memory_limits(cgroups.own_groups("memory"), cgroups.read_file),
        cpu_quota=cgroups.cpu_quota(cgroups.own_groups("cpu"), cgroups.read_file),
        process_memory=_process_limits(),
        listed_cores=_listed_cores(),
        devices=_devices() if devices else None,
    )


def _devices() -> Present:
    from dask_hpc.node import gpus

    return gpus.look()


def _process_limits() -> tuple[tuple[str, int], ...]:
    # RLIMIT_RSS bounds nothing since Linux 2.4.30: there it is a batch system's word to its jobs.
    names = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_RSS")
    soft = ((name, resource.getrlimit(getattr(resource, name))[0]) for name in names)
    return tuple((name, limit) for name, limit in soft if limit not in (resource.RLIM_INFINITY, 0))


def _listed_cores() -> tuple[int, str]:
    name = cores_file(os.environ)
    text = cgroups.read_file(os.environ.get(name, "")) if name else ""
    return listed_cores(text, os.uname().nodename), name
