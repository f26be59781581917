"""Flux's queues, by ``flux queue list`` (flux-queue(1)) as it was recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import whole
from dask_hpc.model.queue import Queue

COMMANDS = (Command(("flux", "queue", "list")), Command(("flux", "resource", "list")))

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_YES = "✔y"


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    text = {each.command.argv[1]: _COLOUR.sub("", each.stdout) for each in outputs}
    size = _machine(text.get("resource", ""))
    found = []
    for line in text.get("queue", "").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 6:  # noqa: PLR2004
            found.append(_queue(fields, size))
    return found


def _queue(fields: Sequence[str], size: tuple[int | None, int | None, int | None]) -> Queue:
    name, enabled, started, default, limit, nodes, *rest = fields
    cores = rest[0] if rest else ""
    most_nodes, most_cores = _end(nodes), _end(cores)
    return Queue(
        name=name.removesuffix("*"),
        max_walltime=_seconds(limit),
        default_walltime=_seconds(default),
        nodes=size[0],
        cores=size[1],
        gpus=size[2],
        max_nodes=most_nodes,
        max_cores=most_cores,
        takes_jobs=enabled[0] in _YES,
        starts_jobs=started[0] in _YES,
        default=name.endswith("*"),
    )


def _machine(text: str) -> tuple[int | None, int | None, int | None]:
    """Nodes, and cores and GPUs of one, of all that are free or allocated."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*(free|allocated)\b", line)]
    rows = [row for row in rows if len(row) >= 6]  # noqa: PLR2004  (a node list is the last)
    sums = [sum(int(row[at]) for row in rows) for at in (-4, -3, -2)]
    if not rows or not sums[0]:
        return None, None, None
    return sums[0], sums[1] // sums[0], sums[2] // sums[0]


def _end(text: str) -> int | None:
    """The most of a range such as ``0-12``; "inf" is none."""
    return whole(text.rpartition("-")[2])


def _seconds(text: str) -> int | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None
