"""The journal: every submission of a cluster, on disk before the batch system hears of it.

Append only, one JSON object a line, each flushed to the disk, so that after a crash at any moment
the jobs of a cluster can be found again by the unique names written here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Event = Literal["opened", "intended", "submitted", "refused", "absent", "ended", "closed"]


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
    """

    name: str
    pool: str
    count: int
    array: str | None = None
    over: bool = False


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
            found[name] = Recorded(name, event["pool"], event["count"])
        elif name in found and kind == "submitted":
            found[name] = replace(found[name], array=event["array"])
        elif name in found and kind in ("refused", "absent", "ended"):
            found[name] = replace(found[name], over=True)
    return found
