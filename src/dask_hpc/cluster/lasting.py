"""Tasks are kept off workers that end before they would, where others can take them.

Which workers end when is told from outside; what becomes of the tasks that are on one when its end
comes is decided in :mod:`~dask_hpc.cluster.draining`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from itertools import islice
from typing import Any

from distributed.scheduler import TaskState, WorkerState

from dask_hpc.cluster.dashboard import GuardedScheduler

#: Queued tasks looked through for one that a worker near its end can still finish.  The engine has
#: them sorted by priority only, and this is done whenever a task ends somewhere.
_LOOK_THROUGH = 50


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
        self.offer_slots()

    def offer_slots(self) -> None:
        """Have queued tasks take what slots there are: workers that could do better may be gone."""
        if self.queued:
            self.stimulus_queue_slots_maybe_opened(stimulus_id=f"dask-hpc-ends-{time.time()}")

    def _too_short(self, ts: TaskState) -> set[WorkerState]:
        """Workers that end before a task that started now would, if its like has been seen."""
        duration = ts.prefix.duration_average
        if not self._ends or duration <= 0:
            return set()
        horizon = time.time() + duration
        if self._ends[0][0] >= horizon:
            return set()
        count = bisect_left(self._ends, horizon, key=lambda pair: pair[0])
        return {ws for _, ws in islice(self._ends, count)}

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
        ws = super().decide_worker_rootish_queuing_enabled()
        if ws is None or not self._ends:
            return ws
        ts = ts or self.queued.peek()
        if ws not in (short := self._too_short(ts)):
            return ws
        if free := self.idle_task_count - short:
            return min(free, key=lambda ws: len(ws.processing) / ws.nthreads)
        return None if self.running - short else ws

    def decide_worker_rootish_queuing_disabled(self, ts: TaskState) -> WorkerState | None:
        """See the engine's; another one if that ends too early."""
        self._rootish = None
        ws = super().decide_worker_rootish_queuing_disabled(ts)
        if ws is not None and self._ends and ws in self._too_short(ts):
            return self.decide_worker_non_rootish(ts) or ws
        return ws

    def stimulus_queue_slots_maybe_opened(self, *, stimulus_id: str) -> None:
        """See the engine's; then what the first in the queue cannot use goes to those behind it."""
        super().stimulus_queue_slots_maybe_opened(stimulus_id=stimulus_id)
        if not (self._ends and self.queued and self.idle_task_count):
            return
        for ts in list(self.queued.peekn(_LOOK_THROUGH)):
            if not self.idle_task_count:
                return
            if ts.state == "queued" and self.idle_task_count - self._too_short(ts):
                self._rootish = ts
                self.transitions({ts.key: "processing"}, stimulus_id)
        self._rootish = None
