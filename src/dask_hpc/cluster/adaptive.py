"""Follows the demand: asks the scheduler what it could use, and the controller for that.

It runs in the head's event loop.  How many workers of each pool the tasks could use is found in
:mod:`.workload`, how many jobs a demand is worth in :mod:`~dask_hpc.control.demand`, which of them
go in :mod:`~dask_hpc.control.reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import parse_timedelta

from dask_hpc.cluster import workload
from dask_hpc.cluster.workload import Load, Needs, Room
from dask_hpc.control.backoff import RETURN
from dask_hpc.control.demand import Bounds, Demand

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_hpc.cluster.head_pools import PoolWorkers
    from dask_hpc.control.controller import Controller

logger = logging.getLogger("dask_hpc")

#: The head has more to do than to look at its tasks: a look may take this part of its time.
_PART = 0.05


@dataclass(frozen=True, slots=True)
class Following:
    """How the size of one pool follows its tasks.

    Parameters
    ----------
    demand
        Its recent demand.
    interval
        Seconds between two looks.
    target_duration
        Seconds in which the work at hand should be done, as the engine's own adaptive scaling has
        it; None takes its setting.
    """

    demand: Demand
    interval: float
    target_duration: float | None = None

    @property
    def duration(self) -> float:
        """The same, as a number."""
        if self.target_duration is not None:
            return self.target_duration
        return float(parse_timedelta(dask.config.get("distributed.adaptive.target-duration")))

    def told(self) -> dict[str, Any]:
        """All of it as JSON values, for the journal."""
        bounds = self.demand.bounds
        return {
            "minimum": bounds.minimum,
            "maximum": bounds.maximum,
            "patience": self.demand.fixed,
            "interval": self.interval,
            "target_duration": self.target_duration,
        }

    @classmethod
    def resumed(cls, told: Mapping[str, Any], jobs: int) -> Following:
        """From the journal, after a new head has taken over so many jobs.

        None of them is given up before clients have had the time to come back.
        """
        demand = Demand(Bounds(told["minimum"], told["maximum"]), told["patience"])
        demand.want(jobs, time.monotonic() + RETURN)
        return cls(demand, told["interval"], told["target_duration"])


class Adaptive:
    """Pools whose sizes follow their tasks.

    Parameters
    ----------
    scheduler
        Of the tasks.
    controller
        Of the jobs.
    workers
        The controller's view of the workers: it is told which of them work for other pools.
    """

    def __init__(self, scheduler: Scheduler, controller: Controller, workers: PoolWorkers) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._controller = controller
        self._followed: dict[str, Following] = {}
        self._stuck: set[Needs] = set()  # that were told of
        self._task: asyncio.Task[None] | None = None

    def follow(self, pool: str, following: Following) -> None:
        """Follow the demand of a pool from now on."""
        self._followed[pool] = following
        self._cancel()
        self._task = asyncio.create_task(self._run(), name="dask-hpc adaptive")

    def bounds(self) -> dict[str, Bounds]:
        """Between how many jobs each pool moves that is followed."""
        return {pool: each.demand.bounds for pool, each in self._followed.items()}

    def leave(self, pools: Collection[str]) -> None:
        """Follow these pools no longer; their jobs stay as many as they are."""
        for pool in pools:
            self._followed.pop(pool, None)
        if not self._followed:
            self._workers.lent = set()
            self._cancel()

    def stop(self) -> None:
        """Follow nothing any longer."""
        self.leave(list(self._followed))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            interval = min(each.interval for each in self._followed.values())
            began = time.monotonic()
            try:
                self._controller.want(self._jobs())
            except Exception:  # whatever it is: without a next look the size would never change
                logger.exception("adapt() could not see what is needed; it looks again")
                interval = max(interval, 1.0)
            await asyncio.sleep(max(interval, (time.monotonic() - began) / _PART))

    def _jobs(self) -> dict[str, int]:
        """Jobs to want of each pool that is followed."""
        pools, now = self._controller.pools, time.monotonic()
        workers = self._needed()
        return {
            name: each.demand.want(
                -(-workers[name] // pools[name].workers_per_job),
                now,
                self._controller.ledger.arrivals.get(name, ()),
            )
            for name, each in self._followed.items()
        }

    def _needed(self) -> Mapping[str, int]:
        """Workers that the tasks could use; of a cluster of one pool the engine's own figure."""
        if len(self._controller.pools) == 1:
            ((name, each),) = self._followed.items()
            target = self._scheduler.adaptive_target(target_duration=each.target_duration)
            return {name: int(target)}
        work = workload.loads(self._scheduler)
        rooms = [self._room(name) for name in self._controller.pools]
        self._tell_stuck(work, rooms)
        needed = workload.needed(self._scheduler, workload.share(work, rooms))
        self._workers.lent = needed.lent
        return needed.workers

    def _room(self, name: str) -> Room:
        pool, following = self._controller.pools[name], self._followed.get(name)
        if following is None:  # its size is the user's word: what it takes on, others need not
            jobs: int | None = self._controller.wanted[name]
            duration = min(each.duration for each in self._followed.values())
        else:
            jobs, duration = following.demand.bounds.maximum, following.duration
        return Room(pool, None if jobs is None else jobs * pool.workers_per_job, duration)

    def _tell_stuck(self, work: Mapping[Needs, Load], rooms: list[Room]) -> None:
        """Tell once of tasks that no pool can run, or only pools that are to have no jobs."""
        for needs in work.keys() - self._stuck:
            fitting = [room for room in rooms if room.at_a_time(needs)]
            if not work[needs].stuck or any(room.most != 0 for room in fitting):
                continue
            self._stuck.add(needs)
            names = " or ".join(room.pool.name for room in fitting)
            logger.warning(
                "tasks that ask for %s wait: %s",
                workload.told(needs) or "nothing",
                f"pool {names} is to have no jobs, see scale() and adapt()"
                if fitting
                else "no pool of this cluster has it",
            )
