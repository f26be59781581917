"""Starting a head that outlives whoever starts it: a process of its own, on this machine.

What it is to start is written into the cluster directory, where a head that is started again finds
it, too.  No engine is imported here: commands start clusters as well.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_hpc import errors
from dask_hpc.cluster.directory import ERROR, HEAD_LOG, WANTED
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.known import Known, find
from dask_hpc.cluster.security import home, private_directory
from dask_hpc.errors import (
    ClusterDirectoryError,
    ConfigurationError,
    HPCError,
    RendezvousError,
    UnknownCluster,
)
from dask_hpc.launch import rendezvous

#: Seconds that a head may take until it answers: the first on a cold shared file system is slow.
PATIENCE = 120.0
#: Seconds between two looks.
_LOOK = 0.1
#: Bytes of a log that are shown.
_TAIL = 2000


#: Where a head may run.
PLACES = ("here", "detached")


def checked_place(head: str) -> str:
    """Where a head is to run, as `head=` says.

    Raises
    ------
    ConfigurationError
        If there is no such place.
    """
    if head not in PLACES:
        raise ConfigurationError(
            f"a head cannot run {head!r}", hint=f"head= is one of {', '.join(PLACES)}"
        )
    return head


@dataclass(frozen=True, slots=True)
class Bringing:
    """A cluster to bring up: what `bring_up` takes, to be called later."""

    keywords: Mapping[str, Any]
    name: str
    n_workers: int
    head: str

    def __call__(self) -> Known:
        """Bring it up."""
        return bring_up(self.keywords, name=self.name, n_workers=self.n_workers, head=self.head)


def bring_up(
    keywords: Mapping[str, Any],
    *,
    name: str | None = None,
    n_workers: int = 0,
    head: str = "detached",
) -> Known:
    """Start a cluster whose head runs by itself, and wait until it answers.

    Parameters
    ----------
    keywords
        Of :class:`dask_hpc.HPCCluster`.
    name
        Of the cluster; default: a random one.
    n_workers
        Workers to ask for at once.
    head
        Where it runs: ``"detached"``, a process on this machine.

    Returns
    -------
    Known
        It runs.

    Raises
    ------
    ClusterDirectoryError
        If there is a cluster of this name, or no directory for one can be made.
    HPCError
        What kept the head from starting.
    """
    from dask_hpc.cluster.options import check_name

    name = check_name(name or f"{keywords.get('job_name') or 'dask'}-{secrets.token_hex(3)}")
    directory = private_directory(home() / name)
    _refuse_living(name)
    for stale in (ERROR, HEAD_LOG):
        (directory / stale).unlink(missing_ok=True)
    given = {word: value for word, value in keywords.items() if value not in (None, [], ())}
    wanted = {"name": name, "n_workers": n_workers, "keywords": given, "head": head}
    rendezvous.write_atomically(directory / WANTED, json.dumps(wanted, default=str, indent=1))
    process = start(command(directory), directory)
    # Whoever is left of us then sees it end: it must not stay a zombie for as long as we live.
    threading.Thread(target=process.wait, name="dask-hpc head", daemon=True).start()
    return _wait(name, directory, process)


def command(directory: Path, *more: str) -> list[str]:
    """What starts the head of a cluster directory."""
    return [sys.executable, "-P", "-m", "dask_hpc.cluster.head_process", str(directory), *more]


def start(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that neither Ctrl-C nor the end of the terminal takes along."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(directory / HEAD_LOG, flags, 0o600)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _refuse_living(name: str) -> None:
    try:
        living = find(name)
    except (UnknownCluster, RendezvousError):
        return
    if living.alive is not False:
        raise ClusterDirectoryError(
            f"a cluster {name} runs already: its head is process {living.pid} on {living.host}",
            hint=f"HPCCluster.attach({name!r}) takes part in it; or take another name",
        )


def _wait(name: str, directory: Path, process: subprocess.Popen[bytes]) -> Known:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        over = process.poll() is not None
        try:
            known = find(name)
            client = HeadClient(known) if known.pid == process.pid else None
            if client and client.view(jobs=False)["status"] == "running":
                return known
        except (UnknownCluster, RendezvousError):
            pass
        if over:
            raise failure(directory)
        time.sleep(_LOOK)
    process.terminate()
    raise HPCError(
        f"the head of cluster {name} did not answer within {PATIENCE:.0f} s",
        hint=f"see {directory / HEAD_LOG}",
    )


def failure(directory: Path) -> HPCError:
    """What kept a head from starting, as it said itself, or the end of its log; clears away."""
    try:
        found = errors.from_json(json.loads((directory / ERROR).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        found = HPCError(f"the head ended before it could start: {_said(directory)}")
    for path in (WANTED, ERROR, HEAD_LOG):
        (directory / path).unlink(missing_ok=True)
    with suppress(OSError):  # logs of its jobs are kept
        directory.rmdir()
    return found


def _said(directory: Path) -> str:
    try:
        log = (directory / HEAD_LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        log = ""
    return log[-_TAIL:].strip() or "(it said nothing)"
