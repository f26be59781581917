"""The scheduler of a head, as thousands of workers join it: in turns, heard, within its limits.

What is shown of it is in :mod:`~dask_hpc.cluster.dashboard`, where it places tasks in
:mod:`~dask_hpc.cluster.lasting`, what it hears of workers that go in
:mod:`~dask_hpc.cluster.leaving`; how long a turn is, in :mod:`~dask_hpc.model.joining`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import dask.config
from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from dask_hpc.cluster.lasting import LastingScheduler
from dask_hpc.cluster.leaving import LeavingScheduler
from dask_hpc.cluster.watched import WatchedScheduler
from dask_hpc.model.joining import TURN, Turns, check_files
from dask_hpc.node.kernel import raise_file_limit

_BACKLOG = "distributed.comm.socket-backlog"
#: Connections that may wait to be accepted; the kernel cuts this down to net.core.somaxconn, 4096
#: unless the administrators say otherwise, and what comes beyond it waits a second or more.
_LONGEST_BACKLOG = 65535

#: Seconds that workers may take to close before the scheduler closes without them.
DISMISSAL = 5.0


class Comings(SchedulerPlugin):
    """Tells whoever waits that a worker has joined or left.

    Parameters
    ----------
    name
        Of the plugin: a scheduler has one of each name.

    Attributes
    ----------
    changed : asyncio.Event
        Set then; who waits clears it first.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.changed = asyncio.Event()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002
        """See the engine's SchedulerPlugin."""
        self.changed.set()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: object) -> None:  # noqa: ARG002
        """See the engine's SchedulerPlugin."""
        self.changed.set()


class HeadScheduler(LastingScheduler, LeavingScheduler, WatchedScheduler):
    """A scheduler that tells supervisors when their workers may join.

    Parameters
    ----------
    options
        See :class:`~dask_hpc.cluster.dashboard.GuardedScheduler`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._turns = Turns()
        self.handlers[TURN] = self._turn

    async def _turn(self, workers: int) -> float:
        return self._turns.take(workers, time.monotonic())

    async def start_unsafe(self) -> Any:
        """Start, as the engine does, with room for many connections."""
        raise_file_limit()
        deep = max(_LONGEST_BACKLOG, int(dask.config.get(_BACKLOG)))
        with dask.config.set({_BACKLOG: deep}):  # read by the listener, once
            return await super().start_unsafe()

    async def see_off(self) -> None:
        """Close the workers before the scheduler does, which would log an error for each.

        Also those that join meanwhile: their jobs had begun before the end did.
        """
        told: set[str] = set()
        comings = Comings("dask-hpc-seeing-off")
        self.add_plugin(comings)
        with suppress(TimeoutError):
            async with asyncio.timeout(DISMISSAL):
                while self.workers:
                    comings.changed.clear()
                    for address in self.workers.keys() - told:
                        self.close_worker(address)
                        told.add(address)
                    await comings.changed.wait()
        self.remove_plugin(comings.name)


def check_room(workers: int) -> None:
    """See that a head in this process can hold so many workers.

    Raises
    ------
    ConfigurationError
        If it may not open that many files.
    """
    check_files(workers, raise_file_limit())
