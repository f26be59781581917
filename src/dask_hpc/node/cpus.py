"""Which CPUs each worker is bound to, if it is to be bound at all.

A pure function over the CPUs that the job may use and how they lie; `look` alone reads /sys.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from dask_hpc.node.options import Bind


@dataclass(frozen=True, slots=True)
class Topology:
    """How the CPUs lie that this process may use.

    Parameters
    ----------
    cores
        The CPUs (hardware threads) of each core; together all that may be used.
    domains
        The CPUs of each NUMA domain, of those.
    """

    cores: tuple[frozenset[int], ...]
    domains: tuple[frozenset[int], ...]

    @property
    def all(self) -> frozenset[int]:
        """All CPUs."""
        return frozenset[int]().union(*self.cores)


def places(
    topology: Topology, *, workers: int, threads: int, bind: Bind
) -> list[frozenset[int]] | None:
    """CPUs of each worker.

    Parameters
    ----------
    topology
        Of the CPUs that the job has.
    workers, threads
        Workers, and threads of each: none gets fewer CPUs than threads because of its domain.
    bind
        To what.

    Returns
    -------
    list of sets, or None
        One for each worker; None where binding is not wanted, or there are fewer CPUs than workers.
    """
    if bind is Bind.NONE:
        return None
    if bind is Bind.NUMA:
        return _domains(topology, workers, threads)
    units = topology.cores
    if len(units) < workers:
        units = tuple(frozenset({cpu}) for cpu in sorted(topology.all))
    return _units(topology, units, workers, threads) if len(units) >= workers else None


def _domains(topology: Topology, workers: int, threads: int) -> list[frozenset[int]]:
    """Fill the domain that has the most CPUs left, so that all are loaded alike."""
    free = {domain: len(domain) for domain in topology.domains}
    chosen = []
    for _ in range(workers):
        domain = max(free, key=lambda each: (free[each], -min(each)))
        free[domain] -= threads
        # A worker larger than the domain would get fewer CPUs than it has threads.
        chosen.append(domain if len(domain) >= threads else topology.all)
    return chosen


def _units(
    topology: Topology, units: tuple[frozenset[int], ...], workers: int, threads: int
) -> list[frozenset[int]]:
    """Deal whole units (cores, or CPUs where there are too few cores) to the workers."""
    per = len(units) // workers
    groups = [[unit for unit in units if unit <= domain] for domain in topology.domains]
    within = max((n for n in range(1, per + 1) if _hold(groups, n) >= workers), default=0)
    smallest = min(len(unit) for unit in units)
    if within * smallest >= min(threads, per * smallest):
        per = within
    chosen, left = [], []
    for group in groups:
        whole = len(group) // per * per
        chosen += [group[first : first + per] for first in range(0, whole, per)]
        left += group[whole:]
    chosen += [left[first : first + per] for first in range(0, len(left), per)]  # these span
    return [frozenset[int]().union(*each) for each in chosen[:workers]]


def _hold(groups: list[list[frozenset[int]]], per: int) -> int:
    return sum(len(group) // per for group in groups)


def parse_list(text: str) -> frozenset[int]:
    """Read the kernel's list of CPUs, as in ``"0-3,8"``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            numbers |= set(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def look(allowed: AbstractSet[int] | None = None, root: str = "/sys/devices/system") -> Topology:
    """Read how the CPUs lie.

    Parameters
    ----------
    allowed
        CPUs of the job; None for those that this process may use.
    root
        Where the kernel describes them.
    """
    here = frozenset(os.sched_getaffinity(0) if allowed is None else allowed)
    cores: list[frozenset[int]] = []
    seen: set[int] = set()
    for cpu in sorted(here):
        if cpu in seen:
            continue
        files = (f"{root}/cpu/cpu{cpu}/topology/{name}" for name in _SIBLINGS)
        core = next((found for file in files if (found := _list_in(Path(file)))), frozenset({cpu}))
        seen |= core
        cores.append(core & here | {cpu})
    domains = [_list_in(file) & here for file in sorted(Path(root).glob("node/node*/cpulist"))]
    rest = here.difference(*domains)  # a kernel without NUMA describes none
    return Topology(tuple(cores), tuple(filter(None, [*domains, rest])))


_SIBLINGS = ("core_cpus_list", "thread_siblings_list")  # the second is the name before Linux 5.0


def _list_in(file: Path) -> frozenset[int]:
    try:
        return parse_list(file.read_text(encoding="ascii"))
    except OSError:
        return frozenset()
