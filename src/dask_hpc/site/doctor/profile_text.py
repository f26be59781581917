"""What was seen, written down as a user's own site: a section of the dask configuration.

Pure: what was seen in, values out.  Where the file is, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_hpc.model.queue import Queue
from dask_hpc.node import filesystems
from dask_hpc.node.filesystems import Kind
from dask_hpc.site.doctor.asked import Asked, used_interface
from dask_hpc.site.doctor.checks_between import LOGIN
from dask_hpc.site.doctor.checks_node import LITTLE_ROOM
from dask_hpc.units import format_memory, format_walltime

Reports = Mapping[str, Mapping[str, Any]]


def section(
    name: str,
    *,
    asked: Asked,
    queues: Sequence[Queue],
    reports: Reports,
    routes: Sequence[Mapping[str, Any]],
    day: str,
) -> dict[str, Any]:
    """The section of a site.

    Parameters
    ----------
    name
        Of the site.
    asked
        What is configured.
    queues
        All that the batch system has.
    reports, routes
        Of each machine by its name; between them.
    day
        On which it was seen.
    """
    values: dict[str, Any] = {
        "title": f"{name}, as dask-hpc doctor saw it on {day}",
        "batch": asked.batch,
    }
    queue = _queue(asked, queues)
    if queue is not None and queue.name and asked.queue:
        values["queue"] = queue.name
    values |= _interfaces(asked, reports, routes)
    values |= _scratch(asked, reports)
    nodes = [report.get("query") for name, report in reports.items() if name != LOGIN]
    if any(each and ("error" in each or each["code"] != 0) for each in nodes):
        values["nodes_submit"] = False
    if queue is not None:
        values |= _limits(queue)
    if queues and queues[0].name:
        values["queues"] = {each.name: _limits(each) for each in queues if _limits(each)}
    return values


def _queue(asked: Asked, queues: Sequence[Queue]) -> Queue | None:
    for each in queues:
        if each.name == asked.queue or (asked.queue is None and each.default):
            return each
    usable = [each for each in queues if each.takes_jobs and each.starts_jobs and each.yours]
    if asked.queue or not usable:
        return None
    if len(usable) == 1:
        return usable[0]
    limits = [each.max_walltime for each in usable]
    return Queue(  # the batch system takes the one that fits
        name="",
        cores=max((each.cores or 0 for each in usable), default=0) or None,
        memory=max((each.memory or 0 for each in usable), default=0) or None,
        gpus=max((each.gpus or 0 for each in usable), default=0) or None,
        nodes=max((each.nodes or 0 for each in usable), default=0) or None,
        max_walltime=None if None in limits else max(map(int, filter(None, limits))),
    )


def _limits(queue: Queue) -> dict[str, Any]:
    node = {
        "cores": queue.cores,
        "memory": format_memory(queue.memory) if queue.memory else None,
        "gpus": queue.gpus or None,
        "count": queue.nodes,
    }
    longest = format_walltime(queue.max_walltime) if queue.max_walltime else None
    found = {"node": {key: each for key, each in node.items() if each}, "walltime_limit": longest}
    return {key: each for key, each in found.items() if each}


def _interfaces(
    asked: Asked, reports: Reports, routes: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """The interface over which every route was open, the widest first, or the one in use."""
    best = _best(routes)
    nodes = [report for name, report in reports.items() if name != LOGIN]
    used = {used_interface(asked.interface, report) for report in nodes if "interfaces" in report}
    workers = best or (next(iter(used)) if len(used) == 1 else "")
    if not workers:
        return {}
    if any(workers not in report.get("interfaces", {}) for report in nodes):
        return {}
    here = reports[LOGIN]
    head = workers if workers in here["interfaces"] else used_interface(None, here)
    found = {"interface": workers}
    return found if head == workers else {**found, "scheduler_interface": head}


def _best(routes: Sequence[Mapping[str, Any]]) -> str:
    narrowest: dict[str, float] = {}
    for route in routes:
        width = 0.0 if "error" in route else float(route["bandwidth"])
        name = str(route["interface"])
        narrowest[name] = min(width, narrowest.get(name, width))
    open_ones = {name: each for name, each in narrowest.items() if each}
    fast = {name: (name.startswith(("hsn", "ib")), each) for name, each in open_ones.items()}
    return max(fast, key=lambda name: fast[name], default="")


def _scratch(asked: Asked, reports: Reports) -> dict[str, str]:
    """What is configured, or the first directory that is a local disk with room on every node.

    As ``scratch``, it is looked at again on each node that a job has.
    """
    if asked.local_directory:
        return {"local_directory": asked.local_directory}
    nodes = [report for name, report in reports.items() if name != LOGIN and "disks" in report]
    candidates = dict.fromkeys(label for report in nodes for label in report["disks"])
    candidates.pop("home", None)  # shared, whatever its file system is
    for label in candidates:
        looked = [report["disks"][label] for report in nodes if label in report["disks"]]
        if len(looked) == len(nodes) and all(map(_good, looked)):
            return {"scratch": str(looked[0]["asked"])}
    return {"scratch": asked.scratch} if asked.scratch else {}


def _good(disk: Mapping[str, Any]) -> bool:
    return (
        "error" not in disk
        and filesystems.by_name(disk["type"]).kind not in (Kind.NETWORK, Kind.MEMORY)
        and disk["free"] >= LITTLE_ROOM
    )
