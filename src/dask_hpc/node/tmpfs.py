"""What the job keeps in memory as files: bytes that no process shows as its own.

A worker whose node has no disk counts its part of them, so that it pauses before the job is killed
for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from dask_hpc.node.filesystems import Mount, parse

#: Seconds for which a number is good: reading it costs the kernel a walk over its counters.
_FRESH = 1.0
#: Version 1 writes "no limit" as the largest multiple of the page size below 2**63.
_NO_LIMIT = 1 << 60


def groups(text: str, mounts: Sequence[Mount]) -> list[str]:
    """Directories of our memory control group and its ancestors, our own first.

    Parameters
    ----------
    text
        Of ``/proc/self/cgroup`` (cgroups(7)): lines of ``id:controllers:path``.
    mounts
        The mount table: a container may see only a part of the tree.
    """
    found: list[str] = []
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):  # of version 1, which counts where both are
            here = [m for m in mounts if m.type == "cgroup" and "memory" in m.options.split(",")]
            return _upwards(path, here)
        if not controllers:
            found = _upwards(path, [mount for mount in mounts if mount.type == "cgroup2"])
    return found


def _upwards(path: str, mounts: Sequence[Mount]) -> list[str]:
    if not mounts:
        return []
    mount, group = mounts[-1], PurePosixPath("/", path)
    if not group.is_relative_to(mount.root):
        return []
    inside = group.relative_to(mount.root)
    return [str(PurePosixPath(mount.point, each)) for each in (inside, *inside.parents)]


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
        limit = int(text) if text.strip().isdecimal() else 0
        if 0 < limit < _NO_LIMIT and (found is None or limit <= found[0]):
            found = limit, directory
    return found and found[1]


def shmem(text: str) -> int:
    """Bytes of a control group in tmpfs, from its ``memory.stat``.

    Version 2 counts the groups below in ``shmem``, version 1 in ``total_shmem`` (cgroups(7)).
    """
    values = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    number = values.get("total_shmem", values.get("shmem", "0")).strip()
    return int(number) if number.isdecimal() else 0


def reader(scratch: str) -> Callable[[], int]:
    """Say how to count the job's bytes in tmpfs.

    Parameters
    ----------
    scratch
        The job's own directory in tmpfs: all that is counted where there is no control group.
    """
    mounts = parse(_read("/proc/self/mountinfo"))
    group = group_of(
        {
            each: _read(f"{each}/memory.limit_in_bytes") or _read(f"{each}/memory.max")
            for each in groups(_read("/proc/self/cgroup"), mounts)
        }
    )
    return partial(_of_group, f"{group}/memory.stat") if group else partial(_below, scratch)


def _of_group(stat: str) -> int:
    return shmem(_read(stat))


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


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError:
        return ""
