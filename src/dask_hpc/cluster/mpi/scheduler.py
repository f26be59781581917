"""The scheduler of a parallel launch, with its node's workers beside it in a forked process.

It listens, says where, and ends in order: workers first, so that a clean end prints no error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import getpass
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distributed import Scheduler, Security
from distributed.comm import unparse_host_port
from distributed.core import Status
from distributed.utils import get_ip, silence_logging_cmgr

from dask_hpc.cluster.dashboard import tunnel_line
from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.joining import DISMISSAL, HeadScheduler, check_room
from dask_hpc.cluster.listening import usable
from dask_hpc.cluster.mpi.launch import say
from dask_hpc.cluster.security import engine_security, ensure_identity
from dask_hpc.errors import HPCError
from dask_hpc.launch import rendezvous
from dask_hpc.launch.rendezvous import Rendezvous
from dask_hpc.node import forked, interface, spawn
from dask_hpc.node.protocol import UCX, scheme

#: Exit code of workers whose scheduler has gone without closing them.
LOST = 1
#: Exit codes from here on tell of a signal.
SIGNALLED = 128
#: Seconds without a connection being closed after which all have gone that were going.
_SETTLED = 0.25
#: Seconds that this node's workers then get: untouched, after SIGTERM, after SIGKILL.
_CREW_SECONDS = ((0, 1.0), (signal.SIGTERM, 20.0), (signal.SIGKILL, 1.0))
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(orders: dict[str, Any], crew: Callable[[Rendezvous], int]) -> int:
    """Be the scheduler until it is closed or a signal comes.

    Parameters
    ----------
    orders
        See :func:`~dask_hpc.cluster.mpi.program.orders_for`.
    crew
        Runs this node's workers; called in a process of its own, which may die alone.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    HPCError
        If the interface or the identity cannot be used, or there are too many workers.
    OSError
        If the port is taken, or the scheduler file cannot be written.
    """
    spawn.quieten()
    wanted = orders["scheduler"]
    check_room(orders["workers_in_all"])
    tls = None if wanted["insecure"] else ensure_identity()
    host = _host(wanted["interface"])
    protocol = scheme(wanted["protocol"], insecure=wanted["insecure"])
    with _reserved(host, wanted["port"], shared=protocol not in UCX) as port:
        address = f"{protocol}://{host}:{port}"
        found = Rendezvous(address, tls=tls)
        pid = _fork(lambda: crew(found)) if orders["ranks"] else None
        return asyncio.run(_Served(orders, found, pid).run(host, port))


def _host(name: str | None) -> str:
    if name:
        return usable(name)[0].host
    way = interface.routed()
    return str(unparse_host_port(way)) if way else str(get_ip())


@contextlib.contextmanager
def _reserved(host: str, port: int, *, shared: bool) -> Iterator[int]:
    """Have the kernel keep a port for the scheduler, so that its address is known before it runs.

    A socket that is bound but does not listen lets another one of ours listen there; UCX does not
    ask for that (`shared`), and has to hope that nobody comes between.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind((host.strip("[]"), port))
        found = int(keeper.getsockname()[1])
        if not shared:
            keeper.close()
        yield found


