"""How the ranks of a launch of ``dask-mpi`` know each other, and what their nodes tell each other.

MPI is used where several nodes must tell each other something, at the start only; on one node the
ranks meet without.  Every rank runs this: it imports little, and no engine.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import zlib
from typing import TYPE_CHECKING, Any

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.launch import meeting, roles, world
from dask_hpc.launch import rank as ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_hpc.launch.meeting import Member, Place
    from dask_hpc.launch.world import World

_ALONE = ranks.Rank("no launcher", 0, 1, 0, 1, "", "")
#: Seconds that ranks get to come to a leader that has nothing but an exit code for them.
_LATE = 10.0


def say(line: str) -> None:
    """Tell whoever reads the launch's output."""
    sys.stderr.write(f"dask-mpi: {line}\n")
    sys.stderr.flush()


class Launch:
    """The launch, as one of its ranks sees it.

    Parameters
    ----------
    arguments
        Of the command line; only whether two options are there matters here.

    Raises
    ------
    MPIMissing
        If the launch needs MPI and there is none.
    WrongPair
        If the launcher and the MPI library do not fit.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.told = ranks.read(os.environ)
        self.process = meeting.launcher_process(self.told.variable) if self.told else 0
        self.without_mpi = "--no-mpi" in arguments
        self.note = ""
        self._place: Place | None = None
        self._received = False
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self.is_client = False
        self.world: World | None = None
        mpi = self._choose(_has_rendezvous(arguments))
        if mpi is None:
            self._by_environment()
        else:
            self._by_mpi(mpi)

    # --- how the ranks know each other ---

    def _choose(self, has_rendezvous: bool) -> Any:  # noqa: FBT001
        """Return mpi4py's module where MPI is to be used, None where the environment is enough."""
        told = self.told
        if told is None and self.without_mpi:
            return None
        enough = bool(told and told.local_size and told.local_rank is not None and self.process)
        if told and enough and (told.on_one_node or self.without_mpi):
            return None
        try:
            mpi = world.load()
            world.check_before(mpi, told, self.process)
        except ConfigurationError as error:
            if told is None:  # nobody has started ranks: one process is all there is
                return None
            goes = isinstance(error, world.MPIMissing) or told.launcher == "srun"
            if not (goes and enough and has_rendezvous):
                raise
            self.note = f"note: {error}\n  going by {told.launcher}'s environment instead"
            return None
        return mpi

    def _by_environment(self) -> None:
        told = self.told or _ALONE
        self.rank, self.size = told.rank, told.size
        self.leads = told.local_rank == 0
        self._mates = (told.local_size or 1) - 1
        self._token = f"{self.process}-{zlib.crc32(told.launch.encode()):x}"

    def _by_mpi(self, mpi: Any) -> None:
        self.world = world.World(mpi)
        self.rank, self.size = self.world.rank, self.world.size
        world.check_after(mpi, self.told, self.process, self.size)
        everyone = self.world.everyone((socket.gethostname(), os.urandom(8).hex()))
        hosts = [host for host, _ in everyone]
        leader = roles.leaders(hosts)[hosts[self.rank]]
        self.leads = leader == self.rank
        self._mates = hosts.count(hosts[self.rank]) - 1
        self._token = everyone[leader][1]

    @property
    def one_node(self) -> bool:
        """Whether all ranks are here."""
        return self._mates + 1 == self.size

    @property
    def name(self) -> str:
        """Of this launch, in its scheduler file; the same on all nodes."""
        return f"mpi-{self.told.launch}" if self.told and self.told.launch else "mpi"

    def prepare(self) -> None:
        """Let the others of this node come: called by its leader, before it does anything slow."""
        self._place = meeting.Place(self._token) if self._mates else None

    def receive(self) -> list[Member]:
        """Wait for the others of this node; the leader, which calls this, is the first."""
        self._received = True
        others = self._place.receive(self._mates) if self._place is not None else []
        return [meeting.myself(self.rank), *others]

    # --- those who do not lead ---

    def follow(self) -> int:
        """Be a rank that another stands for: tell it who we are, then leave or wait.

        Returns
        -------
        int
            The exit code.

        Raises
        ------
        NodeError
            If there is no leader.
        """
        connection = meeting.join(self._token, meeting.myself(self.rank))
        told, code = self.exchange(None, 0)
        if not code:
            self.share_identity(told)
        self.finish()
        if code:
            return code
        if self.told is not None and ranks.may_leave(self.told.launcher):
            return 0
        return meeting.wait(connection)

    # --- what the nodes tell each other: each rank calls these, in this order ---

    def exchange(self, mine: dict[str, Any] | None, code: int) -> tuple[dict[str, Any] | None, int]:
        """Tell all nodes where the scheduler is, and whether something went wrong.

        Parameters
        ----------
        mine
            What to tell; None from all but the leader of the scheduler's node.
        code
            Exit code of what went wrong here; 0 for nothing.

        Returns
        -------
        dict or None
            What that leader told.
        int
            The largest of all codes.
        """
        if self.world is None:
            return mine, code
        if mine is not None:
            mine = {**mine, "leader": self.rank, "public": _read_public(mine["tls"])}
        told = self.world.everyone((mine, code))
        return next((each for each, _ in told if each), None), max(code for _, code in told)

    def share_identity(self, told: dict[str, Any] | None) -> list[str] | None:
        """Have the identity's files on every node: those that do not see the home get a copy.

        The private key travels only then, from process to process by MPI, and lies in a directory
        of mode 0700 until this launch ends.

        Parameters
        ----------
        told
            As `exchange` returned it.

        Returns
        -------
        list of str or None
            Paths on this node.
        """
        files: list[str] | None = told["tls"] if told else None
        if self.world is None or told is None or files is None:
            return files
        connects = self.leads or self.is_client
        lacks = connects and _read_public(files) != told["public"]
        lacking = [rank for rank, each in enumerate(self.world.everyone(lacks)) if each]
        if told["leader"] == self.rank and lacking:
            contents = [_read(path) for path in files]
            for rank in lacking:
                self.world.send(contents, rank)
        if not lacks:
            return files
        self._copies = tempfile.TemporaryDirectory(prefix="dask-hpc-")  # mode 0700
        return _write_copies(self._copies.name, self.world.receive(told["leader"]))

    def finish(self) -> None:
        """End MPI: it is not needed any more."""
        if self.world is not None:
            self.world.finalize()

    def dismiss(self, code: int) -> None:
        """End the others of this node, and what was kept for the launch."""
        if self._place is not None:
            if not self._received:  # who is on the way would wait for a leader that has gone
                self._received = True
                with contextlib.suppress(NodeError):
                    self._place.receive(self._mates, _LATE)
            self._place.dismiss(code)
        if self._copies is not None:
            self._copies.cleanup()


def _has_rendezvous(arguments: Sequence[str]) -> bool:
    """Whether nodes can find the scheduler without MPI."""
    return any(each.split("=")[0] in ("--scheduler-file", "--no-scheduler") for each in arguments)


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:  # noqa: PTH123  (every rank imports this file)
        return stream.read()


def _read_public(files: Sequence[str] | None) -> list[bytes]:
    """Authority and certificate; empty where they cannot be read, or the key cannot."""
    if files is None:
        return []
    try:
        *public, key = [_read(path) for path in files]
    except OSError:
        return []
    return public if key else []


def _write_copies(folder: str, contents: Sequence[bytes]) -> list[str]:
    paths = []
    for name, content in zip(("ca.pem", "cert.pem", "key.pem"), contents, strict=True):
        path = os.path.join(folder, name)  # noqa: PTH118
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.closing(os.fdopen(descriptor, "wb")) as stream:
            stream.write(content)
        paths.append(path)
    return paths
