"""When a job with a walltime is replaced, and when its workers must begin to leave.

Pure: seconds in, seconds out.  A replacement is submitted early enough to be at work when the old
job goes; the old one's workers leave when they are replaced, at the latest when what they hold can
just be handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import quantiles

from dask_hpc.control.backoff import (
    FIRST_WAIT,
    HANDOVER_RATE,
    LONGEST_LEAD,
    LONGEST_RESERVE,
    MAX_RESERVE,
    MAX_TOGETHER,
    MIN_POLL,
    MIN_RESERVE,
    RENEW_TOGETHER,
)


def expected_wait(arrivals: Sequence[float]) -> float:
    """Seconds from a submission to the first worker, to count with.

    Parameters
    ----------
    arrivals
        Of the last jobs; most of them came sooner than what is returned.
    """
    if not arrivals:
        return FIRST_WAIT
    if len(arrivals) == 1:
        return arrivals[0]
    return quantiles(arrivals, n=10, method="inclusive")[-1]


@dataclass(frozen=True, slots=True)
class Renewal:
    """How the jobs of a pool are renewed.

    Parameters
    ----------
    walltime
        Seconds that a job has; infinite where nobody knows.
    wait
        Seconds that a new one is expected to take until it is of use.
    task
        Seconds that the longest of the tasks at hand is expected to take: what a job runs when its
        replacement comes is to end before it must leave.
    """

    walltime: float = inf
    wait: float = FIRST_WAIT
    task: float = 0.0

    def reserve(self, held: float) -> float:
        """Seconds before its deadline at which a job's workers must begin to leave.

        Parameters
        ----------
        held
            Bytes that they hold.
        """
        return min(MIN_RESERVE + held / HANDOVER_RATE, MAX_RESERVE, LONGEST_RESERVE * self.walltime)

    def lead(self, held: float) -> float:
        """Seconds before its deadline at which a job is to be replaced, holding so many bytes."""
        lead = self.reserve(held) + self.task + self.wait + MIN_POLL
        return min(lead, LONGEST_LEAD * self.walltime)

    @property
    def together(self) -> float:
        """Seconds by which jobs are replaced too early, so that one submission serves many."""
        return min(RENEW_TOGETHER * self.walltime, MAX_TOGETHER)

    @property
    def longest(self) -> float:
        """Seconds before a deadline at which nothing has to be done yet, whatever the job holds."""
        return self.lead(inf) + self.together
