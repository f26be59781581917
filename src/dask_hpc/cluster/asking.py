"""Ask a worker whether a task has begun, and have it let go of one that has not.

It is the engine's own protocol for moving a task from one worker to another, the one exact and
immediate answer there is: given where tasks begin, in one step with letting go.  Heartbeats tell
what runs too, but up to their interval late: seconds, with many workers.  The protocol is no
published interface of the engine; it is used here alone, and the tests of draining fail if it
changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Scheduler
from distributed.scheduler import TaskState

#: What our questions are marked with: answers to others' are the engine's.
_MARK = "dask-hpc-begun-"
#: How a worker says that it had not begun a task, and has let go of it or never knew it.
_NOT_BEGUN = frozenset({"ready", "constrained", "waiting", "released", None})


class Questions:
    """Asks workers about their tasks; one for each scheduler.

    Parameters
    ----------
    scheduler
        Of the tasks.
    begun
        Called with a task that has begun, and the address of its worker.
    let_go
        Called with a task that has not begun, and now never will there.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        begun: Callable[[TaskState, str], None],
        let_go: Callable[[TaskState], None],
    ) -> None:
        self._scheduler = scheduler
        self._begun = begun
        self._let_go = let_go
        # None where the user has turned work stealing off: then all answers are ours.
        self._engines = scheduler.stream_handlers.get("steal-response")
        scheduler.stream_handlers["steal-response"] = self._answer

    def ask(self, ts: TaskState) -> None:
        """Ask the worker that a task is on; the answer comes after what it was told before this."""
        # A run has its number: an answer is of no use once the task went there a second time.
        message = {"op": "steal-request", "key": ts.key, "stimulus_id": f"{_MARK}{ts.run_id}"}
        self._scheduler.worker_send(ts.processing_on.address, message)

    def _answer(self, *, stimulus_id: str, **answer: Any) -> None:
        if stimulus_id.startswith(_MARK):
            self._answered(int(stimulus_id.removeprefix(_MARK)), **answer)
        elif self._engines is not None:
            self._engines(stimulus_id=stimulus_id, **answer)

    def _answered(self, run: int, *, key: Any, state: str | None, worker: str) -> None:
        ts = self._scheduler.tasks.get(key)
        if ts is None or ts.processing_on is None or ts.run_id != run:
            return  # it ended, or moved, before the worker read the question
        if state in _NOT_BEGUN:
            self._let_go(ts)
        else:
            self._begun(ts, worker)
