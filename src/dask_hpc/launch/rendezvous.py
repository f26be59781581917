"""The scheduler file: written once, atomically, by a head; read by everyone who joins.

It keeps the keys of the engine's own scheduler file, so that the engine's Client reads it, and
adds ours under ``"dask_hpc"``.  Nothing secret is in it: TLS files are named, not copied.  No
engine import here: a node reads it before it imports anything large.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import stat
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.errors import (
    SchedulerFileBroken,
    SchedulerFileForeign,
    SchedulerFileMissing,
)
from dask_hpc.model.tls import TLSFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Mean seconds between two looks at the shared file system while the file is missing.
LOOK_EVERY = 1.0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """What a scheduler file says.

    Parameters
    ----------
    address
        Of the scheduler, for example ``"tls://10.0.0.1:34567"``.
    cluster, owner, host
        Names of the cluster, its owner and the head's host; empty in a file of the plain engine.
    pid
        Of the head, 0 if not known.
    written
        Seconds since the epoch.
    tls
        Identity to connect with, or None for a cluster without TLS.
    others
        More addresses of the scheduler, for hosts that do not reach the first.
    control
        Port of the head's control channel, on the same hosts; 0 without one.
    batch, head, job
        The batch system of its jobs; where the head runs (``"here"``: in its user's own process,
        ``"detached"``, ``"job"``), and the id of its job; empty in a file of another writer.
    born
        What tells the head's process from others of its number; likewise.
    """

    address: str
    cluster: str = ""
    owner: str = ""
    host: str = ""
    pid: int = 0
    written: float = 0.0
    tls: TLSFiles | None = None
    others: tuple[str, ...] = ()
    control: int = 0
    batch: str = ""
    head: str = ""
    job: str = ""
    born: str = ""

    @property
    def writer(self) -> str:
        """Who wrote the file and when, for messages."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.written))
        where = f" by process {self.pid} on {self.host}" if self.host else ""
        return f"written {when}{where}"


def write(
    path: Path,
    identity: Mapping[str, Any],
    *,
    cluster: str,
    owner: str,
    tls: TLSFiles | None,
    others: Sequence[str] = (),
    **more: str | int,
) -> None:
    """Write a scheduler file: complete or not at all, readable by its owner only.

    Parameters
    ----------
    path
        Where; an older file there is replaced.
    identity
        The engine's own keys (``Scheduler.identity()``), ``address`` among them.
    cluster, owner
        Names of the cluster and of the user.
    tls
        Identity that clients and workers connect with, or None.
    others
        More addresses of the scheduler.  Not written without TLS: what is one host's address here
        may be another's there, and nobody would notice.
    **more
        What else a :class:`Rendezvous` tells: `control`, `batch`, `head`, `job`, `born`.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    ours = {
        "cluster": cluster,
        "owner": owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "written": time.time(),
        "tls": asdict(tls) if tls else None,
        "others": list(others) if tls else [],
        **more,
    }
    write_atomically(path, json.dumps({**identity, "dask_hpc": ours}, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a new one of mode 0600: readers see the old or the new, never half.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> Rendezvous:
    """Read a scheduler file, ours or the plain engine's.

    Parameters
    ----------
    path
        Of the scheduler file.

    Returns
    -------
    Rendezvous
        What the file says.

    Raises
    ------
    SchedulerFileMissing
        If there is none.
    SchedulerFileForeign
        If it belongs to another user, or others may write it: it could send us anywhere.
    SchedulerFileBroken
        If it is half-written or holds no address.
    """
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            text = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise SchedulerFileMissing(
            f"there is no scheduler file {path}",
            hint="start the scheduler with this --scheduler-file, on a file system that all see",
        ) from None
    except PermissionError:
        raise SchedulerFileForeign(
            f"scheduler file {path} may not be read by you", hint="it is another user's cluster"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ESTALE, errno.EISDIR):  # NFS: replaced while we read it
            raise
        raise _broken(path, error.strerror or "it is no file") from None
    _check_owner(path, status)
    try:
        return _rendezvous(json.loads(text), status)
    except (ValueError, KeyError, TypeError):
        raise _broken(path, f"{len(text)} bytes") from None


def _broken(path: Path, detail: str) -> SchedulerFileBroken:
    return SchedulerFileBroken(
        f"scheduler file {path} is half-written or not a scheduler file ({detail})",
        hint="wait for its writer, or remove it and start the scheduler again",
    )


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid():
        raise SchedulerFileForeign(
            f"scheduler file {path} belongs to user id {status.st_uid}, not to you",
            hint="whoever writes it decides what you connect to: use a file of your own",
        )
    if status.st_mode & _OTHERS_WRITE:
        raise SchedulerFileForeign(
            f"scheduler file {path} may be written by others (mode {status.st_mode & 0o777:o})",
            hint=f"chmod go-w {path}, if you are sure of what is in it",
        )


def _rendezvous(content: dict[str, Any], status: os.stat_result) -> Rendezvous:
    address, ours = content["address"], content.get("dask_hpc") or {}
    if not isinstance(address, str) or "://" not in address or not isinstance(ours, dict):
        raise TypeError
    tls = ours.get("tls")
    return Rendezvous(
        address=address,
        cluster=str(ours.get("cluster", "")),
        owner=str(ours.get("owner", "")),
        host=str(ours.get("host", "")),
        pid=int(ours.get("pid", 0)),
        written=float(ours.get("written", status.st_mtime)),
        tls=TLSFiles(**tls) if tls else None,
        others=tuple(map(str, ours.get("others", ()))),
        control=int(ours.get("control", 0)),
        batch=str(ours.get("batch", "")),
        head=str(ours.get("head", "")),
        job=str(ours.get("job", "")),
        born=str(ours.get("born", "")),
    )


def wait(
    path: Path,
    timeout: float | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Rendezvous:
    """Wait for a scheduler file, about one operation a second, each process at its own moment.

    Parameters
    ----------
    path
        Of the scheduler file.
    timeout
        Seconds; None waits for ever.
    sleep, clock
        How to wait and what time it is; tests pass their own.

    Returns
    -------
    Rendezvous
        What the file says.

    Raises
    ------
    SchedulerFileMissing, SchedulerFileBroken
        If there is no complete file in time.
    SchedulerFileForeign
        At once: waiting does not make a file ours.
    """
    deadline = None if timeout is None else clock() + timeout
    while True:
        try:
            return read(path)
        except (SchedulerFileMissing, SchedulerFileBroken) as error:
            pause = LOOK_EVERY * random.uniform(0.75, 1.25)  # noqa: S311  (spreads load, no secret)
            if deadline is not None:
                left = deadline - clock()
                if left <= 0:
                    raise type(error)(
                        f"{error.args[0]}, after {timeout:g} s of waiting", hint=error.hint
                    ) from None
                pause = min(pause, left)
            sleep(pause)
