"""Queues of PBS and TORQUE: ``qstat -Qf``, with the nodes of ``pbsnodes -a``.

Sources: qstat(1B), pbs_queue_attributes(7B), pbsnodes(8B), and what OpenPBS 23.06 (JSON) and
TORQUE (text) printed (tests/drivers/transcripts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.queues.words import memory, most, seconds, whole
from dask_hpc.model.queue import Queue

COMMANDS = (
    Command(("qstat", "-Qf", "-F", "json")),
    Command(("pbsnodes", "-a", "-F", "json")),
)


def read(outputs: Sequence[Output]) -> list[Queue]:
    """See :class:`~dask_hpc.drivers.queues.Reader`."""
    queues, machines = [], []
    for output in outputs:
        text = output.stdout
        if output.command.argv[0] == "pbsnodes":
            machines += nodes(output)
        else:
            json_text = text.startswith("{")
            queues += _objects(text, "Queue") if json_text else _blocks(text, r"Queue:\s*(\S+)")
    return [_queue(name, fields, machines) for name, fields in queues]


def nodes(output: Output) -> list[dict[str, str]]:
    """What ``pbsnodes -a`` says of each node, in JSON or in text."""
    text = output.stdout
    found = _objects(text, "nodes") if text.startswith("{") else _blocks(text, r"(\S+)")
    return [fields for _, fields in found]


def _objects(text: str, key: str) -> list[tuple[str, dict[str, str]]]:
    """The same as `_blocks` of JSON, with nested values as ``outer.inner``."""
    try:
        objects = json.loads(text).get(key, {})
    except ValueError:
        return []
    return [(str(name), _flat(fields)) for name, fields in objects.items()]


def _flat(fields: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": str(each) for inner, each in value.items()}
        else:
            found[name] = str(value)
    return found


def _blocks(text: str, heading: str) -> list[tuple[str, dict[str, str]]]:
    """Headings at the margin, with the ``name = value`` lines below each."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in re.sub(r"\n\t", "", text).splitlines():  # qstat folds long values with a tab
        if match := re.fullmatch(heading, line.rstrip()):
            found.append((match[1], {}))
        elif found and " = " in line:
            name, _, value = line.strip().partition(" = ")
            found[-1][1][name] = value.strip()
    return found


def _queue(name: str, fields: Mapping[str, str], nodes: Sequence[Mapping[str, str]]) -> Queue:
    def limit(resource: str, kind: str = "max") -> str:
        return fields.get(f"resources_{kind}.{resource}", "")

    return Queue(
        name=name,
        max_walltime=seconds(limit("walltime")),
        default_walltime=seconds(limit("walltime", "default")),
        nodes=len(nodes) or None,
        cores=most(*map(_cores, nodes)),
        memory=most(*map(_memory, nodes)),
        gpus=most(*(whole(node.get("resources_available.ngpus", "0")) for node in nodes)),
        max_nodes=whole(limit("nodect")),
        max_cores=whole(limit("ncpus")),
        max_jobs=whole(fields.get("max_user_run", "")),
        takes_jobs=fields.get("enabled") != "False",
        starts_jobs=fields.get("started") != "False",
        routes=fields.get("queue_type", "").startswith("Route"),
        groups=tuple(fields["acl_groups"].split(","))
        if fields.get("acl_group_enable") == "True" and fields.get("acl_groups")
        else (),
    )


def _cores(node: Mapping[str, str]) -> int | None:
    return whole(node.get("resources_available.ncpus", node.get("np", "")))


def _memory(node: Mapping[str, str]) -> int | None:
    if told := node.get("resources_available.mem"):
        return memory(told)
    match = re.search(r"physmem=(\w+)", node.get("status", ""))  # TORQUE's
    return memory(match[1]) if match else None
