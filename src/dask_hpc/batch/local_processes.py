"""The embedded batch system's processes: start a job's script, find all that it started, signal it.

Linux only: ``/proc`` and prctl(2).  No job states and no decisions may live here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_PROC = Path("/proc")
_DEAD = frozenset({"Z", "X"})


class Process(NamedTuple):
    """A live process of this user: its session, and the job in its environment, if any."""

    pid: int
    session: int
    job: str


def start(
    script: Path, *, log: int, directory: str, environment: Mapping[str, str], umask: int
) -> subprocess.Popen[bytes]:
    """Start a job's script as the leader of a session of its own.

    Parameters
    ----------
    log
        Descriptor that its output goes to.

    Raises
    ------
    OSError
        If the script, its interpreter or the directory cannot be used.
    """
    return subprocess.Popen(
        [str(script)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=directory,
        env=environment,
        umask=umask,
        start_new_session=True,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509  (the server has one thread)
    )


def _die_with_parent() -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, which is no place to load things
    parent = os.getpid()

    def apply() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return apply


def open_log(path: str, umask: int) -> int:
    """Open a job's log for appending, as its owner would.

    Raises
    ------
    OSError
        If its directory does not exist, for example.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags, 0o666 & ~umask)


def has_ended(pid: int) -> bool:
    """Whether a child ended; it stays a zombie, so that its number is not given to another."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def snapshot(server: str) -> list[Process]:
    """List this user's live processes.

    Parameters
    ----------
    server
        The mark (``LOCAL_SERVER``) of the jobs whose id is looked for in the environments.
    """
    with os.scandir(_PROC) as entries:
        pids = [entry for entry in entries if entry.name.isdigit()]
    seen = (_process(entry, server) for entry in pids)
    return [process for process in seen if process is not None]


def _process(entry: os.DirEntry[str], server: str) -> Process | None:
    path = Path(entry.path)
    try:
        if entry.stat().st_uid != os.geteuid():
            return None
        # The name between the brackets may hold anything: what follows the last one counts.
        state, _parent, _group, session = (
            path.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
        )
    except (OSError, UnicodeDecodeError, ValueError):  # it ended meanwhile
        return None
    if state in _DEAD:
        return None
    return Process(int(entry.name), int(session), _job_in_environment(path, server))


def _job_in_environment(path: Path, server: str) -> str:
    try:
        words = path.joinpath("environ").read_bytes().split(b"\0")
    except OSError:  # it ended, or hides its memory (ssh-agent): its session still tells
        return ""
    if f"LOCAL_SERVER={server}".encode() not in words:
        return ""
    ids = (word[len(b"LOCAL_JOB_ID=") :] for word in words if word.startswith(b"LOCAL_JOB_ID="))
    return next(ids, b"").decode(errors="replace")


def members(processes: Iterable[Process], *, session: int | None, job: str) -> list[int]:
    """Pids of a job: those of its session, and those that left it but carry its id."""
    return [p.pid for p in processes if p.session == session or p.job == job]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):  # ended, or turned setuid: not ours any more
            continue


def kill_all_of(server: str, sessions: Container[int]) -> bool:
    """Kill what is left of a dead server's jobs; False when nothing was left to kill."""
    left = [p.pid for p in snapshot(server) if p.job or p.session in sessions]
    send(left, signal.SIGKILL)
    return bool(left)
