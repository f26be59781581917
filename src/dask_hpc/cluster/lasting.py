"""Tasks are kept off workers that end before they would, where others can take them.

Which workers end when is told from outside; what becomes of the tasks that are on one when its end
comes is decided in :mod:`~dask_hpc.cluster.draining`.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Mapping
from itertools import islice
from typing import Any

from distributed.core import Status
from distributed.scheduler import TaskPrefix, TaskState, WorkerState

from dask_hpc.cluster.dashboard import GuardedScheduler

#: Queued tasks looked through for those that a worker near its end can still finish; seconds until
#: that is done again, at least, and at least so many times what it took: the whole heap is walked.
_LOOK_THROUGH, _LOOK_AGAIN, _REST = 50, 0.05, 20
_LOOK_AT_LAST = 1.0  # seconds, as long as a task is queued that could run
#: Seconds for which is believed who ends too early for a kind of task: asked for each single one.
_BELIEVED = 0.25


class LastingScheduler(GuardedScheduler):
    """A scheduler that knows until when its workers are of use.

    It overrides what the engine asks when it places a task: with no end near, at the price of one
    comparison.

    Parameters
    ----------
    options
        See :class:`~dask_hpc.cluster.dashboard.GuardedScheduler`.
    """

    def __init__(self, **options: Any) -> None:
        self._ends: list[tuple[float, WorkerState]] = []
        self._short: dict[TaskPrefix, set[WorkerState]] = {}
        self._short_until = 0.0
        self._look_again = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._rootish: TaskState | None = None  # the one for which a worker is asked for next
        super().__init__(**options)

    def set_ends(self, ends: Mapping[str, float]) -> None:
        """Know until when workers can finish tasks.

        Parameters
        ----------
        ends
            Seconds since the epoch by the worker's address; replaces all known.
        """
        known = ((end, self.workers.get(address)) for address, end in ends.items())
        self._ends = sorted(((end, ws) for end, ws in known if ws), key=lambda pair: pair[0])
        self._short_until = 0.0
        # Those that could do better may be gone.
        self.stimulus_queue_slots_maybe_opened(stimulus_id=f"dask-hpc-ends-{time.time()}")

    def _too_short(self, ts: TaskState) -> set[WorkerState]:
        """Workers that end before a task that started now would, if its like has been seen."""
        duration = ts.prefix.duration_average
        if not self._ends or duration <= 0:
            return set()
        now = time.time()
        if self._ends[0][0] >= now + duration:
            return set()
        if now >= self._short_until:
            self._short.clear()
            self._short_until = now + _BELIEVED
        if (short := self._short.get(ts.prefix)) is None:
            count = bisect_left(self._ends, now + duration, key=lambda pair: pair[0])
            short = self._short[ts.prefix] = {ws for _, ws in islice(self._ends, count)}
        return short

    def valid_workers(self, ts: TaskState) -> set[WorkerState] | None:
        """See the engine's; without those that end too early, unless there are no others."""
        valid: set[WorkerState] | None = super().valid_workers(ts)
        if self._ends and (short := self._too_short(ts)):
            others = self.running - short
            if valid is None:
                return others or None
            return (valid - short) or (others if ts.loose_restrictions else None) or valid
        return valid

    # -- tasks without dependencies, of which there are many: the engine asks no valid_workers -----

    def is_rootish(self, ts: TaskState) -> bool:
        """See the engine's; it asks for a worker next, and does not say for which task."""
        rootish: bool = super().is_rootish(ts)
        self._rootish = ts if rootish and self._ends else None
        return rootish

    def decide_worker_rootish_queuing_enabled(self) -> WorkerState | None:
        """See the engine's; None also where only others than those with a slot can finish it."""
        ts, self._rootish = self._rootish, None
        if not self._ends or not self.idle_task_count:
            return super().decide_worker_rootish_queuing_enabled()
        short = self._too_short(ts or self.queued.peek())
        if short and (free := self.idle_task_count - short):
            return min(free, key=lambda ws: len(ws.processing) / ws.nthreads)
        if short and not self.running <= short:
            if self._looking is None:
                self._look_in(_LOOK_AT_LAST)
            return None
        return super().decide_worker_rootish_queuing_enabled()

    def decide_worker_rootish_queuing_disabled(self, ts: TaskState) -> WorkerState | None:
        """See the engine's; another one if that ends too early."""
        self._rootish = None
        ws = super().decide_worker_rootish_queuing_disabled(ts)
        if ws is not None and self._ends and ws in self._too_short(ts):
            return self.decide_worker_non_rootish(ts) or ws
        return ws

    def stimulus_queue_slots_maybe_opened(self, *, stimulus_id: str) -> None:
        """See the engine's; what the first in the queue cannot use goes to those behind it."""
        if not self._ends:
            super().stimulus_queue_slots_maybe_opened(stimulus_id=stimulus_id)
            return
        # Not the engine's, which would ask again for each slot that the first one cannot use.
        while self.queued and self.idle_task_count:
            ts = self.queued.peek()
            self.transitions({ts.key: "processing"}, stimulus_id)
            if ts.state == "queued":
                self._look_behind(stimulus_id)
                return

    def _look_behind(self, stimulus_id: str) -> None:
        began = time.monotonic()
        if began < self._look_again:
            self._look_in(self._look_again - began)
            return
        too_long = set()  # kinds of tasks; there are many tasks of each
        for ts in list(self.queued.peekn(_LOOK_THROUGH)):
            if ts.prefix in too_long or ts.state != "queued":
                continue
            if self.idle_task_count <= self._too_short(ts):
                too_long.add(ts.prefix)
                continue
            self._rootish = ts
            self.transitions({ts.key: "processing"}, stimulus_id)
        self._rootish = None
        now = time.monotonic()
        self._look_again = now + max(_LOOK_AGAIN, _REST * (now - began))
        self._look_in(_LOOK_AT_LAST)

    def _look_in(self, seconds: float) -> None:
        """Look again though nothing happens: those that could do better may go without a word."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look_later)

    def _look_later(self) -> None:
        self._looking = None
        if self.status is Status.running:
            self.stimulus_queue_slots_maybe_opened(stimulus_id=f"dask-hpc-look-{time.time()}")
