"""What the job keeps in memory as files: bytes that no process shows as its own.

A worker whose node has no disk counts its part of them, so that it pauses before the job is killed
for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from dask_hpc.node.cgroups import finite, own_groups, statistics
from dask_hpc.node.kernel import read_file

#: Seconds for which a number is good: reading it costs the kernel a walk over its counters.
_FRESH = 1.0


def group_of(limits: Mapping[str, str]) -> str | None:
    """Find the control group that holds the job.

    Parameters
    ----------
    limits
        What the limit's file of each group says, by its directory; our own group first.

    Returns
    -------
    str
        Directory of the group with the smallest limit, of equal ones the outermost: Slurm gives a
        job and its steps the same.  None without any limit.
    """
    found: tuple[int, str] | None = None
    for directory, text in limits.items():
        for limit in finite([text]):
            if found is None or limit <= found[0]:
                found = limit, directory
    return found and found[1]


def shmem(text: str) -> int:
    """Bytes of a control group in tmpfs, from its ``memory.stat``.

    Version 2 counts the groups below in ``shmem``, version 1 in ``total_shmem`` (cgroups(7)).
    """
    values = statistics(text)
    return values.get("total_shmem", values.get("shmem", 0))


def reader(scratch: str) -> Callable[[], int]:
    """Say how to count the job's bytes in tmpfs.

    Parameters
    ----------
    scratch
        The job's own directory in tmpfs: all that is counted where there is no control group.
    """
    groups = own_groups("memory")
    files = ("memory.limit_in_bytes", "memory.max")  # of version 1, of version 2
    group = group_of(
        {
            each: next(filter(None, (read_file(f"{each}/{name}") for name in files)), "")
            for each in (groups.directories if groups else ())
        }
    )
    return partial(_of_group, f"{group}/memory.stat") if group else partial(_below, scratch)


def _of_group(stat: str) -> int:
    return shmem(read_file(stat))


def _below(directory: str) -> int:
    return sum(_sizes(directory))


def _sizes(directory: str) -> Iterable[int]:
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                yield os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118
            except OSError:  # gone meanwhile
                continue


class Share:
    """A worker's part of the job's bytes in tmpfs."""

    def __init__(self, read: Callable[[], int], workers: int) -> None:
        self._read = read
        self._workers = max(workers, 1)
        self._value = 0
        self._until = 0.0

    def __call__(self) -> int:
        """Bytes, as of a second ago."""
        now = time.monotonic()
        if now >= self._until:
            self._value, self._until = self._read() // self._workers, now + _FRESH
        return self._value
