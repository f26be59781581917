"""Forecasts of TORQUE: what its nodes have free, by pbsnodes; when more is free nobody tells.

Source: pbsnodes(8B): ``np`` slots, of which ``jobs`` names the taken ones (``0-3/12.server``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dask_hpc.drivers.base import Command, Output, parse_ranges
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, forecast, once
from dask_hpc.drivers.queues.pbs import nodes
from dask_hpc.drivers.queues.torque import COMMANDS
from dask_hpc.drivers.queues.words import whole
from dask_hpc.model.forecast import Forecast

_NODES = COMMANDS[1]
#: Slots of one job: ``0-3,5/12.server``, followed by another or the end.
_TAKEN = re.compile(r"(\d[\d,-]*)/\S+?(?=,|\s|$)")


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    return once(_NODES, heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    wrong = failed(heard)
    if wrong is not None:
        return wrong
    rooms = [_room(node) for node in nodes(heard[-1]) if node.get("state") == "free"]
    return forecast(question, rooms, "free slots, by pbsnodes")


def _room(node: Mapping[str, str]) -> Room:
    taken: set[int] = set()
    for text in _TAKEN.findall(node.get("jobs", "")):
        try:
            taken.update(parse_ranges(text.strip(",")))
        except ValueError:
            return Room(0)  # not understood: none is known to be free
    return Room((whole(node.get("np", "")) or 0) - len(taken))
