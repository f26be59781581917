"""The figures of a cluster's account: what it cost, its jobs, their time in the queue.

Values only; where they come from is :mod:`.accounts`' business.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Waits:
    """How long jobs waited in the queue, those that have started.

    Parameters
    ----------
    jobs
        Starts that were counted.
    median, p90, longest
        Seconds; half and nine tenths of the jobs waited no longer.  0 without any.
    """

    jobs: int = 0
    median: float = 0.0
    p90: float = 0.0
    longest: float = 0.0


def waits(seconds: Collection[float]) -> Waits:
    """Sum up waiting times."""
    ordered = sorted(seconds)
    if not ordered:
        return Waits()
    return Waits(len(ordered), _quantile(ordered, 0.5), _quantile(ordered, 0.9), ordered[-1])


def _quantile(ordered: list[float], part: float) -> float:
    """The least of the values that at least this part of all do not exceed."""
    return ordered[ceil(part * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Jobs:
    """How many jobs there were, and what became of them.

    Parameters
    ----------
    submitted
        In all: those that never ran, those that run or ended, and those that wait still.
    started
        Starts: a job that was requeued and started again counts twice.
    running
        Now.
    never_ran
        Ended without having started, mostly because they were given up in the queue.
    failed
        Counted against the failure budget.
    preempted
        Ended because others went before.
    requeued
        Times that a running job was put back into the queue.
    """

    submitted: int = 0
    started: int = 0
    running: int = 0
    never_ran: int = 0
    failed: int = 0
    preempted: int = 0
    requeued: int = 0

    def __add__(self, other: Jobs) -> Jobs:
        return Jobs(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Account:
    """What one pool, or all together, has cost and done so far.

    ``allocated`` is the sum of the other three.

    Parameters
    ----------
    allocated
        Core-seconds of jobs that run or have run: all cores of all their nodes, from the start to
        the end.
    used
        Core-seconds in which a task ran that came to its end, with a result or an error.
    lost
        Core-seconds for nothing: of jobs that ended before a worker joined, and of tasks that were
        running when their worker went.
    jobs, waits
        Jobs, and their time in the queue.
    """

    allocated: float
    used: float
    lost: float
    jobs: Jobs
    waits: Waits

    @property
    def idle(self) -> float:
        """Core-seconds in which no task ran: starts, transfers, nothing to do, free cores."""
        return max(0.0, self.allocated - self.used - self.lost)
