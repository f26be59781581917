"""Starting a head that outlives whoever starts it: a process of its own here, or in a job.

What it is to start is written into the cluster directory, where a head that is started again finds
it, too.  No engine is imported here: commands start clusters as well.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.cluster import pending
from dask_hpc.cluster.directory import ERROR, HEAD_JOB, HEAD_LOG, WANTED, read_error
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.known import Known, find
from dask_hpc.cluster.security import home, private_directory
from dask_hpc.control.revival import Start, here, launch, read_command
from dask_hpc.errors import (
    ClusterDirectoryError,
    ConfigurationError,
    HeadUnreachable,
    HPCError,
    RendezvousError,
    UnknownCluster,
)
from dask_hpc.launch import rendezvous

if TYPE_CHECKING:
    from dask_hpc.cluster.head_job import HeadJob

#: Seconds that a head may take until it answers: the first on a cold shared file system is slow.
PATIENCE = 120.0
#: Seconds between two looks, at first and at last: a job may wait for hours.
_LOOK, _LONGEST_LOOK = 0.1, 5.0
#: Bytes of a log that are shown.
_TAIL = 2000


#: Where a head may run.
PLACES = ("here", "detached", "job")


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
    head_options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Known:
        """Bring it up."""
        return bring_up(
            self.keywords,
            name=self.name,
            n_workers=self.n_workers,
            head=self.head,
            head_options=self.head_options,
        )


def bring_up(
    keywords: Mapping[str, Any],
    *,
    name: str | None = None,
    n_workers: int = 0,
    orders: Sequence[tuple[str, Mapping[str, Any]]] = (),
    head: str = "detached",
    head_options: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    told: Callable[[str], None] = lambda _: None,
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
    orders
        What else it is asked for: ``"scale"`` and ``"adapt"``, with the words of those methods.
        The head carries them out, whoever is still there when it starts.
    head
        Where it runs: ``"detached"``, a process on this machine, or ``"job"``, a job of its own.
    head_options
        What that job asks for; see `HPCCluster`.
    timeout
        Seconds for a job to start and answer; None waits as long as it takes.
    told
        Called now and then with a line on how the head does that is waited for.

    Returns
    -------
    Known
        It runs.

    Raises
    ------
    ConfigurationError
        If something of this can never work.
    ClusterDirectoryError
        If there is a cluster of this name, or no directory for one can be made.
    HPCError
        What kept the head from starting.
    """
    from dask_hpc.cluster.options import check_name

    name = check_name(name or f"{keywords.get('job_name') or 'dask'}-{secrets.token_hex(3)}")
    directory = private_directory(home() / name)
    _refuse_living(name)
    for stale in (ERROR, HEAD_LOG, HEAD_JOB):
        (directory / stale).unlink(missing_ok=True)
    given = {word: value for word, value in keywords.items() if value not in (None, [], ())}
    wanted: dict[str, Any] = {
        "name": name,
        "n_workers": n_workers,
        "orders": list(orders),
        "keywords": given,
        "head": head,
    }
    starting: _Process | HeadJob | None = None
    try:
        if head == "job":
            starting = _job(given, head_options or {}, name, directory)
            wanted |= starting.wanted
        else:
            starting = _Process(directory, Start(tuple(command(directory)), here()))
            timeout = PATIENCE
        rendezvous.write_atomically(directory / WANTED, json.dumps(wanted, default=str, indent=1))
        starting.submit()
        try:
            return _wait(name, directory, starting, timeout, told)
        finally:
            starting.leave()
    except BaseException as error:
        if starting is not None:
            starting.clear_away(keep_logs=isinstance(error, HPCError))
        clear(directory)
        raise


def _job(
    keywords: Mapping[str, Any], head_options: Mapping[str, Any], name: str, directory: Path
) -> HeadJob:
    """A job for a head, where nothing of an earlier cluster of this name is left."""
    from dask_hpc.cluster.head_job import HeadJob

    words = command(directory)
    job = HeadJob(keywords, head_options, name=name, directory=directory, command=words)
    job.clear_away(keep_logs=False)
    private_directory(directory)  # which that may have removed
    return job


class _Process:
    """A head that starts as a process of this machine."""

    def __init__(self, directory: Path, start: Start) -> None:
        self._directory = directory
        self._start = start
        self._process: subprocess.Popen[bytes]

    def submit(self) -> None:
        """Start it."""
        self._process = launch(self._start, self._directory)
        # Whoever is left of us then sees it end: no zombie may stay for as long as we live.
        threading.Thread(target=self._process.wait, name="dask-hpc head", daemon=True).start()

    def is_it(self, known: Known) -> bool:
        """Whether this is its cluster."""
        return known.pid == self._process.pid

    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def cancel(self) -> None:
        """End it."""
        self._process.terminate()

    def told(self) -> str:
        """How it does."""
        return f"the head starts, process {self._process.pid}"

    def serve(self, known: Known) -> None:
        """Do nothing for it: it has all that we have."""

    def leave(self) -> None:
        """See `serve`."""

    def clear_away(self, *, keep_logs: bool) -> None:
        """Leave its jobs to its guardian."""


