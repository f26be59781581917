"""The dashboard of a head on another machine, at a Unix socket of this one.

Whoever can connect to the socket is handed on to the head's control channel, as the cluster's
owner.  What passes is not looked at.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from pathlib import Path

from tornado.netutil import bind_unix_socket

from dask_hpc.cluster.head_client import client_context, hosts, identity
from dask_hpc.errors import HPCError
from dask_hpc.launch import rendezvous

#: Bytes that are passed on at once.
_CHUNK = 1 << 16


class Bridge:
    """A socket that leads there.

    Parameters
    ----------
    scheduler_file
        Of the cluster; read anew for each connection, as its head may have come back elsewhere.
    """

    def __init__(self, scheduler_file: Path) -> None:
        self._file = scheduler_file
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        """Listen at a path, for the owner of this process alone.

        Raises
        ------
        OSError
            If that cannot be.
        """
        bound = bind_unix_socket(str(path), mode=0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=bound)

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, near: StreamReader, to_near: StreamWriter) -> None:
        try:
            far, to_far = await self._reach()
        except (OSError, HPCError):  # nobody there: the proxy says so
            to_near.close()
            return
        ways = {
            asyncio.ensure_future(_pass(near, to_far)),
            asyncio.ensure_future(_pass(far, to_near)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ways:
                each.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (to_near, to_far):
                writer.close()

    async def _reach(self) -> tuple[StreamReader, StreamWriter]:
        found = await asyncio.to_thread(rendezvous.read, self._file)
        context = await asyncio.to_thread(lambda: client_context(identity(found)))
        trouble: OSError = ConnectionError("the head has no control channel")
        for host in hosts(found):
            try:
                return await asyncio.open_connection(host, found.control, ssl=context)
            except OSError as error:
                trouble = error
        raise trouble


async def _pass(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(OSError):  # one side has gone
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
