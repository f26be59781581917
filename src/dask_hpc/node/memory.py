"""Memory of a job's workers: what the job has on this node, and what each may use of it.

Pure, over a snapshot.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.model.job_environment import told_memory
from dask_hpc.node.snapshot import Share
from dask_hpc.units import format_memory, parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_hpc.node.options import WorkerOptions
    from dask_hpc.node.snapshot import Snapshot

MIB = 1 << 20
#: Batch systems round memory to MiB or pages: a limit this close above it is still the same one.
_ROUNDING = 1.01
#: What a job uses beside its workers: the supervisor, its fork server, the kernel's buffers.
#: Measured in a control group, Python 3.11, engine 2026.8: 65 MiB, and about 1 MiB for each
#: worker's nanny and sockets.  Of a small job it takes no more than an eighth: there it is covered
#: by the 47 MiB that each worker shares with the fork server, which count in its own as well.
_SUPERVISOR, _NANNY, _LARGEST_PART = 64 * MIB, 2 * MIB, 8
#: How far a worker's address space exceeds what it uses: 310 MiB measured with one thread, most of
#: it reserved by malloc and for stacks, and more with each thread.
_ADDRESS_SPACE = 512 * MIB
#: What the dynamic linker says of a library that finds no room (glibc, elf/dl-map-segments.h).
_UNMAPPED = "failed to map segment"
#: With fewer addresses nothing starts: measured, one process needs 150 to 200 MiB to import the
#: engine and start its threads; numpy's libraries then end the process without a word of ours.
_LEAST_ADDRESSES = 128 * MIB


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


def of_each(
    options: WorkerOptions, workers: int, snapshot: Snapshot
) -> tuple[int | None, tuple[str, ...]]:
    """Bytes for each worker, None for no limit; and warnings.

    Raises
    ------
    NodeError
        If more is asked than the batch system has given.
    """
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
    return limit if bound is None else min(limit, bound.amount), (
        *notes,
        *_check_addresses(snapshot),
    )


def _check_addresses(snapshot: Snapshot) -> tuple[str, ...]:
    limit = dict(snapshot.process_memory).get("RLIMIT_AS")
    if limit is None or limit >= 2 * _ADDRESS_SPACE:
        return ()
    if limit < _LEAST_ADDRESSES:
        raise _too_few(limit, "fewer than Python and the engine need to start")
    note = (
        f"{_addresses(limit)}, of which Python with threads reserves half a GiB: if workers do not"
        " start, ask for more"
    )
    return (note,)


def starved(error: BaseException, bounds: Mapping[str, int]) -> NodeError | None:
    """What it means that something failed where a process has few addresses; None if nothing.

    Parameters
    ----------
    error
        That was caught.
    bounds
        Limits in bytes of one process (getrlimit(2)), by name.
    """
    limit = bounds.get("RLIMIT_AS")
    out_of_it = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and "start new thread" in str(error))
        or (isinstance(error, ImportError) and _UNMAPPED in str(error))
    )
    if limit is None or limit >= 2 * _ADDRESS_SPACE or not out_of_it:
        return None
    return _too_few(limit, f"too few: {error or type(error).__name__}")


def _addresses(limit: int) -> str:
    source = "RLIMIT_AS: ulimit -v, or h_vmem of Grid Engine"
    return f"a process may have {format_memory(limit)} of addresses ({source})"


def _too_few(limit: int, why: str) -> NodeError:
    return NodeError(
        f"{_addresses(limit)}, {why}",
        hint="ask for more memory, or look for `ulimit -v` in job_script_prologue and ~/.bashrc",
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
