"""Looks at workers' memory in time: before the kernel does, which kills without asking.

The engine's nanny looks at its worker at a fixed interval.  A task can allocate gigabytes between
two looks, and what passes the limit of the job's control group is killed by the kernel; the batch
system then calls the job out of memory.  So this looks the sooner, the less is left of the job's
limit.  Whether one worker has too much, and what happens to it then, stays the nanny's business; a
worker is chosen here only when all of them together, or what their tasks have started, are about to
reach the job's limit.

Pure functions over readings, and one loop that reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.node import cgroups
from dask_hpc.node.kernel import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dask_hpc.node.worker import JobNanny

logger = logging.getLogger("distributed.nanny")  # where the engine's own words on this go

MIB = 1 << 20
#: Bytes a second that a job may come to use more: 2 GB/s were measured for one thread on small
#: pages, several threads and huge pages take more.
FASTEST = 8e9
#: Seconds between two looks.  The longest is the engine's own interval; the shortest, at the
#: fastest, 40 MB, of which the headroom has more.
SHORTEST, LONGEST = 0.005, 0.2
#: Bytes left at which the kernel is about to kill: about half the headroom of `limits`.
_LAST, _LAST_PART = 48 * MIB, 16
#: Seconds in which a killed worker must have given its memory back; until then nobody else is.
GRACE = 1.0
#: Seconds after which a process id may be another's.
_REMEMBERED = 30.0
#: Part of its limit that a worker must use to be chosen: to end an idle one would free nothing.
_WORTHWHILE = 0.5


@dataclass(frozen=True, slots=True)
class Group:
    """A control group that bounds this job.

    Parameters
    ----------
    directory
        With the kernel's files.
    version
        Of control groups.
    limit
        Bytes.
    """

    directory: str
    version: int
    limit: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a worker and all that it has started use, and may use, in bytes."""

    used: int
    limit: int


