"""Slurm's partitions, by sinfo(1): one line for each kind of node in each partition."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import added, most, seconds, whole
from dask_hpc.model.queue import Queue

_MIB = 1 << 20
_FORMAT = "%P|%a|%l|%L|%D|%c|%m|%G|%s|%g"

#: ``--exact``, or nodes that differ are one line with the smallest of them and a plus.
COMMANDS = (
    Command(("sinfo", "--noheader", "--all", "--exact", f"--format={_FORMAT}"), ("SINFO_*",)),
)


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    found: dict[str, Queue] = {}
    for line in "\n".join(each.stdout for each in outputs).splitlines():
        if (queue := _queue(line)) is not None:
            known = found.get(queue.name)
            found[queue.name] = _together(known, queue) if known else queue
    return list(found.values())


def _queue(line: str) -> Queue | None:
    fields = [field.strip() for field in line.split("|")]
    if len(fields) != _FORMAT.count("|") + 1:
        return None
    name, state, limit, default, nodes, cores, memory, gres, size, groups = fields
    return Queue(
        name=name.removesuffix("*"),
        max_walltime=seconds(limit),
        default_walltime=seconds(default),
        nodes=whole(nodes),
        cores=whole(cores),
        memory=(whole(memory) or 0) * _MIB or None,
        gpus=_gpus(gres),
        max_nodes=whole(size.rpartition("-")[2]),
        # sinfo(1), PARTITION STATE: up; down queues and does not start; drain, inact do not queue.
        takes_jobs=state in ("up", "down"),
        starts_jobs=state in ("up", "drain"),
        default=name.endswith("*"),
        groups=() if groups in ("all", "") else tuple(groups.split(",")),
    )


def _gpus(text: str) -> int:
    """GPUs in a list such as ``gpu:a100:4(S:0-1),nvme:1``."""
    plain = re.sub(r"\([^)]*\)", "", text)
    return sum(int(number) for number in re.findall(r"\bgpu(?::[^:,]+)?:(\d+)", plain))


def _together(one: Queue, other: Queue) -> Queue:
    return Queue(
        name=one.name,
        max_walltime=one.max_walltime,
        default_walltime=one.default_walltime,
        nodes=added(one.nodes, other.nodes),
        cores=most(one.cores, other.cores),
        memory=most(one.memory, other.memory),
        gpus=most(one.gpus, other.gpus),
        max_nodes=one.max_nodes,
        takes_jobs=one.takes_jobs,
        starts_jobs=one.starts_jobs,
        default=one.default,
        groups=one.groups,
    )
