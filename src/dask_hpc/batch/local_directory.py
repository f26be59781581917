"""The embedded batch system's directory: its files, its locks and its socket.

What the commands and the server share, and nothing else: no job is started or judged here.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import struct
import time
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.batch.local_book import Book, dump, load, lost
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STATE = "state.json"
SOCKET = "socket"
LOG = "server.log"
SCRIPTS = "scripts"
SERVER_LOCK = "server.lock"  # held by a server all its life
START_LOCK = "start.lock"  # held by a submit while it starts a server

#: Seconds after which a server that does not answer counts as busy.
PATIENCE = 30.0


def directory_path(environment: Mapping[str, str]) -> Path:
    """Where the state of this machine's local batch system is."""
    if chosen := environment.get("DASK_HPC_LOCAL"):
        return Path(chosen).absolute()
    home = Path(environment.get("DASK_HPC_HOME") or Path.home() / ".dask-hpc")
    # By host: a home on a shared file system is many machines' home.
    return home.absolute() / "local" / socket.gethostname()


def make_directory(path: Path) -> None:
    """Create the directory, its parents too, for this user alone.

    Raises
    ------
    BatchSystemError
        If it is there and another's, or open to others.
    """
    for part in (*reversed(path.parents), path):
        try:
            part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BatchSystemError(
                f"cannot create {path}: {error.strerror}: {part}",
                hint="name another place in $DASK_HPC_LOCAL",
            ) from error
    check_directory(path)


def check_directory(path: Path) -> None:
    """Refuse a directory that is not this user's alone.

    Raises
    ------
    BatchSystemError
        If it is a link, another's, or open to others.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise BatchSystemError(
            f"{path} is not a directory of yours", hint="name another one in $DASK_HPC_LOCAL"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise BatchSystemError(f"others may use {path}", hint=f"run: chmod 700 {path}")


@contextmanager
def locked(path: Path, kind: int) -> Iterator[int]:
    """Hold a lock file; ``kind`` as for flock(2).

    Raises
    ------
    BlockingIOError
        If another holds it and ``kind`` says not to wait.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def read_book(directory: Path) -> Book:
    """Read the state as last written."""
    try:
        text = directory.joinpath(STATE).read_text()
    except FileNotFoundError:
        return Book()
    return load(text, now=time.time())


def write_book(directory: Path, book: Book) -> None:
    """Replace the state at once, readable by this user only."""
    fresh = directory / f"{STATE}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:  # noqa: PTH123  (a descriptor)
        file.write(dump(book))
    fresh.replace(directory / STATE)


def observe(directory: Path) -> Book:
    """Read the state, and see through what a killed server left."""
    book = read_book(directory)
    if not any(job.live for job in book.jobs.values()):
        return book
    try:
        with locked(directory / SERVER_LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB):
            # No server can start while we hold this: what is read now is final.
            book = read_book(directory)
    except BlockingIOError:
        return book
    return Book(book.next_array, lost(book.jobs.values()))


def peer_is_us(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return bool(uid == os.geteuid())


def listen(directory: Path) -> socket.socket:
    """Open the server's socket, whatever a killed server left in its place."""
    directory.joinpath(SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with chdir(directory):  # a socket's path is at most 107 bytes: a relative one always fits
        listener.bind(SOCKET)
        Path(SOCKET).chmod(0o600)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def ask(directory: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Send one request to the server.

    Returns
    -------
    dict or None
        Its answer; None when there is no server, or it ended without taking the request.

    Raises
    ------
    BatchSystemUnavailable
        If it does not answer in time.
    BatchSystemError
        If it cannot do what is asked, or is another user's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            with chdir(directory):
                connection.connect(SOCKET)
            if not peer_is_us(connection):
                raise BatchSystemError(f"the server at {directory / SOCKET} is not yours")
            connection.sendall(json.dumps(request).encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except (FileNotFoundError, ConnectionError):
            return None
        except (TimeoutError, BlockingIOError) as error:
            raise busy(directory) from error
    if not answer:
        return None
    said: dict[str, Any] = json.loads(answer)
    if "error" in said:
        raise BatchSystemError(
            f"the local batch system cannot do it: {said['error']}",
            hint=f"see {directory / LOG}; its jobs end with the server if you kill it",
        )
    return said


def busy(directory: Path) -> BatchSystemUnavailable:
    """Error of a server that does not answer."""
    return BatchSystemUnavailable(
        f"local batch system is busy: no answer from {directory / SOCKET}",
        hint=f"see {directory / LOG}",
    )