class _Successor(_Process):
    """One that takes over: whoever waits for it may leave, and its jobs live on."""

    def cancel(self) -> None:
        """Nothing: its end would be that of the jobs."""


def revive(
    known: Known, *, force: bool = False, told: Callable[[str], None] = lambda _: None
) -> Known:
    """Start a head that takes over the jobs of one that has died, and wait until it answers.

    Parameters
    ----------
    known
        The cluster, whose head was detached.
    force
        Whether a head on another host is dead for good: the user's word.
    told
        Called with a line on what is waited for.

    Returns
    -------
    Known
        It runs again.

    Raises
    ------
    ClusterDirectoryError
        If its head lives, or may; or if nothing can be taken over.
    HPCError
        What kept the new head from starting.
    """
    if known.alive:
        raise ClusterDirectoryError(
            f"the head of cluster {known.name} lives: process {known.pid} on {known.host}",
            hint="there is nothing to take over",
        )
    again = read_command(known.directory)
    if again is None:
        raise ClusterDirectoryError(
            f"the jobs of cluster {known.name} cannot be taken over: its head was not detached, or"
            " has been given up, and they end without it",
            hint=f"`dask-hpc down {known.name}` clears away what it left",
        )
    (known.directory / ERROR).unlink(missing_ok=True)
    if force:
        again = replace(again, command=(*again.command, "--force"))
    starting = _Successor(known.directory, again)
    starting.submit()
    return _wait(known.name, known.directory, starting, None, told)


def command(directory: Path, *more: str) -> list[str]:
    """What starts the head of a cluster directory."""
    return [sys.executable, "-P", "-m", "dask_hpc.cluster.head_process", str(directory), *more]


def _refuse_living(name: str) -> None:
    try:
        living = find(name)
    except (UnknownCluster, RendezvousError):
        return
    if living.pending:
        how = pending.ask(living.directory)
        if how is not None and how.live is not False:
            raise ClusterDirectoryError(
                f"a cluster {name} is on its way already: {how.line}",
                hint=f"`dask-hpc down {name}` cancels it; or take another name",
            )
    elif living.alive is not False:
        raise ClusterDirectoryError(
            f"a cluster {name} runs already: its head is process {living.pid} on {living.host}",
            hint=f"HPCCluster.attach({name!r}) takes part in it; or take another name",
        )


def _wait(
    name: str,
    directory: Path,
    starting: _Process | HeadJob,
    timeout: float | None,
    told: Callable[[str], None],
) -> Known:
    began, last = time.monotonic(), ""
    try:
        while timeout is None or time.monotonic() < began + timeout:
            over = starting.over()
            if known := _answers(name, starting):
                return known
            if over:
                raise failure(directory)  # noqa: TRY301  (what is below is for interruptions)
            if (line := starting.told()) != last:
                told(line)
            last = line
            time.sleep(pause(time.monotonic() - began))
    except BaseException:
        if not starting.over():
            starting.cancel()
        raise
    starting.cancel()
    raise HeadUnreachable(
        f"the head of cluster {name} did not answer within {timeout:.0f} s; {starting.told()}",
        hint="it is given up: wait longer, or ask less for it",
    )


def pause(waited: float) -> float:
    """Seconds until the next look, of somebody who has waited so long for a job."""
    return min(_LONGEST_LOOK, max(_LOOK, waited / 20))


def _answers(name: str, starting: _Process | HeadJob) -> Known | None:
    """The cluster, if it is this one and all that it began with is done."""
    try:
        known = find(name)
        if starting.is_it(known):
            starting.serve(known)
            if HeadClient(known).view(jobs=False)["status"] == "running":
                return known
    except (UnknownCluster, RendezvousError):
        pass
    return None


def failure(directory: Path) -> HPCError:
    """What kept a head from starting, as it said itself, or the end of its log."""
    found = read_error(directory)
    if found is None:
        found = HPCError(f"the head ended before it could start: {_said(directory)}")
    return found


def clear(directory: Path) -> None:
    """Remove what a head has left that did not start; the directory too, unless jobs have logs."""
    files = [directory / name for name in (WANTED, ERROR, HEAD_LOG, HEAD_JOB, "job-head.sh")]
    for path in (*files, *directory.glob("*-head-*.log")):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def _said(directory: Path) -> str:
    log = ""
    for path in (directory / HEAD_LOG, *directory.glob("*-head-*.log")):
        with suppress(OSError):
            log += path.read_text(encoding="utf-8", errors="replace")
    return log[-_TAIL:].strip() or "(it said nothing)"
