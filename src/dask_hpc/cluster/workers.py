"""The scheduler's workers, as the controller sees them: their load, their end, what was lost.

How they are drained is in :mod:`~dask_hpc.cluster.draining`, where tasks are placed in
:mod:`~dask_hpc.cluster.lasting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from distributed import Scheduler
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import WorkerState

from dask_hpc.cluster.draining import Draining
from dask_hpc.cluster.lasting import LastingScheduler
from dask_hpc.cluster.way_out import cut_off
from dask_hpc.control.drain import hand_over_time

#: What the end of a worker is called that the user wanted, with whatever it held.
_TO_ZERO = "dask-hpc-scale-to-zero"


#: States of tasks that run, or will.
_AT_HAND = ("waiting", "queued", "no-worker", "processing")


class Losses(SchedulerPlugin):
    """Counts what workers that went had not handed over."""

    name = "dask-hpc-losses"

    def __init__(self, scheduler: Scheduler) -> None:
        self.tasks = 0
        self.keys = 0
        self.over = False
        self.meant: set[str] = set()  # addresses of workers that go with all they hold
        self._scheduler = scheduler
        self._workers: dict[str, WorkerState] = dict(scheduler.workers)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """See the engine's SchedulerPlugin."""
        self._workers[worker] = scheduler.workers[worker]

    def log_event(self, topic: str, msg: Any) -> None:
        """See the engine's SchedulerPlugin; it tells what was lost here alone."""
        if topic != "all" or not isinstance(msg, dict) or msg.get("action") != "remove-worker":
            return
        ws = self._workers.pop(msg["worker"], None)
        over = self.over or self._scheduler.status is not Status.running
        if over or msg["worker"] in self.meant:
            self.meant.discard(msg["worker"])
            return
        self.keys += len(msg["lost-computed-tasks"]) + len(msg["lost-scattered-tasks"])
        threads = 0 if ws is None else ws.nthreads + len(ws.long_running)
        self.tasks += min(len(msg["processing-tasks"]), threads)


class SchedulerWorkers:
    """The controller's view of the scheduler's workers.

    Parameters
    ----------
    scheduler
        Theirs.
    """

    def __init__(self, scheduler: LastingScheduler) -> None:
        self._scheduler = scheduler
        self._draining = Draining(scheduler)
        self._losses = Losses(scheduler)
        scheduler.add_plugin(self._losses)

    @property
    def tasks_rerun(self) -> int:
        """Tasks that had begun and were started again: at a deadline, or as their worker died.

        Of a worker that died, those that its threads can have begun.
        """
        return self._draining.rerun + self._losses.tasks

    @property
    def keys_lost(self) -> int:
        """Results and scattered data that were lost with a worker, but for those on purpose."""
        return self._losses.keys

    def load(self) -> Mapping[str, float]:
        """Bytes held by each worker, by its name."""
        return {str(ws.name): float(ws.nbytes) for ws in self._scheduler.workers.values()}

    def busy(self) -> Collection[str]:
        """Names of the workers with tasks, those that start other tasks and wait for them too."""
        workers = self._scheduler.workers.values()
        return {str(ws.name) for ws in workers if ws.processing or ws.long_running}

    def longest_task(self) -> float:
        """Seconds that the longest of the tasks at hand is expected to take; 0 where none is."""
        return max(
            (
                prefix.duration_average
                for prefix in self._scheduler.task_prefixes.values()
                if any(prefix.states[state] for state in _AT_HAND)
            ),
            default=0.0,
        )

    def deadlines(self, deadlines: Mapping[str, float]) -> None:
        """Know when workers are ended by force.

        Parameters
        ----------
        deadlines
            Seconds since the epoch by the worker's name; replaces all known.
        """
        scheduler = self._scheduler
        known = {
            ws.address: (deadlines[str(ws.name)], ws.nbytes)
            for ws in scheduler.workers.values()
            if str(ws.name) in deadlines
        }
        self._draining.deadlines = {address: date for address, (date, _) in known.items()}
        ends = {
            address: date - hand_over_time(nbytes, scheduler.bandwidth)
            for address, (date, nbytes) in known.items()
        }
        scheduler.set_ends(ends)

    async def retire(
        self, names: Collection[str], *, force: bool, deadline: float | None = None
    ) -> set[str]:
        """Let these workers finish what they can, hand over the rest, and close.

        Parameters
        ----------
        names
            Of the workers.
        force
            Close them even where their data has nowhere to go, and at once (the user wants no
            workers at all).
        deadline
            Seconds since the epoch at which their job is ended by force; None: no hurry.

        Returns
        -------
        set
            Names of those that closed.
        """
        workers = self._of(names)
        if force:
            await self._dismiss(workers)
        else:
            await self._draining.drain(workers, deadline)
        return set(names) - {str(ws.name) for ws in self._scheduler.workers.values()}

    async def _dismiss(self, workers: Collection[WorkerState]) -> None:
        # Copies first: workers that somebody started by hand stay.
        await self._scheduler.retire_workers(
            workers=[ws.address for ws in workers], remove=False, stimulus_id=_TO_ZERO
        )
        left = [ws for ws in workers if self._scheduler.workers.get(ws.address) is ws]
        self._losses.meant |= {ws.address for ws in left}
        await asyncio.gather(*(cut_off(self._scheduler, ws, _TO_ZERO) for ws in left))

    def _of(self, names: Collection[str]) -> list[WorkerState]:
        wanted = set(names)
        return [ws for ws in self._scheduler.workers.values() if str(ws.name) in wanted]

    def close(self) -> None:
        """Count no more: the cluster ends, and its workers with it."""
        self._losses.over = True
