"""OAR's machines, by oarnodes(1).  No command of a user's lists its queues: one stands for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import most
from dask_hpc.model.queue import Queue

COMMANDS = (Command(("oarnodes", "-J")),)
_MIB = 1 << 20


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    text = "".join(each.stdout for each in outputs)
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return []
    rows = list(found.values() if isinstance(found, dict) else ())
    alive = [row for row in rows if row.get("state") in ("Alive", "Absent")]  # absent: asleep
    if not alive:
        return []
    cores = Counter(str(row.get("host") or row.get("network_address")) for row in alive)
    return [
        Queue(
            name="default",
            nodes=len(cores),
            cores=max(cores.values()),
            memory=most(*(_bytes(row.get("mem", row.get("memnode"))) for row in alive)),
            default=True,
        )
    ]


def _bytes(value: object) -> int | None:
    """Megabytes, as nearly all sites count this property of theirs; OAR itself knows no memory."""
    return int(str(value)) * _MIB if str(value).isdecimal() else None
