"""Follows the demand: asks the scheduler what it could use, and the controller for that.

It runs in the head's event loop.  How many jobs a demand is worth is decided in
:mod:`~dask_hpc.control.demand`, which of them go in :mod:`~dask_hpc.control.reconcile`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_hpc.control.controller import Controller
    from dask_hpc.control.demand import Demand
    from dask_hpc.model.pool import Pool


class Adaptive:
    """A cluster whose size follows its tasks.

    Parameters
    ----------
    scheduler
        Of the tasks.
    controller
        Of the jobs.
    pool
        The jobs to have more or fewer of.
    demand
        Its recent demand.
    interval
        Seconds between two looks.
    target_duration
        Seconds in which the work at hand should be done, as the engine's own adaptive scaling has
        it; None takes its setting.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        controller: Controller,
        pool: Pool,
        demand: Demand,
        interval: float,
        target_duration: float | None = None,
    ) -> None:
        self.demand = demand
        self._scheduler = scheduler
        self._controller = controller
        self._pool = pool
        self._interval = interval
        self._target_duration = target_duration
        self._task = asyncio.create_task(self._run(), name="dask-hpc adaptive")

    def stop(self) -> None:
        """Follow no longer; the jobs stay as many as they are."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            self._controller.want({self._pool.name: self._jobs()})
            await asyncio.sleep(self._interval)

    def _jobs(self) -> int:
        workers = self._scheduler.adaptive_target(target_duration=self._target_duration)
        needed = -(-int(workers) // self._pool.workers_per_job)
        return self.demand.want(needed, time.monotonic(), self._controller.ledger.waits)