def _fork(run: Callable[[], int]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        forked.die_with(parent)
        code = run()
    except BaseException:  # noqa: BLE001  (never into the scheduler's code)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class LaunchScheduler(HeadScheduler):
    """A scheduler that sees its workers off before it closes, whoever asks it to.

    Workers on which it closes would each log that it is gone.
    """

    async def close(self, timeout: float | None = None, reason: str = "unknown") -> None:
        """See the engine's Scheduler."""
        if self.status == Status.running:
            with silence_logging_cmgr(logging.ERROR):  # they go on purpose, whatever they hold
                await self._dismiss()
        await super().close(timeout=timeout, reason=reason)

    async def _dismiss(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISMISSAL):
                await self.see_off()
                await self._settle()

    async def _settle(self) -> None:
        """Wait until no more connections are closed: a heartbeat may be on its way in one."""
        before = -1
        while (now := len(self._comms)) != before:
            before = now
            await asyncio.sleep(_SETTLED)


class _Served:
    """The scheduler's life, and what follows from its end and from its node's workers'."""

    def __init__(self, orders: dict[str, Any], found: Rendezvous, crew: int | None) -> None:
        self.orders = orders
        self.wanted = orders["scheduler"]
        self.found = found
        self.crew = crew
        self.crew_ended = asyncio.Event()
        self.stop = asyncio.Event()
        self.code = 0

    async def run(self, host: str, port: int) -> int:
        """Serve, then see this node's workers off; the exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        if self.crew is not None:
            watched = os.pidfd_open(self.crew)
            loop.add_reader(watched, self._on_crew_end, watched, self.crew)
        try:
            gc.enable()
            await self._serve(host, port)
            self.stop.set()
        finally:
            await self._end_crew()
        return self.code

    async def _serve(self, host: str, port: int) -> None:
        tls, wanted = self.found.tls, self.wanted
        async with LaunchScheduler(
            protocol=self.found.address.partition("://")[0],
            security=engine_security(tls) if tls else Security(require_encryption=False),
            host=host,
            port=port,
            dashboard=wanted["dashboard"],
            dashboard_address=wanted["dashboard_address"] or ":8787",
        ) as scheduler:
            with self._scheduler_file(scheduler):
                self._announce(scheduler)
                await self._until_its_end(scheduler)

    def _announce(self, scheduler: LaunchScheduler) -> None:
        assert scheduler.address == self.found.address  # noqa: S101  (all were told the latter)
        if self.wanted["talk"]:
            file = self.wanted["file"]
            say(f"scheduler at {scheduler.address}{f', scheduler file {file}' if file else ''}")
            if self.wanted["dashboard"]:
                say(f"dashboard: {tunnel_line(scheduler.dashboard_url(token=True))}")
        if self.orders["ready"] is not None:
            tls = self.found.tls
            files = None if tls is None else [tls.ca_file, tls.cert, tls.key]
            with os.fdopen(self.orders["ready"], "w") as stream:
                stream.write(json.dumps({"address": self.found.address, "tls": files}) + "\n")

    @contextlib.contextmanager
    def _scheduler_file(self, scheduler: Scheduler) -> Iterator[None]:
        file, tls = self.wanted["file"], self.found.tls
        if not file:
            yield
            return
        path = Path(file)
        if tls is not None:
            name_in_dask_config(tls)
        name, owner = self.wanted["name"], getpass.getuser()
        rendezvous.write(path, scheduler.identity(), cluster=name, owner=owner, tls=tls)
        ours = rendezvous.read(path)
        try:
            yield
        finally:
            with contextlib.suppress(HPCError, OSError):  # removed, or another scheduler's by now
                if rendezvous.read(path) == ours:
                    path.unlink()

    async def _until_its_end(self, scheduler: Scheduler) -> None:
        finished = asyncio.ensure_future(scheduler.finished())
        stopped = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait((finished, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not finished.done():
            await scheduler.close(reason="the launch ends")
        await finished

    def _on_signal(self, number: int) -> None:
        self.code = self.code or SIGNALLED + number
        self.stop.set()

    def _on_crew_end(self, watched: int, pid: int) -> None:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.crew_ended.set()
        if self.stop.is_set():
            return
        if code < 0:
            name = signal.Signals(-code).name
            say(f"the workers of {socket.gethostname()} were killed ({name}); the others go on")
        elif code not in (0, LOST) and code < SIGNALLED:
            self.code = code  # it has said why
            self.stop.set()

    async def _end_crew(self) -> None:
        if self.crew is None:
            return
        for number, seconds in _CREW_SECONDS:
            if self.crew_ended.is_set():
                return
            if number:
                os.kill(self.crew, number)  # not reaped yet, so it is still ours
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.crew_ended.wait()
