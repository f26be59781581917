"""Forecasts of LSF and OpenLava: free slots, by bhosts; when more is free nobody tells.

Source: bhosts in IBM's command reference; OpenLava's was recorded, LSF's not seen.  LSF's bslots
tells windows for backfill, where a site keeps reservations; it was not seen either and is not used.
"""

from __future__ import annotations

from collections.abc import Sequence

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, forecast, once
from dask_hpc.model.forecast import Forecast

_HOSTS = Command(("bhosts", "-w"))


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    return once(_HOSTS, heard)


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    wrong = failed(heard)
    if wrong is not None:
        return wrong
    # HOST_NAME STATUS JL/U MAX NJOBS RUN SSUSP USUSP RSV; "-" is no limit: its cores are not told
    rows = [line.split() for line in heard[-1].stdout.splitlines()]
    rooms = [
        Room(int(row[3]) - int(row[4]))
        for row in rows
        if len(row) >= 5 and row[1] == "ok" and row[3].isdecimal() and row[4].isdecimal()  # noqa: PLR2004
    ]
    return forecast(question, rooms, "free slots, by bhosts")
