"""Workers that may go at any moment hold no result alone for longer than a copy takes.

Policies of the engine's Active Memory Manager, whose public extension interface they use: it runs
them every few seconds (``distributed.scheduler.active-memory-manager.interval``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice

from distributed import Scheduler
from distributed.active_memory_manager import (
    ActiveMemoryManagerExtension,
    ActiveMemoryManagerPolicy,
    ReduceReplicas,
    Suggestion,
    SuggestionGenerator,
)
from distributed.scheduler import TaskState, WorkerState

#: Whether a worker is one that may go at any moment.
MayGo = Callable[[WorkerState], bool]

#: Part of a worker's memory that copies may fill: above it the engine's workers begin to spill.
_ROOM = 0.6
#: Results in one round at most, looked at and copied: the scheduler has more to do.
_LOOKED_AT, _COPIED = 50_000, 2000


class KeepElsewhere(ActiveMemoryManagerPolicy):
    """Copies results that are on preemptible workers alone to one that stays.

    First what cannot be computed again, then what a client holds, then what tasks wait for; of
    each the smallest first.  In one round not more than those that stay can receive until the
    next, by the engine's measured bandwidth, and no more than they have memory for.

    Parameters
    ----------
    may_go
        Tells preemptible workers from others.
    """

    def __init__(self, may_go: MayGo) -> None:
        self._may_go = may_go
        self._first = 0  # of the workers, in the next round

    def run(self) -> SuggestionGenerator:
        """See the engine's policy."""
        scheduler, memory = self.manager.scheduler, self.manager.workers_memory
        going = [ws for ws in scheduler.workers.values() if self._may_go(ws)]
        staying = {ws for ws in scheduler.running.difference(going) if _has_room(ws, memory[ws])}
        if not going or not staying:
            return
        budget = scheduler.bandwidth * self.manager.interval * len(staying)
        for ts in islice(sorted(self._at_risk(going), key=_urgency), _COPIED):
            if budget <= 0 or not staying:
                return
            chosen = yield Suggestion("replicate", ts, staying)
            if chosen is not None:
                budget -= ts.nbytes  # the last one may exceed it, or a large one never had its turn
                if not _has_room(chosen, memory[chosen]):
                    staying.discard(chosen)

    def _at_risk(self, going: Sequence[WorkerState]) -> set[TaskState]:
        """Results without a copy on a worker that stays, made or asked for; some, if very many."""
        self._first = (self._first + 1) % len(going)  # so that none is left out for ever
        turn, unsafe = [*going[self._first :], *going[: self._first]], set(going)
        results = chain.from_iterable(ws.has_what for ws in turn)
        return {
            ts
            for ts in islice(results, _LOOKED_AT)
            if not ts.actor
            and (ts.who_wants or ts.waiters)
            and unsafe.issuperset(ts.who_has or ())
            and not (ts in self.manager.pending and self.manager.pending[ts][0])
        }


class ReduceThere(ReduceReplicas):
    """The engine's own policy against superfluous copies, which drops those that may go first.

    The engine's drops the copy on the fuller worker: that may be the one that stays, and the
    result would be copied again and again.

    Parameters
    ----------
    may_go
        Tells preemptible workers from others.
    """

    def __init__(self, may_go: MayGo) -> None:
        self._may_go = may_go

    def run(self) -> SuggestionGenerator:
        """See the engine's policy, which does not look at what becomes of its suggestions."""
        for suggestion in super().run():
            holders = suggestion.ts.who_has or set()
            going = {ws for ws in holders if self._may_go(ws)}
            if suggestion.op == "drop" and going and going != holders:
                yield Suggestion("drop", suggestion.ts, going)
            else:
                yield suggestion


def keep_elsewhere(scheduler: Scheduler, may_go: MayGo) -> None:
    """Have results copied away from preemptible workers from now on; once is enough.

    Where the user switched the engine's manager off, one of ours runs this policy alone.
    """
    manager: ActiveMemoryManagerExtension = scheduler.extensions["amm"]
    if not manager.running:
        manager = ActiveMemoryManagerExtension(scheduler, set(), register=False, start=True)
    for policy in [each for each in manager.policies if type(each) is ReduceReplicas]:
        manager.policies.remove(policy)
        manager.add_policy(ReduceThere(may_go))
    manager.add_policy(KeepElsewhere(may_go))


def _has_room(worker: WorkerState, used: float) -> bool:
    return not worker.memory_limit or used < _ROOM * worker.memory_limit


def _urgency(ts: TaskState) -> tuple[bool, bool, int]:
    return ts.run_spec is not None, not ts.who_wants, ts.nbytes
