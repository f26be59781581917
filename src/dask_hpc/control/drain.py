"""What a worker that is to go may still do: which tasks it may finish, when it must hand over.

Pure: times, durations and bytes go in, decisions come out.  Every constant of draining stands here,
with its reason.  The engine's side is :mod:`dask_hpc.cluster.draining`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

#: Seconds kept free before a deadline whatever there is to hand over: the engine's memory manager
#: goes round every 2 s (one round asks for copies, the next sees them), a worker's processes take
#: up to 2 s to go, and the clocks of the head and of the batch system differ by some.
MARGIN = 10.0
#: As much of it as remains where there is less time in all than two such margins: a task that ends
#: within the first half of a short grace still has its result copied.
LEAST_MARGIN = 5.0
#: Bytes per second that are counted on, however slow the last transfers were: the engine measures
#: single small ones too.  A quarter of 1 Gbit/s Ethernet, the slowest network of a cluster.
SLOWEST = 30e6
#: Part of the measured speed of one transfer that is counted on: the workers of a job leave
#: together, over one network interface.
SHARE = 0.25
#: Seconds that a worker must outlive another to be given its results, if there is such a one: less,
#: and the same results are on their way again as soon as they have come.
OUTLIVES = 600.0


def hand_over_time(nbytes: float, bandwidth: float, given: float = inf) -> float:
    """Seconds to keep for handing over results.

    Parameters
    ----------
    nbytes
        Bytes that the worker holds.
    bandwidth
        Bytes per second, of the transfers seen so far.
    given
        Seconds that there are in all.

    Returns
    -------
    float
        Seconds before the deadline.
    """
    margin = min(MARGIN, max(LEAST_MARGIN, given / 2))
    return margin + nbytes / (SHARE * max(bandwidth, SLOWEST))


@dataclass(frozen=True, slots=True)
class Task:
    """A task that has begun on a worker that is to go.

    Parameters
    ----------
    elapsed
        Seconds since it began, or None if the worker has not told yet.
    expected
        Seconds that such tasks take, or None if none has ended yet.
    """

    elapsed: float | None
    expected: float | None

    def may_finish(self, left: float) -> bool:
        """Whether to let it run.

        A task of unknown length, or one that has run longer than others did, may end at any moment:
        it is waited for as long as there is time.

        Parameters
        ----------
        left
            Seconds until the worker must have ended all its tasks; infinite without a deadline.
        """
        if left <= 0:
            return False
        if self.elapsed is None or self.expected is None:
            return True
        rest = self.expected - self.elapsed
        return rest <= 0 or rest <= left


def outlives(end: float | None, leaving: float) -> bool:
    """Whether a worker is there for long enough after another one, to be given its results.

    Parameters
    ----------
    end
        Its deadline, in seconds since the epoch; None if it is not known to have one.
    leaving
        When the other one leaves, at the latest.
    """
    return end is None or end >= leaving + OUTLIVES
