"""What control groups grant: memory limits and CPU quotas of a process's group and its ancestors.

The text of the kernel's files in, numbers out; `own_groups` alone reads any.  What follows from the
numbers is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dask_hpc.node.kernel import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ROOT = "/sys/fs/cgroup"
#: Version 1 writes "no limit" as the largest multiple of the page size below 2**63.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one controller that a process is in.

    Parameters
    ----------
    version
        Of control groups: 1 or 2.
    directories
        Own group first, then its ancestors, as far as they are seen.
    """

    version: int
    directories: tuple[str, ...]


def groups_of(text: str, controller: str, mounts: str = "") -> Groups | None:
    """Find a process's groups.

    Parameters
    ----------
    text
        Of ``/proc/self/cgroup`` (cgroups(7)): lines of ``id:controllers:path``.
    controller
        ``"memory"``, ``"cpu"``.
    mounts
        Of ``/proc/self/mountinfo`` (proc(5)), where the groups are not where they usually are: a
        container sees a part of the tree, under the same paths.

    Returns
    -------
    Groups or None
        Of version 1 if the controller is mounted there (a host may have both), else of version 2;
        None if the text has neither.
    """
    unified = None
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            mount = _mount(mounts, "cgroup", controller) or (f"{ROOT}/{controller}", "/")
            return Groups(1, _upwards(*mount, path))
        if not controllers and path:
            mount = _mount(mounts, "cgroup2", "") or (ROOT, "/")
            unified = Groups(2, _upwards(*mount, path))
    return unified


def _mount(mounts: str, kind: str, controller: str) -> tuple[str, str] | None:
    """Where a hierarchy is mounted, and which of its groups is there; the last one hides others."""
    found = None
    for line in mounts.splitlines():
        place, _, system = line.partition(" - ")
        fields, (name, *options) = place.split(), system.split() or [""]
        if name == kind and (not controller or controller in options[-1].split(",")):
            found = fields[4], fields[3]
    return found


def _upwards(mount: str, top: str, path: str) -> tuple[str, ...]:
    group, root = PurePosixPath("/", path), PurePosixPath(top)
    inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    names = [str(PurePosixPath(mount, each)) for each in (inside, *inside.parents)]
    return tuple(dict.fromkeys(names))


def own_groups(controller: str) -> Groups | None:
    """Read which groups this process is in."""
    text = read_file("/proc/self/cgroup")
    found = groups_of(text, controller)
    if found is None or Path(found.directories[0]).exists():
        return found
    return groups_of(text, controller, read_file("/proc/self/mountinfo"))


def memory_limits(groups: Groups | None, read: Callable[[str], str]) -> tuple[int, ...]:
    """Bytes that may be used at most, by each limit that there is.

    Version 1 tells the smallest of all ancestors in one file, ``hierarchical_memory_limit`` of
    ``memory.stat``, also of those that a container does not see; the limit with swap
    (``hierarchical_memsw_limit``) is never smaller, but costs nothing to believe.  In version 2
    ``memory.high`` bounds as well: above it, the kernel slows a process down to a crawl.
    """
    if groups is None:
        return ()
    if groups.version == 1:
        texts = (read(f"{each}/memory.stat") for each in groups.directories)
        stat = statistics(next(filter(None, texts), ""))
        names = ("hierarchical_memory_limit", "hierarchical_memsw_limit")
        return tuple(finite(str(stat[name]) for name in names if name in stat))
    files = (
        f"{each}/{name}" for each in groups.directories for name in ("memory.max", "memory.high")
    )
    return tuple(finite(read(file) for file in files))


def statistics(text: str) -> Mapping[str, int]:
    """Read ``memory.stat``: a name and a number on each line."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}  # noqa: PLR2004


def finite(texts: Iterable[str]) -> Iterator[int]:
    """Limits in bytes; "max", v1's huge number and an empty file are none."""
    values = (int(text) for each in texts if (text := each.strip()).isdecimal())
    return (value for value in values if 0 < value < _NO_LIMIT)


def cpu_quota(groups: Groups | None, read: Callable[[str], str]) -> float | None:
    """CPUs' worth of time that the groups may use; None without a quota.

    Version 1: ``cpu.cfs_quota_us`` (-1 is none) per ``cpu.cfs_period_us``; version 2: both in
    ``cpu.max``, as in ``"200000 100000"`` or ``"max 100000"``.
    """
    if groups is None:
        return None
    quotas = []
    for each in groups.directories:
        if groups.version == 1:
            quota = read(f"{each}/cpu.cfs_quota_us").strip()
            period = read(f"{each}/cpu.cfs_period_us").strip() if quota.isdecimal() else ""
        else:
            quota, _, period = read(f"{each}/cpu.max").strip().partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)
