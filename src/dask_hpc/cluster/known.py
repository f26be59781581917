"""The clusters of this user, as their directories tell of them: no engine, no network.

Whether a head still lives is known on its own host alone.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dask_hpc.cluster import pending
from dask_hpc.cluster.directory import HEAD_JOB
from dask_hpc.cluster.security import home
from dask_hpc.control.heads import Holder
from dask_hpc.control.journal import read as read_journal
from dask_hpc.control.journal import remembered
from dask_hpc.control.reaper import JOURNAL, SCHEDULER_FILE
from dask_hpc.errors import RendezvousError, UnknownCluster
from dask_hpc.launch import rendezvous


@dataclass(frozen=True, slots=True)
class Known:
    """A cluster that runs, or was never seen to end.

    Parameters
    ----------
    name
        Of the cluster.
    directory
        With its logs.
    batch
        The batch system of its jobs.
    head
        Where its head runs: ``"here"`` (in the process that made it), ``"detached"``, ``"job"``.
    host, pid
        Of the head.
    opened
        Seconds since the epoch.
    scheduler_file
        To connect with.
    head_job
        Id of the head's own job, if it has one.
    alive
        Whether the head lives; None on another host than its own.
    pending
        Whether its head is a job that has not come up: then there is no scheduler file yet, and
        `opened` is when the job was submitted.
    """

    name: str
    directory: Path
    batch: str
    head: str
    host: str
    pid: int
    opened: float
    scheduler_file: Path
    head_job: str = ""
    alive: bool | None = None
    pending: bool = False


def clusters() -> list[Known]:
    """Clusters of this user, the oldest first.

    Returns
    -------
    list of Known
        A scheduler file that cannot be read, or is another's, is passed over.
    """
    found = []
    files = (path for name in (SCHEDULER_FILE, HEAD_JOB) for path in home().glob(f"*/{name}"))
    for directory in {path.parent for path in files}:
        try:
            found.append(_of(directory))
        except (RendezvousError, UnknownCluster, OSError):
            continue
    return sorted(found, key=lambda each: each.opened)


def find(what: str | os.PathLike[str]) -> Known:
    """Find one cluster.

    Parameters
    ----------
    what
        Its name, the path of its scheduler file, or one of its jobs as in ``"slurm:1234"``: the
        head's, or those of its workers.

    Raises
    ------
    UnknownCluster
        If there is none.
    RendezvousError
        If it is named by a scheduler file that is missing, broken or another user's.
    """
    text = os.fspath(what)
    if "/" in text:
        return _known(Path(text).expanduser().absolute())
    batch, colon, job = text.partition(":")
    known = clusters()
    for each in known:
        if each.name == text or (colon and each.batch == batch and _has_job(each, job)):
            return each
    raise unknown(text, known)


def remains(name: str) -> Known | None:
    """What is left of a cluster whose head has ended, and could not cancel all its jobs.

    Parameters
    ----------
    name
        Of the cluster.

    Returns
    -------
    Known or None
        Nothing of it is alive but jobs in the queue; None if there is no such cluster.
    """
    directory = home() / name
    events = list(read_journal(directory / JOURNAL)) if directory.name == name else []
    opened = [each for each in events if each["event"] == "opened"]
    if not opened or events[-1]["event"] == "closed" or (directory / SCHEDULER_FILE).exists():
        return None
    if not remembered(events).left:
        return None
    return Known(
        name=name,
        directory=directory,
        batch=str(opened[-1]["batch"]),
        head="",
        host=str(opened[-1]["host"]),
        pid=int(opened[-1]["pid"]),
        opened=float(opened[-1]["at"]),
        scheduler_file=directory / SCHEDULER_FILE,
        alive=False,
    )


def unknown(text: str, known: Sequence[Known]) -> UnknownCluster:
    """Say that there is no such cluster, and which there are."""
    names = [each.name for each in known]
    close = difflib.get_close_matches(text, names, 1)
    there = f"there are: {', '.join(names)}" if names else "you have no cluster at all"
    return UnknownCluster(
        f"you have no cluster {text!r}",
        hint=f"did you mean {close[0]}?" if close else there,
    )


def _has_job(known: Known, job: str) -> bool:
    array = job.partition("_")[0]
    return known.head_job == job or any(
        event["event"] == "submitted" and str(event.get("array")) == array
        for event in read_journal(known.directory / JOURNAL)
    )


def _of(directory: Path) -> Known:
    """The cluster of a directory: of a head that is up and one that waits, what came last."""
    waits = _pending(directory)
    try:
        up = _known(directory / SCHEDULER_FILE)
    except (RendezvousError, UnknownCluster, OSError):
        if waits is None:
            raise
        return waits
    return up if waits is None or waits.opened < up.opened else waits


def _pending(directory: Path) -> Known | None:
    note = pending.read(directory)
    if note is None:
        return None
    return Known(
        name=directory.name,
        directory=directory,
        batch=note.batch,
        head="job",
        host="",
        pid=0,
        opened=note.at,
        scheduler_file=directory / SCHEDULER_FILE,
        head_job=note.array or "",
        pending=True,
    )


def _known(path: Path) -> Known:
    found = rendezvous.read(path)
    if not found.cluster:
        raise UnknownCluster(
            f"{path} is of a plain dask scheduler, which has no jobs to look after",
            hint=f"Client(scheduler_file={str(path)!r}) connects to it",
        )
    return Known(
        name=found.cluster,
        directory=path.parent,
        batch=found.batch,
        head=found.head,
        host=found.host,
        pid=found.pid,
        opened=found.written,
        scheduler_file=path,
        head_job=found.job,
        alive=Holder(found.host, found.pid, found.born).alive,
    )
