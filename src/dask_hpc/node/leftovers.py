"""Scratch directories of ours: made, recognised when their owner is dead, removed.

One per supervisor, mode 0700, with a file that says whose it is and that its owner holds locked
(flock(2)) while it lives.  Another user may have put anything under our names: nothing is followed,
and what is not ours is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from dataclasses import asdict, dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from dask_hpc.node.filesystems import Kind
from dask_hpc.node.kernel import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "dask-job-"
_OWNER = "owner.json"
_LONGEST = 4096
_PRIVATE = 0o077
_BUSY = (BlockingIOError, PermissionError)
_START_TIME = 19  # of the fields of /proc/PID/stat behind the name: proc(5), field 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who made a directory.

    Parameters
    ----------
    boot
        Id of the running kernel's start: a host by any name, until it is started again.
    pid, started, namespace
        Its process, when that started (in ticks since the boot), and where its number is valid.
    host, job
        For people.
    locked
        Whether its file system has locks.
    """

    boot: str
    pid: int
    started: int
    namespace: int
    host: str = ""
    job: str = ""
    locked: bool = True


class Lock(Enum):
    """What came of trying to lock a directory's file."""

    HELD = auto()
    FREE = auto()
    NONE = auto()  # the file system has none


def dead(owner: Owner, here: Owner, lock: Lock, *, kind: Kind, running: bool) -> bool:
    """Whether a directory's owner is known to be dead.

    Parameters
    ----------
    owner, here
        Of the directory; who asks.
    lock
        What came of trying.
    kind
        Of the file system.
    running
        Whether there is such a process where `here` looks.

    Returns
    -------
    bool
        False in doubt.  On a network only directories of this host, since it was started: there
        a lock may be this host's alone (Lustre's ``localflock``), and hosts may share a name.
    """
    same_boot = owner.boot == here.boot
    if lock is Lock.HELD or (kind in (Kind.NETWORK, Kind.UNKNOWN) and not same_boot):
        return False
    if lock is Lock.FREE and owner.locked:
        return True
    if not same_boot:
        return True
    return owner.namespace == here.namespace and not running


def myself(job: str) -> Owner:
    """Describe this process."""
    pid = os.getpid()
    return Owner(
        boot=read_file("/proc/sys/kernel/random/boot_id").strip(),
        pid=pid,
        started=_started(pid),
        namespace=os.stat("/proc/self/ns/pid").st_ino,  # noqa: PTH116
        host=os.uname().nodename,
        job=job,
    )


class Directory:
    """A scratch directory of this process."""

    def __init__(self, parent: str, me: Owner) -> None:
        """Make it.

        Raises
        ------
        OSError
            If that is not possible.
        """
        name = me.job or f"pid{me.pid}"
        self.path = tempfile.mkdtemp(prefix=f"{PREFIX}{name}-", dir=parent)
        self._lock: int | None = None
        try:
            self._lock = _sign(self.path, me)
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def remove(self) -> None:
        """Remove it with all that is in it; what cannot be removed stays for the next one."""
        name = Path(self.path)
        with contextlib.suppress(OSError), _opened(str(name.parent)) as parent:
            with _opened(name.name, parent) as descriptor:
                _empty(descriptor)
                if self._lock is not None:
                    os.close(self._lock)  # first: NFS keeps an open file under another name
                    self._lock = None
                os.unlink(_OWNER, dir_fd=descriptor)
            os.rmdir(name.name, dir_fd=parent)


def _sign(path: str, me: Owner) -> int:
    """Write who we are, locked before anyone can see it under its name; the open file."""
    draft = os.path.join(path, f".{_OWNER}")  # noqa: PTH118
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        locked = _lock(descriptor) is Lock.FREE
        text = json.dumps({**asdict(me), "locked": locked})
        os.write(descriptor, text.encode())
        os.rename(draft, os.path.join(path, _OWNER))  # noqa: PTH104, PTH118
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> Lock:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except _BUSY:
        return Lock.HELD
    except OSError:  # ENOSYS, EOPNOTSUPP, ENOLCK: Lustre without -o flock, some FUSE
        return Lock.NONE
    return Lock.FREE


# --- those of others -----------------------------------------------------------------------------


def clear(parent: str, here: Owner, kind: Kind) -> list[str]:
    """Remove the directories of dead supervisors of this user.

    Parameters
    ----------
    parent
        Directory that they are in.
    here
        Who asks.
    kind
        Of its file system.

    Returns
    -------
    list of str
        Names of those removed.
    """
    removed = []
    with contextlib.suppress(OSError), _opened(parent) as descriptor:
        with os.scandir(descriptor) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            if name.startswith(PREFIX):
                with contextlib.suppress(OSError, ValueError, TypeError):
                    if _clear_one(name, descriptor, here, kind):
                        removed.append(name)
    return removed


def _clear_one(name: str, parent: int, here: Owner, kind: Kind) -> bool:
    with _opened(name, parent) as descriptor:
        if not _ours(descriptor):
            return False
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(_OWNER, flags, dir_fd=descriptor)
        try:
            if not _ours(file) or not stat.S_ISREG(os.fstat(file).st_mode):
                return False
            owner = Owner(**json.loads(os.read(file, _LONGEST)))
            running = _started(owner.pid) == owner.started
            if not dead(owner, here, _lock(file), kind=kind, running=running):
                return False
            _empty(descriptor)
        finally:
            os.close(file)
        os.unlink(_OWNER, dir_fd=descriptor)
    os.rmdir(name, dir_fd=parent)
    return True


def _ours(descriptor: int) -> bool:
    seen = os.fstat(descriptor)
    return seen.st_uid == os.geteuid() and not seen.st_mode & _PRIVATE


@contextlib.contextmanager
def _opened(path: str, parent: int | None = None) -> Iterator[int]:
    """Open a directory, and no symbolic link to one (below `parent`)."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if parent is not None:
        flags |= os.O_NOFOLLOW
    descriptor = os.open(path, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _empty(descriptor: int) -> None:
    """Remove what is in an open directory, all but the file that says whose it is."""
    with os.scandir(descriptor) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if is_directory:
            shutil.rmtree(name, dir_fd=descriptor)
        elif name != _OWNER:
            os.unlink(name, dir_fd=descriptor)


def _started(pid: int) -> int:
    """When a process started, in ticks since the boot; -1 if there is none."""
    text = read_file(f"/proc/{pid}/stat").rpartition(")")[2]
    fields = text.split()
    return int(fields[_START_TIME]) if len(fields) > _START_TIME else -1