def last(limit: int) -> int:
    """Bytes left of a job's limit at which a worker must go, whoever uses the rest."""
    return min(_LAST, limit // _LAST_PART)


def pause(spare: float) -> float:
    """Seconds until the next look, when so many bytes may still be used."""
    return min(LONGEST, max(SHORTEST, spare / FASTEST / 2))


def unreclaimable(usage: int, stat: Mapping[str, int], version: int) -> int:
    """Bytes of a control group that the kernel cannot take back: all but the files it has cached.

    Parameters
    ----------
    usage
        Bytes of the whole group.
    stat
        Its ``memory.stat``.
    version
        Of control groups: in version 1, a group's own numbers are without its children's.
    """
    prefix = "total_" if version == 1 else ""
    cached = sum(stat.get(f"{prefix}{name}", 0) for name in ("active_file", "inactive_file"))
    dirty = stat.get(f"{prefix}writeback" if version == 1 else "file_writeback", 0)
    return usage - max(0, cached - dirty)


def tree(pid: int, parents: Mapping[int, int]) -> set[int]:
    """A process and all that it has started, directly or not, by each process's parent."""
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def chosen(uses: Mapping[int, Use]) -> int | None:
    """Which worker must go when the job is about to be killed: the farthest above its limit.

    Parameters
    ----------
    uses
        Of each worker, by process id.

    Returns
    -------
    int or None
        None if no worker uses enough to make a difference.
    """
    worth = {pid: use for pid, use in uses.items() if use.used > _WORTHWHILE * use.limit}
    return max(worth, key=lambda pid: worth[pid].used - worth[pid].limit, default=None)


def bounding(
    groups: cgroups.Groups | None, read: Callable[[str], str] = read_file
) -> tuple[Group, ...]:
    """Find the control groups that are the job's, by their limits.

    A group with a larger limit than another is not looked at: others' jobs are in it too.

    Parameters
    ----------
    groups
        That this process is in.
    read
        Reads a file; empty if it is not there.
    """
    if groups is None:
        return ()
    name = "memory.limit_in_bytes" if groups.version == 1 else "memory.max"
    found = [
        Group(each, groups.version, limit)
        for each in groups.directories
        for limit in cgroups.finite([read(f"{each}/{name}")])
    ]
    smallest = min((group.limit for group in found), default=0)
    return tuple(group for group in found if group.limit == smallest)


class MemoryWatch:
    """Keeps the workers of a job below the limit of its control group.

    Parameters
    ----------
    nannies
        Of the workers.
    """

    def __init__(self, nannies: Sequence[JobNanny]) -> None:
        self._nannies = [nanny for nanny in nannies if _terminates(nanny)]
        groups = cgroups.own_groups("memory") if self._nannies else None
        self._groups = bounding(groups) if self._nannies else ()
        self._members = f"{groups.directories[0]}/cgroup.procs" if groups else ""
        self._ending: dict[int, float] = {}  # killed, by process id, and when

    async def run(self) -> None:
        """Look until cancelled; returns at once where nothing is to be watched."""
        while self._groups:
            spare = min(_left(group) - last(group.limit) for group in self._groups)
            if spare < LONGEST * FASTEST:
                self._look()
            if spare < 0:
                self._relieve()
            await asyncio.sleep(pause(spare))

    def _look(self) -> None:
        """Have the nannies look now whose workers are above what the engine allows them."""
        now = time.monotonic()
        self._ending = {pid: at for pid, at in self._ending.items() if now - at < _REMEMBERED}
        for nanny in self._nannies:
            pid = nanny.pid
            if pid is None or pid in self._ending:
                continue
            manager = nanny.memory_manager
            most = manager.memory_terminate_fraction * (manager.memory_limit or 0)
            if resident(pid) > most:
                self._ending[pid] = now
                manager.memory_monitor(nanny)

    def _relieve(self) -> None:
        now = time.monotonic()
        recent = (pid for pid, since in self._ending.items() if now - since < GRACE)
        if any(Path(f"/proc/{pid}").exists() for pid in recent):
            return
        nannies = {nanny.pid: nanny for nanny in self._nannies if nanny.pid is not None}
        # Not all processes of the node: with each millisecond the kernel may come first.
        parents = {each: _parent(each) for each in map(int, _words(self._members))}
        trees = {pid: {each: resident(each) for each in tree(pid, parents)} for pid in nannies}
        pid = chosen(
            {each: Use(sum(trees[each].values()), _limit(nannies[each])) for each in trees}
        )
        if pid is not None:
            self._ending[pid] = now
            _end(nannies[pid], pid, trees[pid])


def _end(nanny: JobNanny, pid: int, resident: Mapping[int, int]) -> None:
    """Kill a worker and all that it has started, the largest first; its nanny starts it again."""
    for each in sorted(resident, key=lambda each: -resident[each]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)
    used = sum(resident.values())
    logger.warning(
        "Worker %s (pid=%d) uses %d MiB with all it has started, and the job's memory is nearly"
        " exhausted. Restarting...",
        nanny.worker_address,
        pid,
        used // MIB,
    )
    nanny.log_event(
        "worker-restart-memory", {"worker": nanny.worker_address, "pid": pid, "rss": used}
    )


def _terminates(nanny: JobNanny) -> bool:
    """Whether the user wants workers that use too much to be ended at all."""
    manager: Any = nanny.memory_manager
    return bool(manager.memory_limit and manager.memory_terminate_fraction)


def _left(group: Group) -> int:
    """Bytes that the group may still take; cached files count as free only if it matters."""
    name = "memory.usage_in_bytes" if group.version == 1 else "memory.current"
    usage = read_file(f"{group.directory}/{name}").strip()
    if not usage.isdecimal():  # the group is gone, and we soon are
        return group.limit
    left = group.limit - int(usage)
    if left > LONGEST * FASTEST:
        return left
    stat = cgroups.statistics(read_file(f"{group.directory}/memory.stat"))
    return group.limit - unreclaimable(int(usage), stat, group.version)


def resident(pid: int) -> int:
    """Bytes in memory of a process (proc(5), statm); 0 if it is gone."""
    fields = read_file(f"/proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _parent(pid: int) -> int:
    """Process id of a process's parent (proc(5), stat: the name in brackets may hold anything)."""
    fields = read_file(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _words(path: str) -> list[str]:
    return read_file(path).split()


def _limit(nanny: JobNanny) -> int:
    return int(nanny.memory_manager.memory_limit or 0)
