"""What the user's configuration asks for, as far as the doctor compares it with what it sees.

Values, and which interface of a report is meant: as a node itself would choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node import fabric
from dask_hpc.node.fabric import Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a job is to ask for.

    Parameters
    ----------
    batch
        Name of the batch system.
    cores, memory, nodes, walltime
        Of a job, per node; memory in bytes, walltime in seconds.
    queue
        Where jobs wait; None for the default.
    interface, scheduler_interface
        Of the workers and of the scheduler: a name, several, patterns, ``"auto"``; None for the
        one that leads to the world.
    local_directory, scratch
        Where workers keep scratch, and where they may; as it was written.
    """

    batch: str
    cores: int
    memory: int | None = None
    nodes: int = 1
    walltime: int | None = None
    queue: str | None = None
    interface: str | None = None
    scheduler_interface: str | None = None
    local_directory: str | None = None
    scratch: str | None = None


def used_interface(asked: str | None, report: Mapping[str, Any]) -> str:
    """The interface that a process there would listen on; empty if there is none such.

    Parameters
    ----------
    asked
        As in `Asked`.
    report
        Of the machine.
    """
    there = [_interface(name, each) for name, each in report.get("interfaces", {}).items()]
    routed = str(report.get("routed", ""))
    if asked is None:
        leads = (each for each in there if not each.trouble and routed in map(str, each.addresses))
        return next((each.name for each in leads), "")
    try:
        return fabric.usable(asked, there, routed=routed)[0].name
    except (ConfigurationError, NodeError):
        return ""


def _interface(name: str, each: Mapping[str, Any]) -> Interface:
    return Interface(
        name=name,
        kind=fabric.kind_of(name, each["hardware"]),
        addresses=tuple(map(ip_address, each["addresses"])),
        up=each["up"],
        speed=each["speed"] or 0,
    )


def listing(report: Mapping[str, Any]) -> str:
    """Write a machine's interfaces with their addresses and speeds; those of containers not."""
    named = sorted(report.get("interfaces", {}).items())
    shown = [(name, each) for name, each in named if not each["inner"]]
    return ", ".join(f"{name} ({written(each)})" for name, each in shown) or "none"


def written(interface: Mapping[str, Any]) -> str:
    """Write one interface's address and speed."""
    words = list(interface["addresses"][:1]) or ["no address"]
    words += [] if interface["up"] else ["down"]
    words += [f"{interface['speed'] / 1000:g} Gbit/s"] if interface["speed"] else []
    return ", ".join(words)
