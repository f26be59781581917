"""What a node says of itself: one look, taken before anything is decided.

Reads the machine, and decides nothing.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_hpc.model.job_environment import cores_file, listed_cores
from dask_hpc.node import cgroups
from dask_hpc.node.kernel import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_hpc.node.gpus import Present


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
        cgroup_memory=cgroups.memory_limits(cgroups.own_groups("memory"), read_file),
        cpu_quota=cgroups.cpu_quota(cgroups.own_groups("cpu"), read_file),
        process_memory=process_limits(),
        listed_cores=_listed_cores(),
        devices=_devices() if devices else None,
    )


def _devices() -> Present:
    from dask_hpc.node import gpus

    return gpus.look()


def process_limits() -> tuple[tuple[str, int], ...]:
    """Limits in bytes of one process (getrlimit(2)), by name; those that there are."""
    # RLIMIT_RSS bounds nothing since Linux 2.4.30: there it is a batch system's word to its jobs.
    names = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_RSS")
    soft = ((name, resource.getrlimit(getattr(resource, name))[0]) for name in names)
    return tuple((name, limit) for name, limit in soft if limit not in (resource.RLIM_INFINITY, 0))


def _listed_cores() -> tuple[int, str]:
    name = cores_file(os.environ)
    text = read_file(os.environ.get(name, "")) if name else ""
    return listed_cores(text, os.uname().nodename), name
