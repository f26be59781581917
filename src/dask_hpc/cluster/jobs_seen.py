"""What the Jobs page shows, as plain values: the view, the last hour, waits, deadlines.

Reads the head, never changes it.  It is looked at while a head works: one look at ten thousand
jobs takes milliseconds, and all who watch share it.  How it is drawn is :mod:`.jobs_page`'s
business.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_hpc.cluster.jobs_history import JobsHistory, Series
from dask_hpc.cluster.view import STATES, WAITING, View, live_jobs, state_of, view
from dask_hpc.control.figures import Waits

if TYPE_CHECKING:
    from dask_hpc.cluster.head import Head
    from dask_hpc.control.controller import Controller
    from dask_hpc.control.reconcile import JobKey
    from dask_hpc.control.tracked import Tracked

#: Seconds between two counts of the jobs while they change, and two sheets while they do not.
_BETWEEN = 1.0
_STALE = 5.0

#: Rows of a table.
_MOST = 15

#: Seconds, each about three times the one before: between them waiting times are counted together.
EDGES = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400, 259200)


@dataclass(frozen=True, slots=True)
class Ending:
    """A running job whose end is known.

    Parameters
    ----------
    deadline
        Seconds since the epoch.
    name, pool, node
        Of the job.
    workers
        That have joined.
    replaced
        Whether another job takes its place.
    """

    deadline: float
    name: str
    pool: str
    node: str
    workers: int
    replaced: bool


@dataclass(slots=True)
class Waiting:
    """The jobs of one pool that wait.

    Parameters
    ----------
    jobs
        How many.
    since
        When the first of them was put into the queue, in seconds since the epoch.
    reasons
        How often each is given.
    """

    jobs: int = 0
    since: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Sheet:
    """All that the page shows of one moment.

    Parameters
    ----------
    view
        Without its jobs.
    series
        Jobs by state over time.
    waiting
        By pool.
    waited
        How long jobs waited that have started: figures by pool.
    spread
        How many starts waited how long, in bins between `EDGES`.
    endings
        The next ones.
    """

    view: View
    series: Series
    waiting: dict[str, Waiting]
    waited: dict[str, Waits]
    spread: list[int]
    endings: list[Ending]


class JobsSeen:
    """The jobs of a head, watched.

    Parameters
    ----------
    head
        Whose controller runs.
    """

    def __init__(self, head: Head) -> None:
        self.history = JobsHistory()
        self._head = head
        self._sheet: Sheet | None = None

    async def watch(self) -> None:
        """Count the jobs whenever they change, at most once a second, until cancelled."""
        changed = self._head.controller.changed
        while True:
            seen = changed.count
            self.history.add(time.time(), count(self._head.controller))
            await asyncio.sleep(_BETWEEN)
            while changed.count == seen:
                changed.clear()
                await changed.wait()

    def sheet(self) -> Sheet:
        """What there is to see now; the same as before if nothing has changed for a moment."""
        last = self._sheet
        if last is not None:
            age = time.time() - last.view["now"]
            news = self._head.controller.changed.count != last.view["changes"]
            if 0.0 <= age < (_BETWEEN / 2 if news else _STALE):
                return last
        controller, seen = self._head.controller, view(self._head, jobs=False)
        self.history.add(seen["now"], _sum(seen))
        (waiting, endings), book = survey(controller), controller.book
        self._sheet = Sheet(
            view=seen,
            series=self.history.series(STATES, seen["now"]),
            waiting=waiting,
            waited={pool: each.waits for pool, each in book.accounts(seen["now"]).items()},
            spread=book.spread(EDGES),
            endings=endings,
        )
        return self._sheet


def count(controller: Controller) -> Counter[str]:
    """Jobs by state."""
    return Counter(state_of(tracked, index) for tracked, index, _ in live_jobs(controller))


def _sum(seen: View) -> Counter[str]:
    total: Counter[str] = Counter()
    for pool in seen["pools"].values():
        total.update(pool["jobs"])
    return total


def survey(controller: Controller) -> tuple[dict[str, Waiting], list[Ending]]:
    """Look at each job once: those that wait, by pool, and those that end next."""
    waiting: dict[str, Waiting] = {}
    nearest = heapq.nsmallest(_MOST, _deadlines(controller, waiting))
    endings = [
        Ending(
            deadline,
            f"{key.name}-{key.index}",
            tracked.pool,
            tracked.status[key.index].node,
            len(tracked.workers.get(key.index, ())),
            key.index in tracked.expiring,
        )
        for deadline, key, tracked in nearest
    ]
    return waiting, endings


def _deadlines(
    controller: Controller, waiting: dict[str, Waiting]
) -> Iterator[tuple[float, JobKey, Tracked]]:
    """The deadline of each job that has one; those that wait are counted on the way."""
    epoch = controller.epoch()
    for tracked, index, key in live_jobs(controller):
        state = state_of(tracked, index)
        if state in WAITING:
            found = waiting.setdefault(tracked.pool, Waiting())
            since = tracked.waiting_since(index) + epoch
            found.since = min(since, found.since) if found.jobs else since
            found.jobs += 1
            reason = tracked.status[index].reason
            found.reasons[f"held: {reason}" if state == "held" else reason] += 1
        elif (deadline := tracked.deadline(index)) is not None:
            yield deadline, key, tracked
