"""What is known of the jobs of one submission.

State without I/O: the ledger writes it, from events and observations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dask_hpc.control.reconcile import JobKey, Phase
from dask_hpc.drivers.base import Why
from dask_hpc.model.job import JobId, JobState, JobStatus, Submission

#: Seconds by which a deadline must move before a job that is to be replaced may stay after all: an
#: administrator's extension does, a clock that is put right does not.
_EXTENDED = 60.0

#: Seconds by which a warning that the walltime ends may come early: a minute (sbatch(1), --signal),
#: and workers are closed a few seconds before they must be.
_EARLY = 90.0

_PENDING = JobStatus(JobState.PENDING)


@dataclass(slots=True)
class Tracked:
    """One submission and what is known of its jobs, by index."""

    submission: Submission
    pool: str
    since: float  # of the submit command's end, whatever its outcome
    array: str | None = None
    status: dict[int, JobStatus] = field(default_factory=dict)
    workers: dict[int, set[str]] = field(default_factory=dict)
    first_join: dict[int, float] = field(default_factory=dict)
    leaving: dict[int, float] = field(default_factory=dict)
    walltime: float | None = None  # seconds, as asked for
    queued: dict[int, float] = field(default_factory=dict)  # again since, by index
    started: dict[int, float] = field(default_factory=dict)  # since the epoch, as far as seen
    fresh: list[int] = field(default_factory=list)  # of those, not written down yet
    notice: dict[int, float] = field(default_factory=dict)  # told to be gone by then, likewise
    expiring: dict[int, float] = field(default_factory=dict)  # to be replaced: by which deadline
    adopted: set[int] = field(default_factory=set)  # may have run under an earlier head
    unseen: set[int] = field(default_factory=set)  # of those, not looked for with success yet
    listed: set[int] = field(default_factory=set)  # at least once
    unlisted: dict[int, float] = field(default_factory=dict)  # since when, by index
    why: Why = field(default_factory=Why)
    asked_why: float | None = None

    alive: dict[int, JobKey] = field(default_factory=dict)  # not known to have ended

    def __post_init__(self) -> None:
        self.status = dict.fromkeys(self.submission.indices, _PENDING)
        self.alive = {i: JobKey(self.submission.name, i) for i in self.submission.indices}

    @property
    def live(self) -> bool:
        """Whether any job of it may run or come to run."""
        return bool(self.alive)

    def explained(self, status: JobStatus) -> JobStatus:
        """A status with what was learnt of why it waits, where the query does not tell."""
        if status.state is not JobState.PENDING or status.reason or not self.why.reason:
            return status
        return replace(status, reason=self.why.reason, impossible=self.why.impossible)

    def live_indices(self) -> list[int]:
        """Indices of the jobs not known to have ended."""
        return list(self.alive)

    def deadline(self, index: int) -> float | None:
        """When the batch system ends a job that runs, in seconds since the epoch; None: unknown.

        What the batch system says comes before what was asked for: an administrator may have
        changed it.  A warning it gave comes before both.
        """
        if index not in self.started:
            return None
        end, told = self._limit(index), self.notice.get(index)
        if end is None or told is None:
            return end if told is None else told
        return min(end, told)

    def _limit(self, index: int) -> float | None:
        """When the walltime of a job that runs is over."""
        status = self.status[index]
        seen = not status.state.waiting
        if seen and status.end is not None:
            return status.end
        if self.walltime is None:
            return None
        start = status.start if seen else None
        return (self.started[index] if start is None else start) + self.walltime

    def sent_away(self, index: int) -> bool:
        """Whether a job that runs was told to go before its time: another one needs its place."""
        told = self.notice.get(index)
        if told is None or index not in self.started:
            return False
        end = self._limit(index)
        return end is None or told < end - _EARLY

    def expires(self, index: int, deadline: float, *, near: bool) -> bool:
        """Whether a job is to be replaced: once near enough to its deadline, it remains so."""
        marked = self.expiring.get(index)
        if marked is not None and deadline > marked + _EXTENDED:
            del self.expiring[index]
            marked = None
        if near:
            self.expiring.setdefault(index, deadline)
        return near or marked is not None

    def run(self, index: int, epoch: float) -> None:
        """A job runs, as seen now, in seconds since the epoch."""
        if index not in self.started:
            self.started[index] = epoch
            self.fresh.append(index)

    def waiting_since(self, index: int) -> float:
        """When a job was submitted, or went back into the queue."""
        return self.queued.get(index, self.since)

    def seen(self, index: int, status: JobStatus, now: float) -> None:
        """A query has listed a job."""
        self.listed.add(index)
        self.unlisted.pop(index, None)
        self.unseen.discard(index)
        if status.state.waiting and index in self.adopted:  # all that it does is before us
            self.adopted.discard(index)
            if index in self.started and not self.workers.get(index):
                self.wait_again(index, now)

    def wait_again(self, index: int, now: float) -> None:
        """A job went back into the queue: what was known of its first life is over."""
        for facts in (self.started, self.notice, self.expiring, self.leaving, self.first_join):
            facts.pop(index, None)
        self.queued[index] = now

    def phase(self, index: int) -> Phase:
        """How far one job is."""
        state = self.status[index].state
        if not state.live:
            return Phase.ENDED
        if state is JobState.ENDING:
            return Phase.ENDING
        if index in self.leaving:
            return Phase.LEAVING
        if self.workers.get(index):
            return Phase.UP
        if self.array is None:
            return Phase.IN_DOUBT
        return Phase.PENDING if state.waiting else Phase.STARTING


@dataclass(frozen=True, slots=True)
class End:
    """The end of one job.

    Parameters
    ----------
    key, id, pool
        Which job.
    status
        As the batch system told it.
    joined
        Whether a worker of it ever joined.
    failure
        Whether it counts against the failure budget.
    """

    key: JobKey
    id: JobId
    pool: str
    status: JobStatus
    joined: bool
    failure: bool
