"""Queues of LSF and OpenLava: ``bqueues -l``, hosts by lshosts.

Sources: bqueues and lshosts in IBM's command reference; OpenLava's were recorded, LSF's not seen.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import memory, most, whole
from dask_hpc.model.queue import Queue

COMMANDS = (Command(("bqueues", "-l")), Command(("lshosts", "-w")))

#: Under a heading, ``10.0 min of HOST``: minutes of a normalised host, for us the same.
_MINUTES = re.compile(r"^\s*(\d+(?:\.\d+)?) min\b")


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    text = {each.command.argv[0]: each.stdout for each in outputs}
    hosts = [line.split() for line in text.get("lshosts", "").splitlines()[1:]]
    servers = [row for row in hosts if len(row) > 7 and row[7].lower().startswith("y")]  # noqa: PLR2004
    cores = most(*(whole(row[4]) for row in servers))
    size = most(*(memory(row[5]) for row in servers))
    parts = re.split(r"^QUEUE:\s*(\S+)", text.get("bqueues", ""), flags=re.MULTILINE)[1:]
    return [
        _queue(name, body, (len(servers) or None, cores, size))
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    ]


def _queue(name: str, body: str, hosts: tuple[int | None, int | None, int | None]) -> Queue:
    status = re.search(r"^\s*\d+\s+-?\d+\s+(\w+):(\w+)", body, re.MULTILINE)
    # One of both, in either order; without a heading the limits are the most.
    maximum, *headed = re.split(r"^(DEFAULT|MAXIMUM) LIMITS:?", body, flags=re.MULTILINE)
    limits = dict(zip(headed[::2], headed[1::2], strict=True))
    maximum += limits.get("MAXIMUM", "")
    slots = re.search(r"^.*(?:PROC|TASK)LIMIT.*\n.*?(\d+)\s*$", maximum, re.MULTILINE)
    users = re.search(r"^USERS:\s*(.*)$", body, re.MULTILINE)
    return Queue(
        name=name,
        max_walltime=_run_limit(maximum),
        default_walltime=_run_limit(limits.get("DEFAULT", "")),
        nodes=hosts[0],
        cores=hosts[1],
        memory=hosts[2],
        max_cores=int(slots[1]) if slots else None,
        takes_jobs=status is None or status[1] == "Open",
        starts_jobs=status is None or status[2] == "Active",
        default=bool(re.search(r"This is the default queue", body)),
        groups=tuple(users[1].split()) if users and not users[1].startswith("all") else (),
    )


def _run_limit(text: str) -> int | None:
    lines = text.splitlines()
    for heading, value in itertools.pairwise(lines):
        if "RUNLIMIT" in heading:
            match = _MINUTES.match(value[max(0, heading.index("RUNLIMIT") - 1) :])
            return round(float(match[1]) * 60) if match else None
    return None
