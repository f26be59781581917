"""Clusters whose head is a job that has not come up yet: noted, looked up, cancelled.

Whoever submits the job writes the note, and may then be gone; the head removes it once it is up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dask_hpc.batch.client import BatchClient
from dask_hpc.cluster.directory import HEAD_JOB, read_error
from dask_hpc.control.backoff import IN_DOUBT_SETTLE, UNLISTED_GRACE
from dask_hpc.control.journal import Recorded
from dask_hpc.control.reaper import cancel_all
from dask_hpc.drivers.base import Listing
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import BatchSystemError, HeadUnreachable, HPCError
from dask_hpc.launch.rendezvous import write_atomically
from dask_hpc.model.job import JobStatus

#: Seconds that a batch system has to answer.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Note:
    """What is written of a head's job.

    Parameters
    ----------
    batch
        The batch system that has it.
    name
        Of the submission.
    at
        When it was submitted, in seconds since the epoch.
    array
        The id it was given; None while nobody knows whether it arrived.
    """

    batch: str
    name: str
    at: float
    array: str | None = None

    def __str__(self) -> str:
        return f"its head's job {self.array or self.name}"


@dataclass(frozen=True, slots=True)
class Seen:
    """How a head's job does.

    Parameters
    ----------
    live
        Whether its head may still come up; None if the batch system does not tell.
    line
        The same in words.
    """

    live: bool | None
    line: str


def write(directory: Path, note: Note) -> None:
    """Note a head's job: before the batch system hears of it, and again once it has an id.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    write_atomically(directory / HEAD_JOB, json.dumps(asdict(note)))


def read(directory: Path) -> Note | None:
    """Read the note; None if there is none."""
    try:
        return Note(**json.loads((directory / HEAD_JOB).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(directory: Path) -> None:
    """Remove the note: the head is up."""
    (directory / HEAD_JOB).unlink(missing_ok=True)


async def look(directories: Collection[Path], patience: float = PATIENCE) -> Mapping[Path, Seen]:
    """Ask how the jobs of heads do, each batch system once.

    Parameters
    ----------
    directories
        Of their clusters.
    patience
        Seconds to wait for an answer.

    Returns
    -------
    Mapping
        What is to be said of each; of one whose head came up meanwhile, nothing.
    """
    notes = {each: note for each in directories if (note := read(each)) is not None}
    batches = sorted({note.batch for note in notes.values()})
    listings = await asyncio.gather(
        *(_listing(batch, notes.values(), patience) for batch in batches)
    )
    listed = dict(zip(batches, listings, strict=True))
    now = time.time()
    return {
        each: seen(note, listed[note.batch], now, read_error(each)) for each, note in notes.items()
    }


async def _listing(batch: str, notes: Collection[Note], patience: float) -> Listing | None:
    """What the batch system lists of them; None if it does not answer."""
    jobs = {note.name: note.array for note in notes if note.batch == batch}
    try:
        async with asyncio.timeout(patience):
            return await BatchClient(driver(batch)).query(jobs)
    except (BatchSystemError, TimeoutError):
        return None


def seen(note: Note, listing: Listing | None, now: float, error: HPCError | None = None) -> Seen:
    """Judge by what the batch system lists.

    Parameters
    ----------
    note
        Of the job.
    listing
        None if there was no answer.
    now
        Seconds since the epoch.
    error
        What the head said that kept it from starting.
    """
    if listing is None:
        return Seen(None, f"{note} waits in the queue, or did: {note.batch} does not answer")
    status = _status(note, listing)
    fresh = now - note.at < (UNLISTED_GRACE if note.array else IN_DOUBT_SETTLE)
    if status is None and fresh:
        return Seen(None, f"{note} waits in the queue: {note.batch} does not list it yet")
    if status is None or not status.state.live:
        said = f": {error.args[0]}" if error is not None else ""
        return Seen(live=False, line=f"{note} has ended before the head was up{said}")
    if not status.state.waiting:
        return Seen(live=True, line=f"{note} runs: the head starts")
    reason = f" ({status.reason})" if status.reason else ""
    return Seen(live=True, line=f"{note} waits in the queue{reason}")


def _status(note: Note, listing: Listing) -> JobStatus | None:
    array = note.array or listing.names.get(note.name)
    return next((status for job, status in listing.jobs.items() if job.array == array), None)


def ask(directory: Path, patience: float = PATIENCE) -> Seen | None:
    """Ask how one of them does; None if its head came up meanwhile.  Not in an event loop."""
    return asyncio.run(look([directory], patience)).get(directory)


def unreachable(directory: Path, patience: float = PATIENCE) -> HeadUnreachable:
    """Say why a cluster whose head's job was submitted cannot be used; asks the batch system.

    Parameters
    ----------
    directory
        Of the cluster.
    patience
        Seconds to wait for an answer.
    """
    name = directory.name
    how = ask(directory, patience)
    if how is None:
        return HeadUnreachable(f"the head of cluster {name} came up this moment", hint="try again")
    hint = f"`dask-hpc down {name}` cancels it, `dask-hpc ls` shows how it does"
    if how.live is False:
        hint = f"`dask-hpc down {name}` clears away what it left"
    return HeadUnreachable(f"cluster {name} is not up: {how.line}", hint=hint)


async def cancel(directory: Path, patience: float) -> bool:
    """Cancel the job of a head.

    Parameters
    ----------
    directory
        Of the cluster.
    patience
        Seconds to see it gone.

    Returns
    -------
    bool
        Whether it is.
    """
    note = read(directory)
    if note is None:
        return True
    job = Recorded(note.name, "head", 1, note.array, at=note.at)
    return await cancel_all(note.batch, [job], patience)
