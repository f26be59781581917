"""The ranks of one node meet: one leads, the others tell it who they are and wait, or leave.

Plain Unix sockets: a process that is blocked in a read costs nothing, whereas most MPI libraries
spin.  Neither MPI nor the engine is known here, and little is imported: every rank runs this.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from dask_hpc.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds in which all ranks of a node must have come: Python lies on a shared file system.
PATIENCE = 120.0
_LOOK_EVERY = 0.02
_ANCESTORS = 64
_CREDENTIALS = struct.Struct("3i")  # unix(7), SO_PEERCRED: process, user, group
#: Of no use in another process: descriptors of the launcher's, and what belongs to a shell.
_OWN = frozenset((b"PMI_FD", b"HYDI_CONTROL_FD", b"PWD", b"OLDPWD", b"_", b"SHLVL"))


class Member(NamedTuple):
    """A rank of this node.

    Parameters
    ----------
    rank
        In the world.
    cpus
        That its launcher lets it use.
    environ
        Its environment.
    """

    rank: int
    cpus: frozenset[int]
    environ: Mapping[bytes, bytes]


def myself(rank: int) -> Member:
    """Describe this process."""
    environ = {k: v for k, v in os.environb.items() if k not in _OWN}
    return Member(rank, frozenset(os.sched_getaffinity(0)), environ)


def launcher_process(variable: str) -> int:
    """Find what started this node's ranks: the nearest ancestor that is no rank itself.

    Parameters
    ----------
    variable
        Of the environment, set in each rank: shells and wrappers between have it too.

    Returns
    -------
    int
        Its process id; 0 if it is not to be seen (another name space).
    """
    marker = variable.encode() + b"="
    pid = os.getppid()
    for _ in range(_ANCESTORS):
        if pid == 0:
            return 0
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:  # noqa: PTH123  (pathlib costs 8 ms)
                ours = any(part.startswith(marker) for part in stream.read().split(b"\0"))
        except PermissionError:  # root's: slurmstepd
            return pid
        except OSError:
            return 0
        if not ours:
            return pid
        pid = _parent(pid)
    return 0


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123
            return int(stream.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _address(token: str) -> str:
    # Abstract, so that nothing is left on any disk.  Whoever takes the name first is looked at: it
    # must be us (`_is_mine`), since environments may hold secrets.
    return f"\0dask-hpc-mpi-{os.getuid()}-{token}"


def _is_mine(connection: socket.socket) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.getuid())


class Place:
    """Where the leader of a node receives the others, and keeps them until the end.

    Parameters
    ----------
    token
        The same in all ranks of this launch on this node.

    Raises
    ------
    NodeError
        If the place is taken.
    """

    def __init__(self, token: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(_address(token))
        except OSError as error:
            self._listener.close()
            raise NodeError(
                f"the ranks of this node cannot meet: {error.strerror}",
                hint="another launch of yours seems to have the same name: start again",
            ) from error
        self._listener.listen(socket.SOMAXCONN)
        self._waiting: list[socket.socket] = []
        self._kept: list[int] = []

    def receive(self, count: int, patience: float = PATIENCE) -> list[Member]:
        """Wait for the other ranks.

        Parameters
        ----------
        count
            Of them.
        patience
            Seconds.

        Raises
        ------
        NodeError
            If some do not come.
        """
        members: list[Member] = []
        deadline = time.monotonic() + patience
        while len(members) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._listener], [], [], left)[0]:
                known = sorted(member.rank for member in members)
                raise NodeError(
                    f"{count - len(members)} of {count + 1} ranks of {socket.gethostname()} did not"
                    f" come in {patience:.0f} s (there were: {known or 'none'})",
                    hint="see whether their processes run, and what they printed",
                )
            connection, _ = self._listener.accept()
            if _is_mine(connection):
                members.append(self._read_member(connection))
                self._waiting.append(connection)
        self._listener.close()
        return sorted(members)

    def _read_member(self, connection: socket.socket) -> Member:
        first, kept, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        self._kept += kept
        chunks = [first]
        while chunk := connection.recv(1 << 16):
            chunks.append(chunk)
        rank, cpus, *environ = b"".join(chunks).split(b"\0")
        pairs = (each.partition(b"=") for each in environ if each)
        return Member(
            int(rank),
            frozenset(map(int, filter(None, cpus.split(b",")))),
            {name: value for name, _, value in pairs},
        )

    def dismiss(self, code: int) -> None:
        """Let those who wait end with this exit code."""
        for connection in self._waiting:
            try:
                connection.sendall(str(code).encode())
            except OSError:  # it has left
                continue
            finally:
                connection.close()
        self._waiting.clear()
        for descriptor in self._kept:
            os.close(descriptor)
        self._kept.clear()

    def close(self) -> None:
        """Give the place up."""
        self._listener.close()
        self.dismiss(1)


def join(token: str, member: Member, patience: float = PATIENCE) -> socket.socket:
    """Tell the leader of this node who we are.

    Parameters
    ----------
    token
        As the leader's.
    member
        This process.
    patience
        Seconds in which the leader must be there.

    Returns
    -------
    socket
        For `wait`.

    Raises
    ------
    NodeError
        If there is no leader.
    """
    deadline = time.monotonic() + patience
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(_address(token))
            break
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise NodeError(
                    f"rank {member.rank} finds no leader on {socket.gethostname()}:"
                    f" {error.strerror}",
                    hint="the ranks of a node must see each other: one container for all of them",
                ) from error
        time.sleep(_LOOK_EVERY)
    if not _is_mine(connection):
        connection.close()
        raise NodeError(
            "another user has taken the place where the ranks of this node meet",
            hint="tell your administrators, and start again",
        )
    environ = (name + b"=" + value for name, value in member.environ.items())
    cpus = ",".join(map(str, sorted(member.cpus)))
    whoami = b"\0".join([str(member.rank).encode(), cpus.encode(), *environ])
    sent = socket.send_fds(connection, [whoami], _launchers_line())
    connection.sendall(whoami[sent:])
    connection.shutdown(socket.SHUT_WR)
    return connection


def _launchers_line() -> list[int]:
    """Give the leader our end of MPICH's line to its launcher, in case that we leave.

    MPICH's launcher spins in poll(2) for ever once a rank that never initialised MPI hangs up.
    """
    text = os.environ.get("PMI_FD", "")
    if not text.isdecimal():
        return []
    try:
        os.fstat(int(text))
    except OSError:  # a wrapper has closed it
        return []
    return [int(text)]


def wait(connection: socket.socket) -> int:
    """Sleep until the leader ends.

    Returns
    -------
    int
        The exit code that it gives; 1 if it died without a word.
    """
    try:
        text = connection.recv(16)
    except OSError:
        return 1
    finally:
        connection.close()
    return int(text) if text else 1
