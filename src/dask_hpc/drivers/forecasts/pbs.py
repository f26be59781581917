"""Forecasts of PBS: what its nodes have free, by pbsnodes; when more is free nobody tells.

Source: pbsnodes(8B).  OpenPBS estimates starts of jobs that wait (``estimated.start_time``), but
answers nothing for one that was not submitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, forecast, once
from dask_hpc.drivers.queues.pbs import COMMANDS, nodes
from dask_hpc.drivers.queues.words import memory, whole
from dask_hpc.model.forecast import Forecast

_NODES = COMMANDS[1]


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    return once(_NODES, heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    wrong = failed(heard)
    if wrong is not None:
        return wrong
    rooms = [_room(node) for node in nodes(heard[-1]) if node.get("state") == "free"]
    return forecast(question, rooms, "free cores, by pbsnodes")


def _room(node: Mapping[str, str]) -> Room:
    def left(resource: str) -> int | None:
        there = node.get(f"resources_available.{resource}")
        if there is None:
            return None
        read = memory if resource == "mem" else whole
        return (read(there) or 0) - (read(node.get(f"resources_assigned.{resource}", "0")) or 0)

    return Room(left("ncpus") or 0, left("mem"), left("ngpus") or 0)
