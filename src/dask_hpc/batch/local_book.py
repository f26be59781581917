"""The embedded batch system's book: all jobs known, how they are written down and printed.

Pure: text and values; the file is :mod:`dask_hpc.batch.local_directory`'s business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from dask_hpc.batch.local_state import Job, Key, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: How long, and how many at most, ended jobs are remembered.  The controller asks every few
#: seconds; this is for people who come back and ask.
KEEP_SECONDS = 300.0
KEEP_JOBS = 1000

LOST = "the local batch system ended (killed or machine restarted)"


@dataclass(slots=True)
class Book:
    """All jobs known, in the order of their submission, and the id of the next array."""

    next_array: int = 1
    jobs: dict[Key, Job] = field(default_factory=dict)


def lost(jobs: Iterable[Job], now: float | None = None) -> dict[Key, Job]:
    """Note that no server is behind the jobs: those said to be live are not."""
    return {
        job.key: replace(job, state=State.NODE_FAIL, reason=LOST, end=now) if job.live else job
        for job in jobs
    }


def pruned(jobs: Mapping[Key, Job], now: float) -> dict[Key, Job]:
    """Forget jobs that ended long ago, or that are too many."""
    recent = [j for j in jobs.values() if not j.live and (j.end or 0) > now - KEEP_SECONDS]
    recent.sort(key=lambda job: job.end or 0, reverse=True)
    kept = {job.key for job in recent[:KEEP_JOBS]}
    return {key: job for key, job in jobs.items() if job.live or key in kept}


_FIELDS = tuple(f.name for f in fields(Job))


def dump(book: Book) -> str:
    """Write the book as JSON."""
    jobs = [{name: getattr(job, name) for name in _FIELDS} for job in book.jobs.values()]
    return json.dumps({"next_array": book.next_array, "jobs": jobs})


def load(text: str, *, now: float) -> Book:
    """Read the book back.

    A file that is no book (a disk ran full, the power failed) is an empty one, whose ids start at
    the clock's seconds: they must not repeat ids that somebody still remembers.
    """
    try:
        data = json.loads(text)
        jobs = [_job(item) for item in data["jobs"]]
        return Book(int(data["next_array"]), {job.key: job for job in jobs})
    except (ValueError, KeyError, TypeError):
        return Book(next_array=int(now))


def _job(item: Mapping[str, object]) -> Job:
    known = {name: item[name] for name in _FIELDS if name in item}
    verdict = known.get("verdict")
    known |= {
        "state": State(str(known["state"])),
        "verdict": State(str(verdict)) if verdict else None,
    }
    return Job(**known)  # type: ignore[arg-type]  # our own file


def line(job: Job) -> str:
    """Write a job as ``query`` prints it: eight fields, none of which holds a bar."""
    reason = " ".join(job.reason.replace("|", "/").split())
    values = (job.start, job.end, job.exit_code, job.signal)
    numbers = ["" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") for value in values]
    return "|".join((f"{job.array}_{job.index}", job.state, reason, *numbers, job.name))


def load_line(job: Job, *, now: float) -> str:
    """Write a live job as ``load`` prints it: whether it runs, its slots and what is left."""
    if job.state is State.PENDING:
        return f"pending|{job.cores}|{job.walltime}"
    left = job.walltime if job.start is None else job.start + job.walltime - now
    return f"running|{job.cores}|{max(0, round(left))}"
