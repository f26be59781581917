"""HTCondor's machines, by condor_status(1): it has no queues, one without a name stands for all."""

from __future__ import annotations

from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import most, whole
from dask_hpc.model.queue import Queue

_MIB = 1 << 20
#: The whole machine's: a partitionable slot's own attributes are what it has left.
COMMANDS = (
    Command(
        (
            *("condor_status", "-startd", "-autoformat:t"),
            *("Machine", "TotalCpus", "TotalMemory", "TotalGPUs"),
        )
    ),
)


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    lines = "\n".join(each.stdout for each in outputs).splitlines()
    rows = [row for row in (line.split("\t") for line in lines) if len(row) == 4]  # noqa: PLR2004
    if not rows:
        return []
    return [
        Queue(
            name="",
            nodes=len({row[0] for row in rows}),
            cores=most(*(whole(row[1]) for row in rows)),
            memory=most(*((whole(row[2]) or 0) * _MIB or None for row in rows)),
            gpus=most(*(whole(row[3]) for row in rows)),
            default=True,
        )
    ]
