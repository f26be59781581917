"""Start a head anew that died without a word: its guardian's second choice is to clear away.

How a head is started is its own affair: it leaves the words of a command in its directory.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_hpc.control import heads
from dask_hpc.control.heads import Holder
from dask_hpc.control.journal import Journal, ends, read
from dask_hpc.launch.rendezvous import write_atomically

logger = logging.getLogger("dask_hpc")

JOURNAL = "journal.jsonl"
#: Words of the command that starts the head of this directory anew.
RESTART = "restart.json"
#: Where a head that was started anew writes what it has to say.
LOG = "head.log"

#: Starts within so many seconds, after which the head is given up: what kills it three times in an
#: hour will kill it again, and its jobs hold cores meanwhile.
MOST = 3
WITHIN = 3600.0
#: Seconds that a start may take until the head has opened its journal: Python's files may come from
#: a slow, shared file system.
START = 300.0
#: Seconds between two starts, and between two looks whether one has come up.
PAUSE = 5.0
#: Seconds that a killed process may take to be gone: its memory is many gigabytes, perhaps.
GONE = 10.0
LOOK = 0.5


@dataclass(frozen=True, slots=True)
class Start:
    """How a head is started anew.

    Parameters
    ----------
    command
        Program and arguments.
    cwd
        Where it runs: workers start where their head did.
    """

    command: tuple[str, ...]
    cwd: str


def write_command(directory: Path, command: Sequence[str]) -> None:
    """Leave the words of the command that starts a head anew, where we are now.

    Parameters
    ----------
    directory
        Of the cluster.
    command
        Program and arguments; no shell reads them, and nothing secret may be among them.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    words = {"command": list(command), "cwd": here()}
    write_atomically(directory / RESTART, json.dumps(words) + "\n")


def here() -> str:
    """The directory that we are in, or the root of all if it was removed under our feet."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "/"


def read_command(directory: Path) -> Start | None:
    """Read them; None if there are none, or others might have written them."""
    path = directory / RESTART
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            words = json.loads(stream.read())
        start = Start(tuple(map(str, words["command"])), str(words["cwd"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ours = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return start if ours and start.command else None


def tries(events: Iterable[Mapping[str, Any]], now: float) -> int:
    """How often a head was started anew lately."""
    return sum(event["event"] == "restarting" and now - event["at"] < WITHIN for event in events)


def revive(directory: Path) -> bool:
    """Start the head of a cluster anew, until one has opened the journal.

    Parameters
    ----------
    directory
        Of a cluster whose head is dead.

    Returns
    -------
    bool
        Whether there is a head; if not, nobody will take care of the jobs.
    """
    while True:
        events = list(read(directory / JOURNAL))
        holders = heads.holders(events)
        if holders and _stays(holders[0]):  # somebody was quicker
            return True
        if any(each.alive for each in holders):  # and may be yet
            time.sleep(LOOK)
            continue
        start = read_command(directory)
        if ends(events) or start is None or tries(events, time.time()) >= MOST:
            return False
        journal = Journal(directory / JOURNAL)
        journal.append("restarting", at=time.time())
        journal.close()
        if _came_up(start, directory):
            return True
        time.sleep(PAUSE)


def _stays(head: Holder) -> bool:
    """Whether a head lives, and not only still: the kernel closes its files before it is gone."""
    deadline = time.monotonic() + GONE
    while head.alive and time.monotonic() < deadline:
        time.sleep(LOOK)
    return bool(head.alive)


def launch(start: Start, directory: Path) -> subprocess.Popen[bytes]:
    """Start a head that neither Ctrl-C nor the end of the terminal takes along.

    Parameters
    ----------
    start
        How.
    directory
        Of its cluster, where it writes its log.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            start.command,
            cwd=start.cwd if Path(start.cwd).is_dir() else "/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _came_up(start: Start, directory: Path) -> bool:
    try:
        process = launch(start, directory)
    except OSError as error:
        logger.warning("the head cannot be started anew: %s", error)
        return False
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        if _opened(directory):
            return True
        time.sleep(LOOK)
    if process.poll() is None:  # or there would be two of them, some day
        process.kill()
        process.wait()
    return _opened(directory) and any(
        each.alive for each in heads.holders(read(directory / JOURNAL))
    )


def _opened(directory: Path) -> bool:
    """Whether a head has opened the journal since one was started anew."""
    kinds = [each["event"] for each in read(directory / JOURNAL)]
    return "opened" in kinds[len(kinds) - kinds[::-1].index("restarting") :]
