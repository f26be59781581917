"""Forecasts of the embedded batch system: it starts jobs in order, so that walltimes tell.

Nothing starts later than said, if nobody submits in between: jobs may end before their walltime.
"""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import failed, once
from dask_hpc.model.forecast import Forecast, Start, starts
from dask_hpc.model.job import JobSpec

_LOAD = Command((sys.executable, "-P", "-m", "dask_hpc.batch.local", "load"))
_SLOTS = re.compile(r"^slots\|(\d+)$", re.MULTILINE)
_JOB = re.compile(r"^(running|pending)\|(\d+)\|(\d+)$", re.MULTILINE)
#: As the embedded batch system gives a job that asks for none: one day.
_WALLTIME = 86400


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    return once(_LOAD, heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    wrong = failed(heard)
    text = heard[-1].stdout if heard else ""
    match = _SLOTS.search(text)
    if wrong is not None or match is None:
        return wrong or Forecast(said="it did not tell its slots")
    slots, spec = int(match[1]), question.spec
    if spec.cores > slots:
        return Forecast(refused=f"it has {slots} slots")
    jobs = [(kind, int(cores), int(left)) for kind, cores, left in _JOB.findall(text)]
    return Forecast(starts=_in_order(jobs, slots, spec, question.jobs), said="its slots, in order")


def _in_order(
    jobs: Sequence[tuple[str, int, int]], slots: int, spec: JobSpec, wanted: int
) -> tuple[Start, ...]:
    """Play the queue: who is first waits until there is room, and all behind it too."""
    ends = [(left, cores) for kind, cores, left in jobs if kind == "running"]
    heapq.heapify(ends)
    waiting = [(cores, left) for kind, cores, left in jobs if kind == "pending" and cores <= slots]
    ours = [(spec.cores, spec.walltime or _WALLTIME)] * wanted
    free, now = slots - sum(cores for _, cores in ends), 0
    when: dict[int, int] = {}
    for place, (cores, walltime) in enumerate([*waiting, *ours]):
        while free < cores:
            now, freed = heapq.heappop(ends)
            free += freed
        free -= cores
        heapq.heappush(ends, (now + walltime, cores))
        if place >= len(waiting):
            when[now] = when.get(now, 0) + 1
    return starts(*((count, float(seconds)) for seconds, count in when.items()))
