"""What is known of every job of a cluster: the controller's memory.

State without I/O: events and observations go in, views for reconcile and ends of jobs come out.
A query that failed never gets here; one that succeeded and does not list a job is an observation.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from dask_hpc.control.backoff import (
    IN_DOUBT_SETTLE,
    MIN_POLL,
    NEAR_START,
    UNLISTED_GRACE,
    WHY_INTERVAL,
)
from dask_hpc.control.reconcile import JobKey, JobView, Phase
from dask_hpc.control.tracked import End, Tracked
from dask_hpc.drivers.base import Listing, Why
from dask_hpc.model.job import JobId, JobState, JobStatus, Submission

#: Seconds that a job with workers must last to count as a success: less is a crash after joining
#: (out of memory while the data loads, a broken preload), which would otherwise loop for ever.
USEFUL = 30.0

#: Jobs whose time until they were of use is remembered: some, since one may have been lucky.
WAITS = 20

_NOT_OUR_FAULT = frozenset({JobState.PREEMPTED, JobState.NODE_FAIL})
_GONE = JobStatus(JobState.GONE, "no longer listed by the batch system")


class Ledger:
    """Every submission of a cluster that still matters.

    Parameters
    ----------
    history_delay
        Seconds that the end of a job may take to be recorded.
    """

    def __init__(self, history_delay: float = 0.0) -> None:
        self.arrays: dict[str, Tracked] = {}
        self.history_delay = history_delay
        self.arrivals: dict[str, deque[float]] = {}  # from submission to first worker, by pool

    # -- events -----------------------------------------------------------------------------------

    def intend(
        self, submission: Submission, pool: str, now: float, walltime: float | None = None
    ) -> None:
        """Count a submission as coming, before the submit command runs."""
        self.arrays[submission.name] = Tracked(submission, pool, now, walltime=walltime)

    def submitted(self, name: str, array: str | None, now: float) -> None:
        """The submit command ended: with an id, or (None) nobody knows how."""
        tracked = self.arrays[name]
        tracked.since = now
        tracked.array = array

    def resume(self, name: str, tracked: Tracked) -> None:
        """Take over a submission of an earlier head of the same cluster."""
        tracked.adopted = set(tracked.submission.indices)
        tracked.unseen = set(tracked.adopted)
        self.arrays[name] = tracked

    def unsettled(self) -> bool:
        """Whether it is open which of the jobs taken over still live.

        Those of a submission in doubt count as coming, whatever becomes of it.
        """
        return any(each.unseen for each in self.arrays.values() if each.array is not None)

    def forget(self, name: str) -> None:
        """A submission was refused, or proved never to have happened."""
        del self.arrays[name]

    def leave(self, keys: Iterable[JobKey], now: float) -> None:
        """We give these jobs up: what becomes of them is no failure."""
        for name, index in keys:
            if name in self.arrays:
                self.arrays[name].leaving[index] = now

    def warned(self, key: JobKey, epoch: float) -> None:
        """The batch system ends a job at this time, in seconds since the epoch: it said so."""
        tracked = self.arrays[key.name]
        tracked.notice[key.index] = min(epoch, tracked.notice.get(key.index, epoch))

    def stay(self, key: JobKey) -> None:
        """A job that could not be given up is counted again."""
        if key.name in self.arrays:
            self.arrays[key.name].leaving.pop(key.index, None)

    def worker_joined(self, worker: str, now: float, epoch: float) -> JobKey | None:
        """Note a worker by its name; the job it belongs to, or None for a stranger.

        The time is given twice: as the clock has it, and in seconds since the epoch.
        """
        key = self.job_of(worker)
        if key is not None:
            tracked = self.arrays[key.name]
            tracked.workers.setdefault(key.index, set()).add(worker)
            tracked.run(key.index, epoch)
            if key.index not in tracked.first_join:
                tracked.first_join[key.index] = now
                if key.index not in tracked.adopted:  # those joined an earlier head long ago
                    waits = self.arrivals.setdefault(tracked.pool, deque(maxlen=WAITS))
                    waits.append(now - tracked.waiting_since(key.index))
        return key

    def worker_left(self, worker: str) -> JobKey | None:
        """Note that a worker left; the job it belonged to, or None for a stranger."""
        key = self.job_of(worker)
        if key is not None:
            self.arrays[key.name].workers.get(key.index, set()).discard(worker)
        return key

    def job_of(self, worker: str) -> JobKey | None:
        """Find the job of a worker named ``SUBMISSION-INDEX-K``."""
        name, _, index = worker.rpartition("-")[0].rpartition("-")
        tracked = self.arrays.get(name)
        if tracked is None or not index.isdigit() or int(index) not in tracked.status:
            return None
        return JobKey(name, int(index))

    # -- observations -----------------------------------------------------------------------------

    def to_query(self) -> dict[str, str | None]:
        """Name and id of each submission with jobs that may live."""
        return {name: tracked.array for name, tracked in self.arrays.items() if tracked.live}

    def unlisted(self, listing: Listing, now: float) -> set[str]:
        """Ids of arrays with live jobs that a successful query did not list, though it should.

        How jobs ended that we gave up matters to nobody.
        """
        return {
            tracked.array
            for tracked in self.arrays.values()
            if tracked.array is not None
            and any(
                JobId(tracked.array, i) not in listing.jobs
                and (i in tracked.listed or now - tracked.since > UNLISTED_GRACE)
                for i in tracked.live_indices()
                if i not in tracked.leaving
            )
        }

    def adopt(self, listing: Listing, now: float) -> tuple[list[str], list[str]]:
        """Settle submissions in doubt by their names.

        Returns
        -------
        tuple
            Names found in the listing, and names proved never to have been submitted.
        """
        found, absent = [], []
        for name, tracked in self.arrays.items():
            if tracked.array is None and name in listing.names:
                tracked.array = listing.names[name]
                found.append(name)
            elif tracked.array is None and now - tracked.since > IN_DOUBT_SETTLE:
                absent.append(name)
        return found, absent

    def observe(self, listing: Listing, now: float, epoch: float) -> tuple[bool, list[End]]:
        """Take in what a successful query saw; the time as in :meth:`worker_joined`.

        Returns
        -------
        tuple
            Whether any job's state changed, and the jobs that ended.
        """
        changed, ends = False, []
        for tracked in self.arrays.values():
            if tracked.array is None:
                continue
            for index in tracked.live_indices():
                old = tracked.status[index]
                new = self._seen(tracked, index, listing, now)
                if new is old:
                    continue
                tracked.status[index] = new
                changed |= new.state is not old.state or new.reason != old.reason
                if new.state is JobState.RUNNING:
                    tracked.run(index, epoch)
                elif new.state.waiting and not old.state.waiting:
                    tracked.wait_again(index, now)
                if not new.state.live:
                    del tracked.alive[index]
                    tracked.unseen.discard(index)
                    ends.append(self._end(tracked, index, now))
        return changed, ends

    def _seen(self, tracked: Tracked, index: int, listing: Listing, now: float) -> JobStatus:
        assert tracked.array is not None  # noqa: S101  (observe's loop)
        status = listing.jobs.get(JobId(tracked.array, index))
        if status is not None:
            tracked.seen(index, status, now)
            return tracked.explained(status)
        old, first = tracked.status[index], tracked.unlisted.setdefault(index, now)
        delay = 0.0 if index in tracked.leaving else self.history_delay
        believed = first < now and now - first >= delay  # not at the first look
        known = index in tracked.listed or now - tracked.since > UNLISTED_GRACE
        if known and believed:
            return _GONE if old.state.waiting else replace(_GONE, start=old.start)
        return old

    def _end(self, tracked: Tracked, index: int, now: float) -> End:
        status, array = tracked.status[index], tracked.array
        joined = tracked.first_join.get(index)
        lasted = joined is not None and now - joined >= USEFUL
        failure = (
            index not in tracked.leaving
            and status.state not in _NOT_OUR_FAULT
            and not (joined is None and index in tracked.adopted)  # what it did is not known
            and (
                joined is None
                or status.state is JobState.OUT_OF_MEMORY
                or (not lasted and status.state in (JobState.FAILED, JobState.GONE))
            )
        )
        return End(
            JobKey(tracked.submission.name, index),
            JobId(array or "?", index),
            tracked.pool,
            status,
            joined is not None,
            failure,
        )

    def unexplained(self, now: float) -> str | None:
        """Name of a submission whose jobs wait and nobody knows why; None without one."""
        for name, tracked in self.arrays.items():
            asked = tracked.asked_why
            if (
                tracked.array is not None
                and (asked is None or now - asked >= WHY_INTERVAL)
                and any(s.state is JobState.PENDING for s in tracked.status.values())
                and now - tracked.since >= MIN_POLL
            ):
                return name
        return None

    def explain(self, name: str, why: Why, now: float) -> bool:
        """Note why the jobs of a submission wait; whether that is news."""
        tracked = self.arrays[name]
        tracked.asked_why = now
        news, tracked.why = why != tracked.why, why
        tracked.status = {i: tracked.explained(status) for i, status in tracked.status.items()}
        return news

    def prune(self) -> list[str]:
        """Forget submissions whose jobs have all ended; their names."""
        over = [
            name
            for name, tracked in self.arrays.items()
            if tracked.array is not None and not tracked.live
        ]
        for name in over:
            del self.arrays[name]
        return over

    # -- views ------------------------------------------------------------------------------------

    def views(self, load: Mapping[str, float], kept: Collection[JobKey] = ()) -> Iterator[JobView]:
        """Every live job, for reconcile.

        Parameters
        ----------
        load
            Bytes held by each worker, by its name.
        kept
            Jobs not to be given up now.
        """
        for tracked in self.arrays.values():
            for index, key in tracked.alive.items():
                workers = tracked.workers.get(index, ()) if load else ()
                held = sum(load.get(worker, 0.0) for worker in workers) if workers else 0.0
                yield JobView(key, tracked.pool, tracked.phase(index), held, key in kept)

    def deadlines(self) -> dict[JobKey, float]:
        """When each job that was of use is ended by force, in seconds since the epoch, if known.

        One without workers is not: if its walltime ends before any joins, it has failed.
        """
        return {
            key: deadline
            for tracked in self.arrays.values()
            for index in tracked.first_join
            if (key := tracked.alive.get(index)) is not None
            and (deadline := tracked.deadline(index)) is not None
        }

    def live_jobs(self) -> int:
        """How many jobs are not known to have ended."""
        return sum(len(tracked.alive) for tracked in self.arrays.values())

    def live_by_pool(self) -> Counter[str]:
        """How many jobs of each pool are not known to have ended."""
        live: Counter[str] = Counter()
        for tracked in self.arrays.values():
            live[tracked.pool] += len(tracked.alive)
        return live

    def phases(self, pool: str | None = None) -> dict[Phase, int]:
        """How many jobs, of one pool or of all, are in each phase."""
        count = dict.fromkeys(Phase, 0)
        for tracked in self.arrays.values():
            if pool not in (None, tracked.pool):
                continue
            for index in tracked.status:
                count[tracked.phase(index)] += 1
        return count

    def lasted(self, now: float) -> bool:
        """Whether a job with workers has lasted long enough to count as a success."""
        return any(
            now - joined >= USEFUL and tracked.workers.get(index)
            for tracked in self.arrays.values()
            for index, joined in tracked.first_join.items()
        )

    def nodes_at_work(self) -> set[str]:
        """Names of the nodes where jobs have workers."""
        return {
            tracked.status[index].node
            for tracked in self.arrays.values()
            for index, workers in tracked.workers.items()
            if workers
        }

    def overdue(self, now: float, grace: float) -> list[JobKey]:
        """Jobs given up longer than ``grace`` seconds ago that have not ended."""
        return [
            JobKey(name, index)
            for name, tracked in self.arrays.items()
            for index, since in tracked.leaving.items()
            if tracked.status[index].state.live and now - since > grace
        ]

    def ids(self, keys: Iterable[JobKey]) -> list[JobId]:
        """Ids of those jobs that have one."""
        return [
            JobId(array, key.index)
            for key in keys
            if (array := self.arrays[key.name].array) is not None
        ]

    def sizes(self) -> dict[str, int]:
        """Jobs in each array, by its id."""
        return {t.array: t.submission.count for t in self.arrays.values() if t.array is not None}

    def ends(self, deadlines: Mapping[JobKey, float]) -> dict[str, float]:
        """The deadline of each worker, by its name, from those of the jobs."""
        return {
            worker: deadline
            for key, deadline in deadlines.items()
            for worker in self.arrays[key.name].workers.get(key.index, ())
        }

    def about_to_start(self, now: float) -> set[JobKey]:
        """Jobs that wait and are expected to start any moment; `now` in seconds since the epoch.

        An estimate that is long past was none.
        """
        return {
            key
            for key, status in self.statuses().items()
            if status.state.waiting
            and status.start is not None
            and abs(status.start - now) <= NEAR_START
        }

    def statuses(self) -> dict[JobKey, JobStatus]:
        """The last known status of each job that still matters."""
        return {
            JobKey(name, index): status
            for name, tracked in self.arrays.items()
            for index, status in tracked.status.items()
        }
