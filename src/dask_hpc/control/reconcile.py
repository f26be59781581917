"""Wanted and observed in, actions out.

Pure: no clock, no process, no network, no log.  What is safe is decided here and nowhere else:
never more jobs than wanted, and nothing is done on missing information.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
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
    """

    key: JobKey
    pool: str
    phase: Phase
    load: float = 0.0
    kept: bool = False


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
    """

    submit: Mapping[str, int]
    cancel: tuple[JobKey, ...] = ()
    retire: tuple[JobKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.submit or self.cancel or self.retire)


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
        Per pool either a submission or jobs to give up, never both.
    """
    coming: dict[str, list[JobView]] = {pool: [] for pool in wanted}
    leaving = dict.fromkeys(wanted, 0)
    for job in jobs:
        if job.phase < Phase.LEAVING:
            coming.setdefault(job.pool, []).append(job)
        elif job.phase is Phase.LEAVING:
            leaving[job.pool] = leaving.get(job.pool, 0) + 1
    submit: dict[str, int] = {}
    surplus: list[JobView] = []
    for pool, views in coming.items():
        missing = wanted.get(pool, 0) - len(views)
        if missing < 0:
            surplus += _give_up(views, -missing)
        elif missing > leaving.get(pool, 0) and permit.allowed:
            submit[pool] = missing - leaving.get(pool, 0)
    return Actions(
        submit=submit,
        cancel=tuple(job.key for job in surplus if job.phase < Phase.UP),
        retire=tuple(job.key for job in surplus if job.phase is Phase.UP),
    )


def _give_up(views: list[JobView], count: int) -> list[JobView]:
    """Choose jobs to give up: the least far first, then the least loaded, then the youngest."""
    known = [job for job in views if job.phase is not Phase.IN_DOUBT and not job.kept]
    youngest_first = sorted(known, key=lambda job: job.key, reverse=True)
    return sorted(youngest_first, key=lambda job: (job.phase, job.load))[:count]
