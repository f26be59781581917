"""Forecasts of HTCondor: what its machines have free, by condor_status.

Source: condor_status(1).  Who gets it next is a matter of the users' priorities, and when more is
free nobody tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, forecast, once
from dask_hpc.drivers.queues.words import whole
from dask_hpc.model.forecast import Forecast

_MIB = 1 << 20
_COLUMNS = ("Machine", "SlotType", "State", "Cpus", "Memory", "GPUs")
#: Not with ``-startd``: from 23.9 those are the machines, which say nothing of their slots.
_SLOTS = Command(("condor_status", "-autoformat:t", *_COLUMNS))


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    return once(_SLOTS, heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    wrong = failed(heard)
    if wrong is not None:
        return wrong
    rooms = []
    for line in heard[-1].stdout.splitlines():
        row = line.split("\t")
        if len(row) != len(_COLUMNS):
            continue
        _, kind, state, cores, memory, gpus = row
        # A partitionable slot has what is left of its machine; a dynamic one is a job's.
        if kind == "Dynamic" or state != "Unclaimed":
            continue
        room = Room(whole(cores) or 0, (whole(memory) or 0) * _MIB, whole(gpus) or 0)
        if kind == "Static":  # it runs one job, however small
            room = Room(question.spec.cores if room.holds(question.spec) else 0)
        rooms.append(room)
    return forecast(question, rooms, "free cores, by condor_status")
