"""The book of a cluster: core-seconds allocated, used, lost and idle; its jobs; their time in line.

Pure: what happened to jobs and tasks goes in, figures per pool come out.  Instants are seconds
since the epoch.  Who saw it happen, and how figures are shown, is not known here.
"""

from __future__ import annotations

from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask_hpc.control.figures import Account, Jobs, waits
from dask_hpc.control.reconcile import JobKey
from dask_hpc.control.tracked import End
from dask_hpc.model.job import JobState, JobStatus, Submission
from dask_hpc.model.pool import Pool

#: Seconds by which the start of a running job must move to be another start: batch systems round.
_ANOTHER_START = 2.0

#: Ends of jobs that have run, if only between two queries.  A job cancelled in the queue is not
#: among them, though Slurm records a start for it: the moment of its end.
_AFTER_A_START = frozenset(
    {
        *(JobState.COMPLETED, JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY),
        *(JobState.NODE_FAIL, JobState.PREEMPTED),
    }
)

#: Of the totals of a pool, what is written down for the next head.  Jobs submitted are not: the
#: journal has them at once.
_SECONDS = ("allocated", "used", "undone", "unjoined")
_COUNTS = ("started", "never_ran", "failed", "preempted", "requeued")


@dataclass(slots=True)
class _Job:
    """A job that is not known to have ended."""

    pool: str
    waits_since: float
    started: float | None = None
    told: bool = False  # by the batch system, which knows better when that was
    running: float | None = None  # when the batch system last said that it runs
    joined: bool = False


@dataclass(slots=True)
class _Totals:
    """What is settled of one pool."""

    allocated: float = 0.0
    used: float = 0.0
    undone: float = 0.0
    unjoined: float = 0.0
    jobs: Jobs = field(default_factory=Jobs)
    waits: array[float] = field(default_factory=lambda: array("d"))

    def count(self, **more: int) -> None:
        self.jobs += Jobs(**more)

    def since(self, earlier: _Totals) -> dict[str, Any]:
        """What came after an earlier state of it, in JSON values; nothing that is nothing."""
        told: dict[str, Any] = {
            each: round(getattr(self, each) - getattr(earlier, each), 3) for each in _SECONDS
        }
        told |= {each: getattr(self.jobs, each) - getattr(earlier.jobs, each) for each in _COUNTS}
        told["waits"] = [round(wait, 1) for wait in self.waits[len(earlier.waits) :]]
        return {name: value for name, value in told.items() if value}

    def add(self, told: Mapping[str, Any]) -> None:
        """Add what :meth:`since` told."""
        for each in _SECONDS:
            setattr(self, each, getattr(self, each) + told.get(each, 0.0))
        self.count(**{each: told.get(each, 0) for each in _COUNTS})
        self.waits.extend(told.get("waits", ()))


def _start(seen: float | None, status: JobStatus, over: float) -> float | None:
    """When a job that has ended had started; None if it never ran."""
    in_queue = status.state is JobState.CANCELLED and (status.start or 0.0) >= over
    if status.start is not None and not (in_queue and seen is None):
        return status.start
    return over if seen is None and status.state in _AFTER_A_START else seen


