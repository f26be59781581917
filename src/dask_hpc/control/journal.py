"""The journal: every submission of a cluster, on disk before the batch system hears of it.

Append only, one JSON object a line, each flushed to the disk, so that after a crash at any moment
the jobs of a cluster can be found again by the unique names written here, and a new head goes on
with what was wanted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Event = Literal[
    "claimed",  # a process is about to be the head
    "opened",  # it is, from here on
    "restarting",  # a guardian is about to start another one
    "wanted",  # what the user asked for
    "pool",  # of which options one more pool is
    "intended",  # a submission, before the batch system hears of it
    "submitted",
    "refused",
    "absent",  # in doubt, and proved never to have been
    "started",  # some of its jobs
    "account",  # what jobs and tasks cost since the last one
    "ended",  # all of its jobs
    "closing",  # the end of the cluster has begun
    "closed",
]


class Journal:
    """An open journal.

    Parameters
    ----------
    path
        Of the file; made with mode 0600 if it is not there.

    Raises
    ------
    OSError
        If the file system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end_torn_line()

    def append(self, event: Event, **values: Any) -> None:
        """Write one event and wait until the disk has it.

        Parameters
        ----------
        event
            What happened, or is about to.
        **values
            JSON values that belong to it.

        Raises
        ------
        OSError
            If the disk is full or gone: then what the event announces must not be done.
        """
        line = json.dumps({"event": event, **values}, separators=(",", ":")) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._handle, data) :]
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _end_torn_line(self) -> None:
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            os.write(self._handle, b"\n")


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read the events of a journal.

    Parameters
    ----------
    path
        Of the file; a missing one has no events.

    Yields
    ------
    Mapping
        One event each, oldest first.  A torn line (a crash in the middle of a write, a full disk)
        is passed over: what it announced was not done, since the write had not returned.
    """
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


@dataclass(frozen=True, slots=True)
class Recorded:
    """One submission as the journal has it.

    Parameters
    ----------
    name, pool, count
        As intended.
    array
        The batch system's id, or None while it is in doubt.
    over
        Whether it needs no more care: refused, never made, or all its jobs have ended.
    walltime
        Seconds asked for each job; None if none was.
    at
        When it was submitted, in seconds since the epoch; None if that was not written down.
    started
        When each job was first seen to run, likewise, by its index.
    """

    name: str
    pool: str
    count: int
    array: str | None = None
    over: bool = False
    walltime: float | None = None
    at: float | None = None
    started: Mapping[int, float] = field(default_factory=dict)


def submissions(events: Iterable[Mapping[str, Any]]) -> dict[str, Recorded]:
    """Fold events into the submissions they tell of.

    Parameters
    ----------
    events
        As :func:`read` gives them.

    Returns
    -------
    dict
        Each submission by its name.
    """
    found: dict[str, Recorded] = {}
    for event in events:
        kind, name = event["event"], event.get("name", "")
        if kind == "intended":
            found[name] = Recorded(
                name,
                event["pool"],
                event["count"],
                walltime=event.get("walltime"),
                at=event.get("at"),
            )
        elif kind == "started":
            for each, index, at in event["jobs"]:
                if each in found:
                    known = {**found[each].started, index: at}
                    found[each] = replace(found[each], started=known)
        elif name in found and kind == "submitted":
            found[name] = replace(
                found[name], array=event["array"], at=event.get("at", found[name].at)
            )
        elif name in found and kind in ("refused", "absent", "ended"):
            found[name] = replace(found[name], over=True)
    return found


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a journal tells a new head of the same cluster.

    Parameters
    ----------
    left
        Submissions whose jobs may live, by their names.
    jobs
        Wanted of each pool, by its name; pools that follow the demand are not among them.
    adapting
        How pools follow the demand, by their names, in the words of those who wrote it.
    pools
        Options of pools that were added, by their names, likewise.
    opened
        When the first head of the cluster began, in seconds since the epoch, if that was written.
    accounts
        What jobs and tasks have cost, in the words of those who wrote it: to be added up.
    over
        Jobs of each pool whose submissions are over.
    """

    left: Mapping[str, Recorded] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    adapting: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    opened: float | None = None
    accounts: Sequence[Mapping[str, Any]] = ()
    over: Mapping[str, int] = field(default_factory=dict)


def remembered(events: Iterable[Mapping[str, Any]]) -> Remembered:
    """Fold events into what a new head goes on with.

    Parameters
    ----------
    events
        As :func:`read` gives them.
    """
    told = list(events)
    wanted: Mapping[str, Any] = {}
    for each in told:
        wanted = each if each["event"] == "wanted" else wanted
    every, over = submissions(told), Counter[str]()
    for job in every.values():
        over[job.pool] += job.count if job.over and job.array is not None else 0
    return Remembered(
        left={name: each for name, each in every.items() if not each.over},
        jobs=wanted.get("jobs", {}),
        adapting=wanted.get("adapting", {}),
        pools={each["name"]: each["options"] for each in told if each["event"] == "pool"},
        opened=next((each.get("at") for each in told if each["event"] == "opened"), None),
        accounts=[each for each in told if each["event"] == "account"],
        over=+over,
    )


def ends(events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the cluster has ended, or its end has begun: then nobody takes it over."""
    kinds = [each["event"] for each in events if each["event"] in ("opened", "closing", "closed")]
    return not kinds or kinds[-1] != "opened"
