"""The embedded batch system's jobs: where each is in its life, and what is due for it.

Pure values and functions: state and ``now`` go in, new state and actions come out.  No clock, file,
process or socket may live here; :mod:`dask_hpc.batch.local_server` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum, auto
from signal import Signals
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds between SIGTERM and SIGKILL: what a worker needs to say goodbye, not to save its data.
GRACE = 5.0
#: Seconds between repeated SIGKILLs to processes that were born while we killed.
KILL_AGAIN = 1.0
Key = tuple[int, int]


class State(StrEnum):
    """The words that ``query`` prints."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    ENDING = "ENDING"  # told to end, or its script ended and its last processes are killed
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    NODE_FAIL = "NODE_FAIL"


_LIVE = frozenset({State.PENDING, State.RUNNING, State.ENDING})


class Verb(StrEnum):
    """What can be due for a job."""

    START = auto()
    TERMINATE = auto()
    KILL = auto()
    EXPIRE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job: instants in seconds since the epoch, walltime in seconds.

    Parameters
    ----------
    verdict
        How it ends although its script may say otherwise: TIMEOUT or CANCELLED.
    kill_at
        When SIGKILL follows a SIGTERM.
    """

    array: int
    index: int
    name: str
    cores: int
    walltime: int
    submitted: float
    state: State = State.PENDING
    reason: str = ""
    pid: int | None = None
    start: float | None = None
    end: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    verdict: State | None = None
    kill_at: float | None = None

    @property
    def key(self) -> Key:
        """Array and index."""
        return (self.array, self.index)

    @property
    def live(self) -> bool:
        """Whether the job waits or has processes."""
        return self.state in _LIVE


def decide(jobs: Iterable[Job], *, now: float, slots: int) -> list[tuple[Verb, Key]]:
    """Tell what is due now.

    Jobs start strictly in the order of their submission: one that needs more than is free holds
    back those behind it, so that it starts one day.  Impossible ones hold back nobody.
    """
    live = [job for job in jobs if job.live]
    actions = [(verb, job.key) for job in live if (verb := _due(job, now, slots)) is not None]
    free = slots - sum(job.cores for job in live if job.state is not State.PENDING)
    for job in live:
        if job.state is not State.PENDING or job.cores > slots:
            continue
        if job.cores > free:
            break
        free -= job.cores
        actions.append((Verb.START, job.key))
    return actions


def _due(job: Job, now: float, slots: int) -> Verb | None:
    verb, when = _next(job, slots)
    return verb if when is not None and now >= when else None


def _next(job: Job, slots: int) -> tuple[Verb | None, float | None]:
    if job.state is State.RUNNING and job.start is not None:
        return Verb.TERMINATE, job.start + job.walltime
    if job.state is State.ENDING and job.verdict is not None:
        return (Verb.TERMINATE, 0.0) if job.kill_at is None else (Verb.KILL, job.kill_at)
    if job.state is State.PENDING and job.cores > slots:
        return Verb.EXPIRE, job.submitted + job.walltime
    return None, None


def next_instant(jobs: Iterable[Job], *, slots: int) -> float | None:
    """When :func:`decide` must be asked again even if nothing happens; None for never."""
    instants = (_next(job, slots)[1] for job in jobs if job.live)
    return min((when for when in instants if when is not None), default=None)


def started(job: Job, pid: int, now: float) -> Job:
    """Note that the job's script runs."""
    return replace(job, state=State.RUNNING, reason="", pid=pid, start=now)


def failed(job: Job, reason: str, now: float) -> Job:
    """Note that the job could not start."""
    return replace(job, state=State.FAILED, reason=reason, end=now)


def cancelled(job: Job, reason: str, now: float) -> Job:
    """Note that the job is to end; one that ends or has ended stays what it is."""
    if job.state is State.PENDING:
        return replace(job, state=State.CANCELLED, reason=reason, end=now)
    if job.state is State.RUNNING:
        return replace(job, state=State.ENDING, reason=reason, verdict=State.CANCELLED)
    return job


def terminated(job: Job, now: float) -> Job:
    """Note that SIGTERM was sent."""
    if job.verdict is not None:
        return replace(job, kill_at=now + GRACE)
    reason = f"it ran into its walltime of {job.walltime} s"
    return replace(
        job, state=State.ENDING, reason=reason, verdict=State.TIMEOUT, kill_at=now + GRACE
    )


def killed(job: Job, now: float) -> Job:
    """Note that SIGKILL was sent."""
    return replace(job, kill_at=now + KILL_AGAIN)


def sweeping(job: Job) -> Job:
    """Note that the script ended and its last processes are being killed."""
    return replace(job, state=State.ENDING)


def ended(job: Job, returncode: int, now: float) -> Job:
    """Note that the script and all that it started ended.

    Parameters
    ----------
    returncode
        Exit code, or minus the signal that killed the script.
    """
    code, signal = (returncode, None) if returncode >= 0 else (None, -returncode)
    state = job.verdict or (State.COMPLETED if returncode == 0 else State.FAILED)
    return replace(
        job,
        state=state,
        reason=job.reason if job.verdict else _how(code, signal),
        end=now,
        exit_code=code,
        signal=signal,
        kill_at=None,
    )


def _how(code: int | None, signal: int | None) -> str:
    if signal is not None:
        known = signal in set(Signals)
        return f"its script was killed by {Signals(signal).name if known else f'signal {signal}'}"
    return f"its script ended with exit code {code}" if code else ""
