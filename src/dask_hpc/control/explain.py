"""Why a job ended, in words a user can act on.

A status and the tail of a log go in, text comes out; :func:`telling` and :func:`read_tail` alone
look at files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from signal import SIGKILL
from typing import NamedTuple

from dask_hpc.control.reconcile import JobKey
from dask_hpc.control.tracked import End
from dask_hpc.errors import JobStartError
from dask_hpc.model.job import JobState, JobStatus

#: Lines of a log that an error shows.
TAIL_LINES = 12
_TAIL_BYTES = 16384

_STATES = {
    JobState.TIMEOUT: (
        "the batch system killed it at its walltime",
        "ask for a longer walltime=, or find out what kept its workers from joining",
    ),
    JobState.OUT_OF_MEMORY: (
        "it was killed for using more memory than it asked for",
        "ask for more memory=, or for fewer processes per job",
    ),
    JobState.NODE_FAIL: ("its node failed", ""),
    JobState.PREEMPTED: ("a job of higher priority took its place", ""),
    JobState.CANCELLED: ("it was cancelled, not by this cluster", ""),
    JobState.COMPLETED: ("its script ended without an error before a worker joined", ""),
    JobState.GONE: (
        "it ended, and the batch system no longer says how",
        "the log, if there is one, is all that is left",
    ),
    JobState.FAILED: ("its script failed", ""),
}

# What a log says, what it means, what to do.  The first that matches, last line first.
_CAUSES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"No module named '?(dask_hpc|distributed|dask)\b"),
        "the Python on the node has no {0}",
        (
            "give the cluster python= with the path of a Python that the nodes have too, "
            "or activate its environment in job_script_prologue="
        ),
    ),
    (
        re.compile(r"ModuleNotFoundError: No module named '([^']+)'"),
        "the Python on the node has no module {0}",
        "install it in the environment that the nodes use",
    ),
    (
        re.compile(
            r"(?:exec: |line \d+: )?(\S*python\S*): (?:cannot execute|[Nn]o such file|not found)"
        ),
        "the node has no {0}",
        "give the cluster python= with a path that exists on the nodes, on a shared file system",
    ),
    (
        re.compile(r"^FATAL: {3}(\S.*)"),  # Apptainer's and Singularity's layout
        "its container did not start: {0}",
        "python= names the image and the Python in it: is it there on the nodes too?",
    ),
    (
        re.compile(r"dask-hpc worker: ended: (cannot reach the head.*)"),
        "{0}",
        (
            "give the cluster interface= (or host=) that the nodes can reach; firewalls between "
            "login and compute nodes are common"
        ),
    ),
    (
        re.compile(r"dask-hpc worker: ended: (the head at \S+ cannot connect to this .*)"),
        "{0}",
        "give the cluster another interface=, one that the head is on too, or have it opened",
    ),
    (re.compile(r"dask-hpc worker: ended: (.+)"), "{0}", ""),
    (
        re.compile(r"(?:oom[-_ ]kill|Out of memory|MemoryError|bad_alloc)", re.IGNORECASE),
        "it ran out of memory",
        "ask for more memory=, or for fewer processes per job",
    ),
    (
        re.compile(r"line \d+: +\d+ Killed\b"),  # a shell's words for signal 9
        "a command of its script was killed, most often for more memory than the job asked for",
        "ask for more memory=, or for fewer processes per job",
    ),
    (re.compile(r"(.*): command not found"), "a command of its script is not there: {0}", ""),
    (
        re.compile(r"No space left on device"),
        "a disk on the node is full",
        "give the cluster another local_directory=",
    ),
    (re.compile(r"Disk quota exceeded"), "your disk quota is used up", "free some space"),
)


class Cause(NamedTuple):
    """Why a job ended, and what to do."""

    text: str
    hint: str


def cause(status: JobStatus, log: str) -> Cause:
    """Name the cause of a job's end.

    Parameters
    ----------
    status
        How the batch system says it ended.
    log
        What it wrote, or the tail of it.

    Returns
    -------
    Cause
        What the batch system knows for certain (walltime, memory) comes before what the log says.
    """
    text, hint = _STATES.get(status.state, (str(status.state), ""))
    if status.state in (JobState.TIMEOUT, JobState.OUT_OF_MEMORY):
        return Cause(text, hint)
    for line in reversed(log.splitlines()):
        for pattern, meaning, advice in _CAUSES:
            if match := pattern.search(line):
                return Cause(meaning.format(*match.groups()), advice or hint)
    killed = status.signal == SIGKILL or status.exit_code == SIGKILL + 128
    if killed and not status.reason:
        text += " (killed by signal 9, which most often means: more memory than it asked for)"
        hint = hint or _STATES[JobState.OUT_OF_MEMORY][1]
    elif status.exit_code:
        text += f" with exit code {status.exit_code}"
    elif status.signal:
        text += f" by signal {status.signal}"
    if status.reason:
        text += f" ({status.reason})"
    return Cause(text, hint)


def quote_tail(log: str, lines: int = TAIL_LINES) -> str:
    """Last lines of a log, indented for an error message."""
    kept = [line.rstrip() for line in log.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    | {line}" for line in kept) or "    | (nothing)"


def telling(path: Path) -> Path:
    """Which log of a job tells why it ended: its own, or that of one of its several nodes.

    Of the nodes the one that fell silent first: the others may only have followed it.
    """
    try:
        nodes = sorted(path.parent.glob(f"{escape(path.stem)}.*.log"), key=_last_written)
    except OSError:  # gone while we looked
        return path
    return nodes[0] if nodes else path


def _last_written(path: Path) -> float:
    return path.stat().st_mtime


def read_tail(path: Path) -> str:
    """The last lines of a job's log; empty where there is none yet or none at all."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def start_error(
    cluster: str, ends: Sequence[End], path: Path, log: str, *, stopped: bool
) -> JobStartError:
    """One error for jobs that ended too soon, told by the first of them.

    Parameters
    ----------
    cluster
        Its name.
    ends
        The jobs, at least one.
    path, log
        Of the first job's log: where it is, and its tail.
    stopped
        Whether nothing more is submitted from now on.
    """
    first = ends[0]
    why = cause(first.status, log)
    many = f"{len(ends)} jobs" if len(ends) > 1 else "a job"
    node = f" on {first.status.node}" if first.status.node else ""
    when = "too soon after its workers joined" if first.joined else "before a worker joined"
    then = (
        "nothing more is submitted until scale() is called again"
        if stopped
        else "it is tried again"
    )
    return JobStartError(
        f"{many} of cluster {cluster} ended {when}; {then}\n"
        f"  job {first.id}{node}: {first.status.state}\n"
        f"  cause: {why.text}\n"
        f"  log {path}:\n{quote_tail(log)}",
        hint=why.hint,
    )


def impossible_error(cluster: str, key: JobKey, status: JobStatus) -> JobStartError:
    """The error for a job that the batch system accepted and can never start."""
    return JobStartError(
        f"job {key.name}-{key.index} of cluster {cluster} can never start: {status.reason}",
        hint="close the cluster and ask for what the queue can give",
    )
