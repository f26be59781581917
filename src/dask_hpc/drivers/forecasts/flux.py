"""Forecasts of Flux: free cores, by ``flux resource list``; when more is free nobody tells.

Source: flux-resource(1).  Nodes are listed together: their cores are taken to be spread evenly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, forecast, once
from dask_hpc.model.forecast import Forecast

_FREE = Command(("flux", "resource", "list"))
_ROW = re.compile(r"^\s*free\s+(?:(\S+)\s+)?(\d+)\s+(\d+)\s+(\d+)(?:\s+\S+)?\s*$", re.MULTILINE)


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    return once(_FREE, heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    wrong = failed(heard)
    if wrong is not None:
        return wrong
    rooms: list[Room] = []
    for queues, *numbers in _ROW.findall(heard[-1].stdout):
        nodes, cores, gpus = map(int, numbers)
        wanted = question.spec.queue
        if nodes and (not wanted or not queues or wanted in queues.split(",")):
            rooms += [Room(cores // nodes, None, gpus // nodes)] * min(nodes, cores)
    return forecast(question, rooms, "free cores, by flux resource list")
