"""What the workers' threads have computed, as the scheduler sees it: told to the book of the jobs.

A plugin of the scheduler, called at every step of every task: nothing here may take long.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed.scheduler import WorkerState

    from dask_hpc.control.controller import Controller


class Usage(SchedulerPlugin):
    """Tells the book how long threads ran tasks.

    A task counts when it ends, by the worker's own clock (the ``compute`` part of what workers
    report with each result and each error: no transfer, no waiting for a thread).  What was running
    when its worker went counts as far as the worker's last heartbeat told of it.

    Parameters
    ----------
    controller
        Of the jobs.
    """

    name = "dask-hpc-usage"

    def __init__(self, controller: Controller) -> None:
        self._book = controller.book
        self._ledger = controller.ledger
        self._workers: dict[str, tuple[WorkerState, str]] = {}  # and the pool, by address
        self._dropped: set[Any] = set()  # tasks that lost their place without a result
        self._dropped_by = ""  # the event that did it

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """See the engine's SchedulerPlugin."""
        state = scheduler.workers[worker]
        key = self._ledger.job_of(str(state.name))
        if key is not None:
            self._workers[worker] = (state, self._ledger.arrays[key.name].pool)

    def transition(
        self,
        key: Any,
        start: str,
        finish: str,  # noqa: ARG002
        *args: Any,  # noqa: ARG002
        stimulus_id: str,
        worker: str = "",
        startstops: Iterable[Mapping[str, Any]] | None = None,
        **_: Any,
    ) -> None:
        """See the engine's SchedulerPlugin."""
        if start != "processing":
            return
        if startstops is None:
            if stimulus_id != self._dropped_by:
                self._dropped, self._dropped_by = set(), stimulus_id
            self._dropped.add(key)
        elif worker in self._workers:
            spent = sum(s["stop"] - s["start"] for s in startstops if s["action"] == "compute")
            self._book.used(self._workers[worker][1], spent)

    def remove_worker(
        self,
        scheduler: Scheduler,  # noqa: ARG002
        worker: str,
        *,
        stimulus_id: str,
        **_: Any,
    ) -> None:
        """See the engine's SchedulerPlugin: it is called after the steps of the worker's tasks."""
        state, pool = self._workers.pop(worker, (None, ""))
        if state is not None and stimulus_id == self._dropped_by:
            silent = max(0.0, time.time() - state.last_seen)
            for task, seconds in state.executing.items():
                if task.key in self._dropped:
                    self._book.undone(pool, seconds + silent)

    def running(self) -> dict[str, float]:
        """Seconds for which threads have run the tasks that are not at their end, by pool."""
        found: defaultdict[str, float] = defaultdict(float)
        now = time.time()
        for state, pool in list(self._workers.values()):  # who asks may be in another thread
            silent = max(0.0, now - state.last_seen)
            for task, seconds in list(state.executing.items()):
                if task in state.processing:
                    found[pool] += seconds + silent
        return dict(found)
