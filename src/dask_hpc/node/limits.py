"""What this job has on this node, and the workers that fit in it.

A pure core over a snapshot; `look` alone reads the machine.  No engine: its own reading knows no
batch system and only the root control group.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.model.job_environment import cores_file, listed_cores, told_cores, told_memory
from dask_hpc.model.layout import Layout, layout_for
from dask_hpc.units import format_memory, parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dask_hpc.node.options import WorkerOptions

#: Version 1 writes "no limit" as the largest multiple of the page size below 2**63.
_NO_LIMIT = 1 << 60
#: Batch systems round memory to MiB or pages: a limit this close above it is still the same one.
_ROUNDING = 1.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the machine says.

    Parameters
    ----------
    environ
        The job's environment.
    affinity
        Cores this process may use.
    host_memory
        Bytes of the whole machine.
    cgroup_memory
        Limits in bytes of our control group and its ancestors.
    listed_cores
        Cores here in the batch system's file of the job's nodes and the file's variable, where a
        job of several nodes is told them in no other way; else 0.
    """

    environ: Mapping[str, str]
    affinity: int
    host_memory: int
    cgroup_memory: tuple[int, ...] = ()
    listed_cores: tuple[int, str] = (0, "")


@dataclass(frozen=True, slots=True)
class Share:
    """An amount, who says so, and whether that is a promise of the batch system."""

    amount: int
    source: str
    promised: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers to start, and what to tell the user about them."""

    layout: Layout
    notes: tuple[str, ...] = ()


def cores(snapshot: Snapshot, asked: int | None = None) -> Share:
    """Cores of this job on this node.

    Parameters
    ----------
    snapshot
        What the machine says.
    asked
        What the job's script says, which goes first.
    """
    if asked:
        return Share(asked, "--job-cores")
    if snapshot.listed_cores[0]:
        return Share(*snapshot.listed_cores)
    for number, name in told_cores(snapshot.environ):
        return Share(number, name)
    return Share(snapshot.affinity, "the machine", promised=False)


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
    room = memory(snapshot, options.job_memory)
    workers = _workers(options, have.amount)
    threads = options.nthreads or max(1, have.amount // workers)
    notes = _check_threads(workers, threads, have)
    return Plan(Layout(workers, threads, _memory_limit(options, workers, room)), notes)


def _workers(options: WorkerOptions, have: int) -> int:
    if options.nworkers is None:
        return 1
    if options.nworkers == "auto":
        if options.nthreads:
            return max(1, have // options.nthreads)
        return layout_for(have).workers
    if options.nworkers < 0:  # the engine's rule
        return max(1, have + 1 + options.nworkers)
    return options.nworkers


def _check_threads(workers: int, threads: int, have: Share) -> tuple[str, ...]:
    total = workers * threads
    if total <= have.amount:
        return ()
    message = (
        f"{workers} workers x {threads} threads = {total} threads on {have.amount} cores"
        f" ({have.source})"
    )
    if have.promised:
        raise NodeError(message, hint="ask for more cores, or fewer --nworkers or --nthreads")
    return (message,)


def _memory_limit(options: WorkerOptions, workers: int, room: Share) -> int | None:
    limit = asked_memory(options.memory_limit, room.amount)
    if limit is None:
        return None
    fits = room.amount // workers
    if limit == 0:
        return fits
    if workers * limit > room.amount * _ROUNDING:
        raise NodeError(
            f"{workers} workers x {format_memory(limit)} = {format_memory(workers * limit)}"
            f" of memory, and the job has {format_memory(room.amount)} ({room.source})",
            hint="ask for more memory, or a smaller --memory-limit or fewer workers",
        )
    return min(limit, fits)


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


def cgroup_files(text: str, root: str = "/sys/fs/cgroup") -> list[str]:
    """Files that may hold a memory limit of ours, our group first, then its ancestors.

    Parameters
    ----------
    text
        Of ``/proc/self/cgroup`` (cgroups(7)): lines of ``id:controllers:path``.
    root
        Where control groups are mounted.

    Returns
    -------
    list of str
        Some need not exist: a container may see only its own part of the tree.
    """
    files = []
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = PurePosixPath(path)
        groups = [str(group).strip("/"), *(str(parent).strip("/") for parent in group.parents)]
        if "memory" in controllers.split(","):
            files += [f"{root}/memory/{group}/memory.limit_in_bytes" for group in groups]
        elif not controllers:
            files += [f"{root}/{group}/memory.max" for group in groups]
    return [file.replace("//", "/") for file in dict.fromkeys(files)]


def cgroup_limits(contents: Iterable[str]) -> tuple[int, ...]:
    """Limits in bytes among the contents of such files; "max" and v1's huge number are none."""
    values = (int(text) for content in contents if (text := content.strip()).isdecimal())
    return tuple(value for value in values if 0 < value < _NO_LIMIT)


def look() -> Snapshot:
    """Read the machine."""
    return Snapshot(
        environ=os.environ,
        affinity=len(os.sched_getaffinity(0)),
        host_memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_memory=cgroup_limits(_read_all(cgroup_files(_read("/proc/self/cgroup")))),
        listed_cores=_listed_cores(),
    )


def _listed_cores() -> tuple[int, str]:
    name = cores_file(os.environ)
    text = _read(os.environ.get(name, "")) if name else ""
    return listed_cores(text, os.uname().nodename), name


def _read_all(files: Iterable[str]) -> Iterator[str]:
    return (_read(file) for file in files)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError:  # not there, or not for us: then it bounds nothing we know of
        return ""
