"""Wanted and observed in, actions out.

Pure: no clock, no process, no network, no log.  What is safe is decided here and nowhere else:
never more jobs than wanted, and nothing is done on missing information.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import NamedTuple

from dask_hpc.control.backoff import Permit


class JobKey(NamedTuple):
    """One job by its submission's name and its index: known before the batch system gives ids."""

    name: str
    index: int  # type: ignore[assignment]  # nobody misses tuple.index


class Phase(IntEnum):
    """How far a job is, in the order in which it is given up when fewer are wanted."""

    PENDING = 0  # costs nothing to give up
    STARTING = 1  # runs, no worker has joined
    UP = 2  # workers have joined
    IN_DOUBT = 3  # submitted, perhaps: it has no id to cancel, and it counts as coming
    LEAVING = 4  # given up already, and not yet gone: it still counts, or there could be too many
    ENDING = 5  # the batch system tidies up after it
    ENDED = 6


@dataclass(frozen=True, slots=True)
class JobView:
    """What reconcile needs to know of one job.

    Parameters
    ----------
    key
        Which job.
    pool
        The pool it belongs to.
    phase
        How far it is.
    load
        What giving it up would cost: bytes held by its workers.
    kept
        Whether it is not to be given up now, though more jobs are there than wanted.
    deadline
        When the batch system ends it, in seconds since the epoch; infinite where nobody knows.
    expiring, due
        Whether its deadline is so near that it is to be replaced; that its workers must leave.
    back
        Whether its workers, which are on their way out, can be called back.
    """

    key: JobKey
    pool: str
    phase: Phase
    load: float = 0.0
    kept: bool = False
    deadline: float = inf
    expiring: bool = False
    due: bool = False
    back: bool = False


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do.

    Parameters
    ----------
    submit
        Jobs to submit, by pool.
    cancel
        Jobs to cancel: no worker of theirs has joined.
    retire
        Jobs whose workers hand over their data and leave.
    recall
        Jobs whose workers have not left yet, and are to stay after all.
    """

    submit: Mapping[str, int]
    cancel: tuple[JobKey, ...] = ()
    retire: tuple[JobKey, ...] = ()
    recall: tuple[JobKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.submit or self.cancel or self.retire or self.recall)


def reconcile(wanted: Mapping[str, int], jobs: Iterable[JobView], permit: Permit) -> Actions:
    """Decide what brings the jobs that are there to the number wanted.

    Parameters
    ----------
    wanted
        Jobs, by pool.
    jobs
        Every job not known to have ended, and any that have.
    permit
        Whether anything may be submitted now.

    Returns
    -------
    Actions
        Jobs near their deadline are replaced and stay until their replacement is at work, or must
        go; beside them there is per pool either a submission or jobs to give up, never both.
    """
    pools = {pool: _Pool() for pool in wanted}
    for job in jobs:
        pools.setdefault(job.pool, _Pool()).add(job)
    submit: dict[str, int] = {}
    surplus: list[JobView] = []
    recall: list[JobKey] = []
    for name, pool in pools.items():
        missing = wanted.get(name, 0) - len(pool.coming)
        if missing < 0:
            surplus += _give_up(pool.coming, -missing)
        else:
            back = pool.back[:missing]
            recall += back
            missing -= len(back)
        if missing > pool.leaving and (most := pool.permitted(permit, missing)):
            submit[name] = min(missing - pool.leaving, most)
        surplus += _replaced(pool, wanted.get(name, 0))
    return Actions(
        submit=submit,
        cancel=tuple(job.key for job in surplus if job.phase < Phase.UP),
        retire=tuple(job.key for job in surplus if job.phase is Phase.UP),
        recall=tuple(recall),
    )


class _Pool:
    """The jobs of a pool, by what they count for."""

    def __init__(self) -> None:
        self.coming: list[JobView] = []  # they count, and will for a while
        self.expiring: list[JobView] = []  # of use still, and to be replaced
        self.leaving = 0  # given up, and could be one too many if replaced already
        self.back: list[JobKey] = []  # given up, and not gone yet

    def add(self, job: JobView) -> None:
        if job.phase < Phase.LEAVING:
            (self.expiring if job.expiring else self.coming).append(job)
        elif job.phase is Phase.LEAVING and not job.expiring:
            if job.back:
                self.back.append(job.key)
            else:
                self.leaving += 1

    def permitted(self, permit: Permit, missing: int) -> int:
        """How many of the missing jobs may be submitted now; those not at work yet are tries."""
        if not permit.allowed:
            return 0
        tries = sum(job.phase is not Phase.UP for job in self.coming)
        return missing if permit.most is None else max(0, permit.most - tries)


def _replaced(pool: _Pool, wanted: int) -> list[JobView]:
    """Expiring jobs that go now: those that must, and those whose replacement is at work."""
    at_work = sum(job.phase is Phase.UP for job in pool.coming)
    in_order = sorted(pool.expiring, key=lambda job: (job.phase, job.deadline, job.key))
    extra = at_work + len(in_order) - wanted
    return [job for i, job in enumerate(in_order) if i < extra or job.due]


def _give_up(views: list[JobView], count: int) -> list[JobView]:
    """Choose jobs to give up: the least far first, then the least loaded, then the youngest."""
    known = [job for job in views if job.phase is not Phase.IN_DOUBT and not job.kept]
    youngest_first = sorted(known, key=lambda job: job.key, reverse=True)
    return sorted(youngest_first, key=lambda job: (job.phase, job.load))[:count]
