"""What there is to see of a cluster, as plain values: its jobs, its pools, what goes wrong.

Reads the head, never changes it; may be called from any thread.  All that shows a cluster draws
from it, in this process or in another: the text and HTML of a notebook, the widget, the Jobs page,
the commands.  How it looks is theirs.  The engine is not imported here: who reads a view that was
sent need not have it.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from dask_hpc.cluster.report import report, summary
from dask_hpc.control.reconcile import JobKey, Phase
from dask_hpc.model.job import JobId, JobState, JobStatus

if TYPE_CHECKING:
    from dask_hpc.cluster.head import Head
    from dask_hpc.control.controller import Controller
    from dask_hpc.control.tracked import Tracked

#: States of a job that lives, as they are shown, in the order of a job's life.
STATES = ("pending", "held", "starting", "running", "leaving", "ending", "in doubt")

#: Those of a job that has not started.
WAITING = ("pending", "held")

_OF_PHASE = {
    Phase.PENDING: "pending",
    Phase.STARTING: "starting",
    Phase.UP: "running",
    Phase.IN_DOUBT: "in doubt",
    Phase.LEAVING: "leaving",
    Phase.ENDING: "ending",
}

#: States in the order in which one line counts them; jobs that end are over for whoever reads it.
_COUNTED = ("running", "starting", "pending", "in doubt", "leaving")

#: Why jobs wait: as many reasons as fit into a line.
_REASONS = 2


class JobRow(TypedDict):
    """One live job; times in seconds since the epoch.

    ``id`` is empty while it is in doubt whether there is one; ``name`` is SUBMISSION-INDEX, as
    workers and logs are called; ``starts`` is an estimate of the batch system, while it waits.
    """

    id: str
    name: str
    pool: str
    state: str
    reason: str
    node: str
    workers: int
    submitted: float
    starts: float | None
    started: float | None
    deadline: float | None
    log: str


class Bounds(TypedDict):
    """Between how many jobs a pool moves that follows its tasks."""

    minimum: int
    maximum: int | None


class PoolRow(TypedDict):
    """One pool: jobs by state, the most frequent reasons of those that wait; memory in bytes.

    ``starts`` is when the first of those that wait may start, by the batch system's estimate.
    """

    wanted: int
    adapting: Bounds | None
    jobs: dict[str, int]
    reasons: list[str]
    starts: float | None
    workers: int
    workers_per_job: int
    cores_per_job: int
    memory_per_job: int | None


class View(TypedDict):
    """One cluster at one moment.

    ``changes`` counts up at every change; ``dashboard`` is its link without the token; ``line`` is
    one line about the jobs; ``unanswered``, ``limited``, ``problem`` and the name of its error,
    ``problem_kind``, are empty while all is well.
    """

    name: str
    batch: str
    status: str
    head: str
    host: str
    pid: int
    head_job: str | None
    head_deadline: float | None
    opened: float
    now: float
    changes: int
    scheduler: str
    scheduler_file: str
    log_directory: str
    dashboard: str
    pools: dict[str, PoolRow]
    jobs: list[JobRow]
    line: str
    unanswered: str
    limited: str
    problem: str
    problem_kind: str
    failures: list[tuple[float, str]]
    cost: str
    core_hours: dict[str, float]


@dataclass(frozen=True, slots=True)
class HeadPlace:
    """Where a head runs.

    Parameters
    ----------
    kind
        ``"here"``, ``"detached"`` or ``"job"``.
    job
        Its job's id.
    deadline
        When that job ends, in seconds since the epoch.
    submits
        Whether the batch system's commands may be used there.
    """

    kind: str = "here"
    job: str | None = None
    deadline: float | None = None
    submits: bool = True


HERE = HeadPlace()


def view(head: Head, *, jobs: bool = True) -> View:
    """See a cluster.

    Parameters
    ----------
    head
        Its head, in this process.
    jobs
        Whether to list each job; without, counts alone.

    Returns
    -------
    View
        Plain values that can be sent as JSON.
    """
    controller, account = head.controller, report(head)["total"]
    tallies = _tallies(controller)
    return View(
        name=head.name,
        batch=head.driver.name,
        status=_status(head),
        head=head.where.kind,
        host=socket.gethostname(),
        pid=os.getpid(),
        head_job=head.where.job,
        head_deadline=head.where.deadline,
        opened=head.opened,
        now=time.time(),
        changes=controller.changed.count,
        scheduler=head.scheduler.address,
        scheduler_file=str(head.directory.scheduler_file),
        log_directory=str(head.directory.logs),
        dashboard=head.scheduler.dashboard_url(token=False),
        pools={pool: _pool_row(head, pool, tally) for pool, tally in tallies.items()},
        jobs=list(job_rows(controller)) if jobs else [],
        line=_line(controller, tallies),
        unanswered=controller.unanswered,
        limited=controller.submitter.limited,
        problem=str(controller.problem or ""),
        problem_kind=type(controller.problem).__name__ if controller.problem else "",
        failures=list(controller.failures),
        cost=summary(account),
        core_hours=account["core_hours"],
    )


def _status(head: Head) -> str:
    if head.scheduler.status.name != "running":
        return "closing"
    return "running" if head.ready else "starting"


# --- jobs ----------------------------------------------------------------------------------------


def job_rows(controller: Controller) -> Iterator[JobRow]:
    """Each live job of a controller."""
    epoch = controller.epoch()
    for tracked, index, key in live_jobs(controller):
        status, state = tracked.status[index], state_of(tracked, index)
        waits, seen = state in WAITING, tracked.started.get(index)
        yield JobRow(
            id="" if tracked.array is None else str(JobId(tracked.array, index)),
            name=f"{key.name}-{index}",
            pool=tracked.pool,
            state=state,
            reason=status.reason if waits else "",
            node=status.node,
            workers=len(tracked.workers.get(index, ())),
            submitted=tracked.since + epoch,
            starts=status.start if waits else None,
            started=seen if status.state.waiting or status.start is None else status.start,
            deadline=tracked.deadline(index),
            log=str(controller.log(key)),
        )


def live_jobs(controller: Controller) -> Iterator[tuple[Tracked, int, JobKey]]:
    """Each live job; whoever asks may be in another thread than the one that changes them."""
    for tracked in list(controller.ledger.arrays.values()):
        for index, key in list(tracked.alive.items()):
            yield tracked, index, key


def state_of(tracked: Tracked, index: int) -> str:
    """One of `STATES`."""
    phase = tracked.phase(index)
    if phase is Phase.PENDING and tracked.status[index].state is JobState.HELD:
        return "held"
    return _OF_PHASE.get(phase, "ending")


# --- pools ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """The jobs of one pool, counted."""

    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    starts: float | None = None

    def add(self, state: str, status: JobStatus) -> None:
        self.states[state] += 1
        if state not in WAITING:
            return
        if status.reason:
            self.reasons[f"held: {status.reason}" if state == "held" else status.reason] += 1
        if status.start is not None and (self.starts is None or status.start < self.starts):
            self.starts = status.start

    def why(self) -> list[str]:
        return [reason for reason, _ in self.reasons.most_common(_REASONS)]


def _tallies(controller: Controller) -> dict[str, _Tally]:
    tallies = {pool: _Tally() for pool in list(controller.pools)}
    for tracked, index, _ in live_jobs(controller):
        tally = tallies.setdefault(tracked.pool, _Tally())
        tally.add(state_of(tracked, index), tracked.status[index])
    return tallies


def _pool_row(head: Head, name: str, tally: _Tally) -> PoolRow:
    pool, bounds = head.controller.pools[name], head.adapting().get(name)
    spec = pool.spec
    return PoolRow(
        wanted=head.controller.wanted.get(name, 0),
        adapting=None if bounds is None else Bounds(minimum=bounds.minimum, maximum=bounds.maximum),
        jobs={state: tally.states[state] for state in STATES if tally.states[state]},
        reasons=tally.why(),
        starts=tally.starts,
        workers=head.running_workers(name),
        workers_per_job=pool.workers_per_job,
        cores_per_job=spec.cores * spec.nodes,
        memory_per_job=spec.memory and spec.memory * spec.nodes,
    )


def jobs_line(controller: Controller) -> str:
    """Say how many jobs there are and why some wait: ``4 wanted: 3 running, 1 pending (...)``."""
    return _line(controller, _tallies(controller))


def _line(controller: Controller, tallies: Mapping[str, _Tally]) -> str:
    wanted = controller.wanted
    parts = [
        f"{f'{pool} ' if len(tallies) > 1 else ''}{wanted.get(pool, 0)} wanted: {_counts(tally)}"
        for pool, tally in tallies.items()
    ]
    if controller.unanswered:
        parts.append(f"no answer from the batch system: {controller.unanswered}")
    if controller.submitter.limited:
        parts.append(f"no more are accepted: {controller.submitter.limited}")
    if controller.problem is not None:
        parts.append("stopped after failures")
    return "; ".join(parts)


def _counts(tally: _Tally) -> str:
    jobs = tally.states + Counter(pending=tally.states["held"])  # why they wait tells them apart
    why = "; ".join(tally.why())
    return (
        ", ".join(
            f"{jobs[state]} {state}{f' ({why})' if why and state == 'pending' else ''}"
            for state in _COUNTED
            if jobs[state]
        )
        or "none"
    )
