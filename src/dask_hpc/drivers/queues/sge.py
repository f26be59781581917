"""Grid Engine's queues, by ``qstat -F``: qconf answers on administration hosts alone.

Sources: qstat(1), qselect(1), queue_conf(5) of 8.1.9, and what they printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import memory, most, seconds
from dask_hpc.drivers.sge_words import OUTER_JOB, UNSET
from dask_hpc.model.queue import Queue

_HIDE = (*UNSET, *OUTER_JOB)
#: Nobody's jobs, or all of a busy machine's are listed too; ``$user`` is the command's own word.
_NOBODY = "dask-hpc-nobody"
COMMANDS = (
    Command(("qstat", "-F", "h_rt,s_rt,mem_total", "-u", _NOBODY), _HIDE),
    Command(("qselect", "-U", "$user"), _HIDE),
)
#: A queue on a host: type, reserved, used and all slots, load, architecture, states.
_INSTANCE = re.compile(r"^(\S+)@(\S+)\s+\S+\s+\d+/\d+/(\d+)\s+\S+\s+\S+[ \t]*(\S*)\s*$")
_VALUE = re.compile(r"^\t\w+:(\w+)=(\S+)")
#: qstat(1): disabled, suspended, error, ambiguous, orphaned, a host that is unknown.
_STOPPED = set("dDsSEcou")


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    text = {each.command.argv[0]: each.stdout for each in outputs}
    mine = {line.partition("@")[0].strip() for line in text.get("qselect", "").splitlines()}
    found: dict[str, list[dict[str, str]]] = {}
    for line in text.get("qstat", "").splitlines():
        if match := _INSTANCE.match(line):
            queue, _, slots, states = match.groups()
            found.setdefault(queue, []).append({"slots": slots, "states": states})
            last = found[queue][-1]
        elif found and (match := _VALUE.match(line)):
            last[match[1]] = match[2]
    return [_queue(name, rows, mine) for name, rows in found.items()]


def _queue(name: str, instances: Sequence[Mapping[str, str]], mine: set[str]) -> Queue:
    limits = [seconds(row.get(kind, "")) for row in instances for kind in ("s_rt", "h_rt")]
    return Queue(
        name=name,
        max_walltime=min((limit for limit in limits if limit is not None), default=None),
        nodes=len(instances),
        cores=most(*(int(row["slots"]) for row in instances)),
        memory=most(*(memory(row.get("mem_total", "")) for row in instances)),
        # A disabled queue keeps what it is given, and starts nothing (qmod -d).
        starts_jobs=any(not _STOPPED & set(row["states"]) for row in instances),
        yours=not mine or name in mine,
    )
