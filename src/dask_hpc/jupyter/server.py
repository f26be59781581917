"""A JupyterLab server as a child process: started, watched, ended.

What it is told stands in :mod:`.settings`, what runs in it in :mod:`.serve`, how its owner gets
there in :mod:`.reach`.
"""

from __future__ import annotations

import asyncio
import getpass
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dask_hpc.errors import HPCError, JupyterError
from dask_hpc.jupyter.reach import Listen, Reach, near_port
from dask_hpc.jupyter.settings import Settings, environment, to_json

#: Of the server's private directory, in that of the cluster.
PLACE = "jupyter"
#: What the server needs beside this package.
_NEEDED = ("jupyterlab", "jupyter_server_proxy", "ipykernel")
#: Seconds to start: a shared file system may be slow, and thousands of files are read.
_START = 120.0
#: Seconds for kernels to end in order.
_STOP = 10.0
#: Bytes of the log that an error shows.
_LOG_END = 2000
#: As long as the longest name of a kernel's socket: kernel-UUID-ipc-NN.
_LONGEST_NAME = "probe-" + "x" * 46


def check_installed() -> None:
    """See that JupyterLab can be started.

    Raises
    ------
    JupyterError
        If a package of it is missing.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise JupyterError(
            f"{', '.join(missing)} cannot be imported by {sys.executable}",
            hint=f"{sys.executable} -m pip install 'dask-hpc[jupyter]'",
        )


def make_place(directory: Path) -> Path:
    """Make the server's private directory, and clear away a dead one.

    Parameters
    ----------
    directory
        Of the cluster.

    Returns
    -------
    Path
        ``directory / "jupyter"``, mode 0700; or a new one in ``/tmp`` if sockets cannot be made
        there: the path is too long, or its file system has none.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    place = directory / PLACE
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(place / _LONGEST_NAME))
    except OSError:
        place.rmdir()
        return Path(tempfile.mkdtemp(prefix="dask-hpc-", dir="/tmp"))
    (place / _LONGEST_NAME).unlink()
    return place


class JupyterServer:
    """One JupyterLab server.

    Parameters
    ----------
    cluster
        Name.
    settings
        What it is to be; ``runtime`` is made by :func:`make_place` and removed at the end.
    died
        Told why, should it end without being asked to.
    """

    def __init__(
        self, cluster: str, settings: Settings, *, died: Callable[[HPCError], None]
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self._died = died
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        """What the server writes, mode 0600."""
        return self.settings.runtime / "server.log"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> Reach:
        """Start it and wait until it can be reached.

        It must be called in a thread that lives as long as the server shall: it ends with that.

        Raises
        ------
        JupyterError
            If it does not start.
        OSError
            If the private directory cannot be written.
        """
        self._process = await self._spawn()
        try:
            async with asyncio.timeout(_START):
                port = await self._ready(self._process)
        except TimeoutError:
            error = self._error(f"could not be reached within {_START:g} s")
            await self.stop()
            raise error from None
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._wait(self._process), name="dask-hpc jupyter")
        return self._reach(port)

    async def _spawn(self) -> Process:
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "dask_hpc.jupyter.serve", str(os.getpid())),
                stdin=PIPE,
                stdout=PIPE,
                stderr=handle,
                env=environment(self.settings, os.environ),
                # Jupyter reads and runs configuration that lies where it is started, before all
                # other: that must be nobody else's directory.
                cwd=self.settings.runtime,
                start_new_session=True,  # Ctrl-C in the head's terminal is not for it
            )
        finally:
            os.close(handle)

    async def _ready(self, process: Process) -> int:
        answer, _ = await asyncio.gather(
            _read(process), _write(process, json.dumps(to_json(self.settings)).encode())
        )
        if not answer:
            code = await process.wait()
            raise self._error(f"ended with status {code} as it started")
        return int(json.loads(answer)["port"])

    def _reach(self, port: int) -> Reach:
        settings, certificate = self.settings, self.settings.certificate
        at_socket = settings.listen is Listen.SOCKET
        return Reach(
            cluster=self.cluster,
            host=socket.gethostname(),
            user=getpass.getuser(),
            listen=settings.listen,
            socket=settings.socket,
            address="" if at_socket else settings.address,
            port=0 if at_socket else port,
            # At a port, the same at both ends: the link holds with and without a tunnel.
            near=near_port(self.cluster) if at_socket else port,
            token=settings.token,
            fingerprint=certificate.fingerprint if certificate else "",
        )

    async def _wait(self, process: Process) -> None:
        """Say why it ended, if nobody asked it to; its "Shut Down" counts as asking."""
        code = await process.wait()
        error = self._error(f"ended with status {code}")
        self._clear()
        if code != 0:
            self._died(error)

    async def stop(self) -> None:
        """End it, its kernels and what it left; it may have ended already."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._process is not None:
            await _end(self._process)
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self.settings.runtime, ignore_errors=True)

    def _error(self, what: str) -> JupyterError:
        with suppress(OSError):
            end = self.log.read_bytes()[-_LOG_END:].decode(errors="replace").strip()
            return JupyterError(
                f"JupyterLab of cluster {self.cluster} {what}",
                hint=f"the end of its log:\n{end}" if end else "it wrote no log",
            )
        return JupyterError(f"JupyterLab of cluster {self.cluster} {what}; its log is gone")


async def _read(process: Process) -> bytes:
    assert process.stdout is not None  # noqa: S101  (a pipe)
    return await process.stdout.read()


async def _write(process: Process, text: bytes) -> None:
    assert process.stdin is not None  # noqa: S101  (a pipe)
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended before it read: _ready tells
        process.stdin.write(text)
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP):
                await process.wait()
        except TimeoutError:
            continue
        return
