"""A launch from within a user's program: ``initialize`` and ``execute`` of :mod:`dask_hpc.mpi`.

The program has initialised MPI, or may use it afterwards, so that MPI lives on here, and every rank
must reach its end alike.  Ranks that wait sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from dask_hpc.cluster.mpi.launch import Launch, say
from dask_hpc.cluster.mpi.lead import SCHEDULER_DIED, code_of
from dask_hpc.cluster.mpi.program import NodeProgram, orders_for
from dask_hpc.errors import HPCError
from dask_hpc.launch import meeting, roles, world
from dask_hpc.launch import rank as ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_hpc.cluster.mpi.options import LaunchOptions

#: Seconds that the scheduler may take to see its workers off.
_CLOSE_SECONDS = 30.0
#: Seconds in which all ranks must have ended once the client's has; then MPI_Abort.
_FAREWELL_SECONDS = 60.0
#: Seconds that ranks other than the first wait, so that its error is the one that is read.
_LET_SPEAK = 2.0


class _ProgramLaunch(Launch):
    """A launch that always goes by MPI, and knows which of its ranks is the client.

    Parameters
    ----------
    comm
        Communicator; None for all ranks.
    """

    def __init__(self, comm: Any) -> None:  # not the command line's: nothing to choose
        self.told = ranks.read(os.environ)
        self.process = meeting.launcher_process(self.told.variable) if self.told else 0
        self.without_mpi = False
        self.note = ""
        self._place = None
        self._copies = None
        mpi = world.load()
        if comm is None:
            world.check_before(mpi, self.told, self.process)
        self.world = world.World(mpi, comm)
        self.rank, self.size = self.world.rank, self.world.size
        if comm is None:
            world.check_after(mpi, self.told, self.process, self.size)

    def assign(self, given: roles.Roles) -> None:
        """Find out who is where; every rank calls this."""
        assert self.world is not None  # noqa: S101  (by __init__)
        alone = given.client
        if alone == given.scheduler or alone in given.workers:
            alone = None
        everyone = self.world.everyone((socket.gethostname(), os.urandom(8).hex()))
        hosts = [host for host, _ in everyone]
        here = [rank for rank, host in enumerate(hosts) if host == hosts[self.rank]]
        mine = roles.leaders(hosts, alone).get(hosts[self.rank], -1)
        self.is_client = self.rank == given.client
        self.leads = mine == self.rank
        self._mates = len([rank for rank in here if rank != alone]) - 1
        self._token = everyone[mine][1]
        self.follows = not self.leads and self.rank != alone

    def join(self) -> socket.socket:
        """Tell the leader of this node who we are."""
        return meeting.join(self._token, meeting.myself(self.rank))


class Session:
    """One rank of a program's launch.

    Parameters
    ----------
    options
        Of the launch.
    client
        Rank of the client; None for none.
    comm
        Communicator; None for all ranks.

    Raises
    ------
    HPCError
        In the first rank; the others end.
    """

    def __init__(self, options: LaunchOptions, *, client: int | None, comm: Any = None) -> None:
        self._options = options
        self._program: NodeProgram | None = None
        self._line: socket.socket | None = None
        self._watcher: threading.Thread | None = None
        self._closing = False
        self._launch, given = _enter(options, client, comm)
        self.is_client = self._launch.is_client
        self._has_scheduler = False
        self.address = options.workers.get("scheduler")
        self.tls: list[str] | None = None
        self._start(given)

    @property
    def world(self) -> world.World:
        """MPI."""
        assert self._launch.world is not None  # noqa: S101  (a program's launch has MPI)
        return self._launch.world

    # --- the beginning ---

    def _start(self, given: roles.Roles) -> None:
        launch, mine, rest, code = self._launch, None, None, 0
        try:
            if launch.follows:
                self._line = launch.join()
            elif launch.leads:
                mine, rest = self._order(given)
                code = SCHEDULER_DIED if mine == {} else 0
        except HPCError as error:
            say(str(error))
            code = code_of(error)
        told, code = launch.exchange(mine or None, code)
        if code:
            self._end_program()
            launch.dismiss(code)
            raise SystemExit(code)
        self.tls = launch.share_identity(told)
        self.address = told["address"] if told else self.address
        if rest is not None and self._program is not None:
            self._program.order(
                {**rest, "address": told and self.address, "tls": self.tls}, wait_until_ready=False
            )

    def _order(self, given: roles.Roles) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Start this node's program; what the scheduler told, or what is to be ordered later."""
        launch, options = self._launch, self._options
        launch.prepare()
        self._program = NodeProgram(_configuration())
        members = launch.receive()
        self._has_scheduler = any(member.rank == given.scheduler for member in members)
        orders = orders_for(
            members,
            given.workers,
            name=options.name,
            scheduler=options.scheduler(launch.name, talk=False) if self._has_scheduler else None,
            workers=options.worker_fields(),
            path=sys.path,
        )
        if not self._has_scheduler:
            return None, orders
        return self._program.order(orders, wait_until_ready=True) or {}, None

    def _end_program(self) -> None:
        if self._program is not None:
            self._program.close()

    # --- the client's part ---

    def be_client(self) -> None:
        """Let ``Client()`` find the scheduler, and watch this rank's own part of the cluster."""
        import dask

        settings: dict[str, Any] = {"scheduler_address": self.address}
        if self.tls is not None:
            ca_file, cert, key = self.tls
            settings["distributed.comm.tls.ca-file"] = ca_file
            for role in ("client", "scheduler", "worker"):
                settings[f"distributed.comm.tls.{role}.cert"] = cert
                settings[f"distributed.comm.tls.{role}.key"] = key
        dask.config.set(settings)
        if self._program is not None:
            self._watcher = threading.Thread(target=self.play, daemon=True)
            self._watcher.start()

    def close_cluster(self) -> None:
        """End scheduler and workers; nothing happens where they have ended already."""
        if self._closing or self.address is None:
            return
        self._closing = True
        _close_clients()
        with contextlib.suppress(OSError, TimeoutError):  # gone
            asyncio.run(_terminate(self.address, self.tls))
        if self._watcher is not None:
            self._watcher.join(_CLOSE_SECONDS)

    # --- the others' part ---

    def play(self) -> None:
        """Be scheduler or worker until the cluster ends.

        A scheduler that dies, or workers that cannot start, end the launch.
        """
        if self._line is not None:
            meeting.wait(self._line)
        elif self._program is not None:
            main = threading.current_thread() is threading.main_thread()
            code = self._program.wait() if main else self._program.wait_here()
            self._judge(code)
            self._launch.dismiss(0)

    def _judge(self, code: int) -> None:
        host = socket.gethostname()
        if self._has_scheduler and code:
            if code < 0:
                say(f"the scheduler on {host} was killed (signal {-code}): the launch ends")
            self.world.abort(code if code > 0 else SCHEDULER_DIED)
        elif code < 0:
            say(f"the workers of {host} were killed (signal {-code}); the others go on")
        elif code > 1:  # it has said why; 1 is a scheduler that is gone, whose own node tells
            self.world.abort(code)

    # --- the end ---

    def agree(self, code: int) -> int:
        """Wait for all ranks, and give them the largest of their codes."""
        return self.world.agree(code)

    def farewell(self) -> None:
        """End MPI together with all ranks, or at least in time: called when the program ends."""
        if self.world.finalized:
            return
        bound = (
            _FAREWELL_SECONDS if self.is_client else None
        )  # the client takes as long as it wants
        if not self.world.meet(bound):
            say(f"some ranks did not end in {_FAREWELL_SECONDS:.0f} s: MPI_Abort")
            self.world.abort(1)
        self.world.finalize()