class Book:
    """Keeps account of all jobs of a cluster.

    Parameters
    ----------
    pools
        Each pool by its name; more may come.
    """

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._jobs: dict[JobKey, _Job] = {}
        self._totals: dict[str, _Totals] = {}
        self._written: dict[str, _Totals] = {}
        self._over: list[JobKey] = []  # ended, and not written down yet

    # -- what passes to the next head -------------------------------------------------------------

    def news(self) -> dict[str, Any]:
        """What is not written down yet, in JSON values; empty if nothing is.

        It adds up: figures of each pool, and by their submission the jobs that are settled in them.
        """
        since = {
            pool: totals.since(self._written.get(pool, _Totals()))
            for pool, totals in self._totals.items()
        }
        pools = {pool: told for pool, told in since.items() if told}
        over: dict[str, list[int]] = {}
        for key in self._over:
            over.setdefault(key.name, []).append(key.index)
        return {"pools": pools, "over": over} if pools or over else {}

    def written(self, news: Mapping[str, Any]) -> None:
        """Note that these news are written down; there may be others by now."""
        for pool, told in news["pools"].items():
            self._written.setdefault(pool, _Totals()).add(told)
        del self._over[: sum(map(len, news["over"].values()))]

    def resume(
        self, accounts: Iterable[Mapping[str, Any]], submitted: Mapping[str, int]
    ) -> dict[str, set[int]]:
        """Go on with the book of an earlier head.

        Parameters
        ----------
        accounts
            All the news that it wrote down.
        submitted
            Jobs of each pool that are all over.

        Returns
        -------
        dict
            Indices of the jobs that are settled, by the name of their submission.
        """
        over: dict[str, set[int]] = {}
        for each in accounts:
            for pool, told in each["pools"].items():
                self._of(pool).add(told)
                self._written.setdefault(pool, _Totals()).add(told)
            for name, indices in each["over"].items():
                over.setdefault(name, set()).update(indices)
        for pool, count in submitted.items():
            self._of(pool).count(submitted=count)
        return over

    # -- what happens to jobs ---------------------------------------------------------------------

    def submitted(
        self, submission: Submission, pool: str, at: float, over: Collection[int] = ()
    ) -> None:
        """The batch system has these jobs; those that are over are in the book already."""
        for index in submission.indices:
            if index not in over:
                self._jobs[JobKey(submission.name, index)] = _Job(pool, at)
        self._of(pool).count(submitted=submission.count)

    def joined(self, key: JobKey, at: float) -> None:
        """A worker of this job has joined."""
        if (job := self._jobs.get(key)) is not None:
            job.joined = True
            if job.started is None:  # seen before the next query can tell
                job.started = at

    def observed(
        self, statuses: Mapping[JobKey, JobStatus], ends: Iterable[End], now: float
    ) -> None:
        """Take in what a successful query saw.

        Parameters
        ----------
        statuses
            Of each job; those that have ended are passed over.
        ends
            Those that ended since the last time.
        now
            When it was seen.
        """
        for key, status in statuses.items():
            job = self._jobs.get(key)
            if job is None or not status.state.live:
                continue
            if status.state.waiting:
                self._waits(job, now)
            else:
                self._runs(job, status, now)
        for end in ends:
            self._ended(end, now)

    def _waits(self, job: _Job, now: float) -> None:
        if job.running is None:  # no query saw it run: a worker may be quicker than the listing
            return
        self._put_back(job, now)
        job.waits_since = now

    def _runs(self, job: _Job, status: JobStatus, now: float) -> None:
        told = status.start
        moved = job.told and told is not None and told - (job.started or 0.0) > _ANOTHER_START
        if moved and job.running is not None:  # requeued and started between two queries
            job.waits_since = job.running
            self._put_back(job, job.running)
        if told is not None:
            job.started, job.told = min(told, now), True
        elif job.started is None:
            job.started = now
        job.running = now

    def _put_back(self, job: _Job, until: float) -> None:
        """Settle a life that did not end the job."""
        self._of(job.pool).count(requeued=1)
        self._settle(job, until)
        job.started, job.told, job.running, job.joined = None, False, None, False

    def _ended(self, end: End, now: float) -> None:
        job = self._jobs.pop(end.key, None)
        if job is None:
            return
        self._over.append(end.key)
        status, totals = end.status, self._of(job.pool)
        over = now if status.end is None else status.end
        job.started = _start(job.started, status, over)
        totals.count(failed=int(end.failure), preempted=int(status.state is JobState.PREEMPTED))
        if job.started is None:
            totals.count(never_ran=1)
        else:
            self._settle(job, over)

    def _settle(self, job: _Job, until: float) -> None:
        """Charge one life of a job, from its start."""
        assert job.started is not None  # noqa: S101  (both callers have seen to it)
        totals = self._of(job.pool)
        cost = max(0.0, until - job.started) * self._cores(job.pool)
        totals.allocated += cost
        totals.unjoined += 0.0 if job.joined else cost
        totals.count(started=1)
        totals.waits.append(max(0.0, job.started - job.waits_since))

    # -- what happens to tasks --------------------------------------------------------------------

    def used(self, pool: str, seconds: float) -> None:
        """A thread has run a task to its end, for so long."""
        self._of(pool).used += self._core_seconds(pool, seconds)

    def undone(self, pool: str, seconds: float) -> None:
        """A thread had run a task for so long when its worker went."""
        self._of(pool).undone += self._core_seconds(pool, seconds)

    def _core_seconds(self, pool: str, seconds: float) -> float:
        """Of a thread: one core, or its part where workers have more threads than cores."""
        layout, cores = self._pools[pool].layout, self._pools[pool].spec.cores
        return max(0.0, seconds) * min(1.0, cores / (layout.workers * layout.threads))

    # -- figures ----------------------------------------------------------------------------------

    def accounts(
        self, now: float, running: Mapping[str, float] | None = None
    ) -> dict[str, Account]:
        """Figures of each pool, all its jobs included.

        Parameters
        ----------
        now
            Until when jobs that run are counted.
        running
            Seconds for which threads have run the tasks that are not at their end, by pool.
        """
        live: dict[str, list[_Job]] = {pool: [] for pool in self._pools}
        for job in list(self._jobs.values()):  # whoever asks may be in another thread
            if job.started is not None:
                live[job.pool].append(job)
        return {
            pool: self._account(pool, jobs, now, (running or {}).get(pool, 0.0))
            for pool, jobs in live.items()
        }

    def _account(self, pool: str, live: list[_Job], now: float, running: float) -> Account:
        totals = self._of(pool)
        starts = [job.started for job in live if job.started is not None]
        here = sum(max(0.0, now - start) for start in starts) * self._cores(pool)
        allocated = totals.allocated + here
        used = min(allocated, totals.used + self._core_seconds(pool, running))
        return Account(
            allocated=allocated,
            used=used,
            lost=min(allocated - used, totals.unjoined + totals.undone),
            jobs=totals.jobs + Jobs(started=len(starts), running=len(starts)),
            waits=waits([*totals.waits, *self._waited(live)]),
        )

    @staticmethod
    def _waited(live: Iterable[_Job]) -> list[float]:
        return [max(0.0, (job.started or 0.0) - job.waits_since) for job in live]

    def total(self, accounts: Mapping[str, Account]) -> Account:
        """Sum over all pools of what :meth:`accounts` gave."""
        each = accounts.values()
        return Account(
            allocated=sum(one.allocated for one in each),
            used=sum(one.used for one in each),
            lost=sum(one.lost for one in each),
            jobs=sum((one.jobs for one in each), Jobs()),
            waits=waits(self._all_waits()),
        )

    def spread(self, edges: Sequence[float]) -> list[int]:
        """How many starts waited how long, of all pools.

        Parameters
        ----------
        edges
            Seconds, rising.

        Returns
        -------
        list of int
            Starts that waited less than the first edge, up to the next one, and so on; at last
            those that waited no less than the last.
        """
        found = Counter(bisect(edges, wait) for wait in self._all_waits())
        return [found[place] for place in range(len(edges) + 1)]

    def _all_waits(self) -> list[float]:
        settled = [wait for totals in self._totals.values() for wait in totals.waits]
        live = (job for job in list(self._jobs.values()) if job.started is not None)
        return [*settled, *self._waited(live)]

    @property
    def jobs_submitted(self) -> int:
        """Jobs that the batch system was given."""
        return sum(totals.jobs.submitted for totals in self._totals.values())

    def _of(self, pool: str) -> _Totals:
        return self._totals.setdefault(pool, _Totals())

    def _cores(self, pool: str) -> int:
        spec = self._pools[pool].spec
        return spec.cores * spec.nodes
