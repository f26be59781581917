"""How many jobs a changing demand is worth: more at once, fewer only after some patience.

Pure: readings of the demand go in with the time, a number of jobs comes out.  Which jobs then go is
:mod:`~dask_hpc.control.reconcile`'s to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dask_hpc.control.backoff import MAX_PATIENCE, MIN_PATIENCE


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which numbers of jobs the demand may move.

    Parameters
    ----------
    minimum
        Jobs that are kept whatever the demand.
    maximum
        Jobs that are never exceeded; None for no bound.
    """

    minimum: int = 0
    maximum: int | None = None

    def clamp(self, jobs: int) -> int:
        """Nearest number within the bounds."""
        most = jobs if self.maximum is None else min(jobs, self.maximum)
        return max(self.minimum, most)


class Demand:
    """The recent demand of one pool.

    Wanted is the highest of what was needed lately: a burst is answered at once, and jobs are not
    given up for a dip that is over before new ones would have come through the queue.

    Parameters
    ----------
    bounds
        Of the jobs.
    patience
        Seconds for which fewer must be enough; None follows how long jobs took to come lately.
    """

    def __init__(self, bounds: Bounds, patience: float | None = None) -> None:
        self.bounds = bounds
        self.fixed = patience
        self._needed: deque[tuple[float, int]] = deque()  # falling: what is exceeded is forgotten

    def want(self, needed: int, now: float, waits: Sequence[float] = ()) -> int:
        """Jobs to want now.

        Parameters
        ----------
        needed
            Jobs that the scheduler's tasks could use at this moment.
        now
            Seconds of any clock that only goes forward.
        waits
            Seconds from the submission of the last jobs to their first worker.
        """
        while self._needed and self._needed[-1][1] <= needed:
            self._needed.pop()
        self._needed.append((now, needed))
        oldest = now - self.patience(waits)
        while len(self._needed) > 1 and self._needed[0][0] < oldest:
            self._needed.popleft()
        return self.bounds.clamp(self._needed[0][1])

    def patience(self, waits: Sequence[float]) -> float:
        """Seconds for which a job that idles is worth keeping: what it would cost to get it back.

        As with renting or buying skis: who keeps it for as long as another would take to come
        never idles longer than twice the best that anybody could have done.
        """
        if self.fixed is not None:
            return self.fixed
        return min(max(median(waits), MIN_PATIENCE), MAX_PATIENCE) if waits else MIN_PATIENCE