def _enter(
    options: LaunchOptions, client: int | None, comm: Any
) -> tuple[_ProgramLaunch, roles.Roles]:
    told = ranks.read(os.environ)
    first = told is None or told.rank == 0
    launch = None
    try:
        launch = _ProgramLaunch(comm)
        first = launch.rank == 0
        given = roles.assign(
            launch.size,
            scheduler=options.scheduler_rank,
            client=client,
            exclusive=options.exclusive_workers,
        )
    except HPCError as error:  # every rank finds the same: one tells
        if launch is not None:
            launch.finish()
        if first:
            raise
        time.sleep(_LET_SPEAK)
        raise SystemExit(1) from error
    launch.assign(given)
    return launch, given


def _configuration() -> Mapping[str, str]:
    """Hand dask settings that the program has made to the node's program, as dask itself does."""
    if "dask.config" not in sys.modules:
        return {}
    import dask

    return {"DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(dask.config.global_config)}


def _close_clients() -> None:
    """Close clients that are still open: they would complain that the scheduler goes."""
    module = sys.modules.get("distributed.client")
    if module is None:
        return
    for client in list(module.Client._instances):  # noqa: SLF001
        with contextlib.suppress(Exception):  # it may be another loop's, or half-closed
            client.close(timeout=2)


async def _terminate(address: str, tls: list[str] | None) -> None:
    from distributed import Security
    from distributed.core import rpc

    from dask_hpc.cluster.security import engine_security
    from dask_hpc.model.tls import TLSFiles

    security = engine_security(TLSFiles(*tls)) if tls else Security()
    async with asyncio.timeout(_CLOSE_SECONDS):
        async with rpc(address, connection_args=security.get_connection_args("client")) as head:
            await head.terminate()
