"""What the user's configuration asks for, as far as the doctor compares it with what it sees.

Values, and how the name of an interface is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any


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
    local_directory
        Scratch, as it was written.
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


def used_interface(asked: str | None, report: Mapping[str, Any]) -> str:
    """The interface that a process there would listen on; empty if there is none such.

    Parameters
    ----------
    asked
        As in `Asked`.
    report
        Of the machine.
    """
    usable: dict[str, Mapping[str, Any]] = {
        name: each
        for name, each in report.get("interfaces", {}).items()
        if each["addresses"] and each["up"]
    }
    if asked and asked != "auto":
        for pattern in asked.replace(",", " ").split():
            for name in usable:
                if fnmatchcase(name, pattern):
                    return name
        return ""
    routed = report.get("routed")
    leads = (name for name, each in usable.items() if routed in each["addresses"])
    if asked is None:
        return next(leads, "")
    outer = [name for name, each in usable.items() if not each["inner"]]
    fast = [name for name in outer if name.startswith("hsn") or usable[name]["infiniband"]]
    fast += [name for name in outer if name.startswith("ib")]
    return next(iter(fast), next(leads, ""))


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
