"""OAR's forecasts: its own plan of every core (``oarstat --gantt``), in which ours are fitted.

Source: oarstat(1) of 2.5.9, and what it printed.  OAR starts a job in the first gap that is long
enough for it, and delays none that is planned: so does this.  What a job asks for beside cores and
time (memory, GPUs, other properties) is not looked at.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import failed, once
from dask_hpc.drivers.oar_resources import RESOURCES
from dask_hpc.model.forecast import Forecast, starts
from dask_hpc.model.job import JobSpec

#: Seconds of the plan that are asked for, and to which its beginning is rounded, so that all
#: shapes are one question.
_AHEAD, _ROUND = 7 * 86400, 60
#: Seconds that a job gets which asks for none: OAR's own admission rule.
_WALLTIME = 7200
#: Instants that are looked at, each of which costs a look at every core.
_MOST = 100


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    if question.spec.gpus or RESOURCES in question.spec.options:
        return None
    begin = int(now) - int(now) % _ROUND
    window = ", ".join(_written(instant) for instant in (begin, begin + _AHEAD))
    return once(Command(("oarstat", "-J", "-g", window)), heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    if question.spec.gpus or RESOURCES in question.spec.options:
        return Forecast(said="only cores are looked at")
    wrong = failed(heard)
    hosts = {} if wrong is not None else _hosts(heard[-1].stdout)
    if not hosts:
        return wrong or Forecast(said="oarstat --gantt did not tell its resources")
    spec = question.spec
    if sum(len(host.cores) >= spec.cores for host in hosts.values()) < spec.nodes:
        return Forecast(refused=f"no {spec.nodes} host(s) of {spec.cores} cores are alive")
    steps = _fitted(list(hosts.values()), spec, question.jobs, now)
    return Forecast(starts=starts(*steps), said="oarstat --gantt")


@dataclass(slots=True)
class _Host:
    """Cores of a host: what each is taken for, as pairs of instants in their order."""

    cores: list[list[tuple[float, float]]] = field(default_factory=list)

    def free(self, begin: float, end: float) -> list[list[tuple[float, float]]]:
        """Cores that nobody has in a gap."""
        return [core for core in self.cores if _is_free(core, begin, end)]


def _is_free(core: Sequence[tuple[float, float]], begin: float, end: float) -> bool:
    place = bisect_right(core, (begin, float("inf")))
    return (place == 0 or core[place - 1][1] <= begin) and (
        place == len(core) or core[place][0] >= end
    )


def _hosts(text: str) -> dict[str, _Host]:
    """Hosts by name, from the plan."""
    try:
        plan = json.loads(text[text.index("{") : text.rindex("}") + 1])
        taken: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for job in plan["jobs"].values():
            for resource in job["resource_id"]:
                taken[resource].append((float(job["start_time"]), float(job["stop_time"])))
        hosts: dict[str, _Host] = defaultdict(_Host)
        for resource in plan["resources"]:
            if _usable(resource):
                busy = sorted(taken[resource["resource_id"]])
                hosts[str(resource["network_address"])].cores.append(busy)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return hosts


def _usable(resource: Mapping[str, Any]) -> bool:
    return (
        resource.get("state") == "Alive"
        and resource.get("type", "default") == "default"
        and resource.get("drain") != "YES"
    )


def _fitted(
    hosts: Sequence[_Host], spec: JobSpec, jobs: int, now: float
) -> list[tuple[int, float]]:
    """Numbers of jobs that start together, and when: each in the first gap it fits in."""
    lasts = float(spec.walltime or _WALLTIME)
    ends = {end for host in hosts for core in host.cores for _, end in core if end > now}
    instants = [now, *sorted(ends)]
    steps: list[tuple[int, float]] = []
    for _ in range(_MOST):
        if not jobs or not instants:
            break
        begin = heapq.heappop(instants)
        shares = _shares(hosts, spec, begin, begin + lasts)
        started = min(jobs, len(shares) // spec.nodes)
        if started:
            for core in (core for share in shares[: started * spec.nodes] for core in share):
                insort(core, (begin, begin + lasts))
            jobs -= started
            steps.append((started, begin - now))
            heapq.heappush(instants, begin + lasts)
    return steps


def _shares(
    hosts: Sequence[_Host], spec: JobSpec, begin: float, end: float
) -> list[list[list[tuple[float, float]]]]:
    """Cores that are free in a gap, in shares of what a job has on one host."""
    shares = []
    for host in hosts:
        free = host.free(begin, end)
        count = len(free) // spec.cores
        count = min(count, 1) if spec.nodes > 1 else count
        shares += [free[each * spec.cores :][: spec.cores] for each in range(count)]
    return shares


def _written(instant: int) -> str:
    """An instant as oarstat reads it: local time."""
    return datetime.fromtimestamp(instant).astimezone().strftime("%Y-%m-%d %H:%M:%S")
