"""Import the engine once, then fork: every worker of this node starts from a warm copy.

This process forks itself into the standard library's fork server before it has a thread or an
event loop.  The standard library has no public way to do that: it starts its server as a new
interpreter, which imports everything a second time, a third of all that a job costs.  So this file,
and no other, sets private fields of ``multiprocessing.forkserver``.  It checks that they are there,
falls back to the public way if not, and a test says so when that happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import inspect
import logging
import multiprocessing
import os
import select
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dask_hpc.errors import ConfigurationError
from dask_hpc.node import forked
from dask_hpc.node.tuning import slower_clocks
from dask_hpc.node.unheard import WARNINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

logger = logging.getLogger(__name__)

#: Imported by a worker when it starts; here they are imported once for all.
ENGINE = (
    "distributed.nanny",
    "distributed.worker",
    "dask.multiprocessing",
    "multiprocessing.popen_forkserver",
    "multiprocessing.synchronize",
    "tornado.platform.asyncio",
    "dask_hpc.node.worker",
)
_FIELDS = ("_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid", "_lock")
_PARAMETERS = ("listener_fd", "alive_r", "preload")
_STOP_SECONDS = 2.0
_M_TRIM_THRESHOLD = -1  # malloc.h


@dataclass(frozen=True, slots=True)
class Server:
    """A fork server.

    Parameters
    ----------
    pid
        Of its process; None where the standard library keeps it.
    """

    pid: int | None

    @property
    def warm(self) -> bool:
        """Whether it is a fork of this process."""
        return self.pid is not None


def start(modules: Sequence[str] = ()) -> Server:
    """Import the engine, and leave a fork server that has imported it too.

    Call it before there is a thread or an event loop.

    Parameters
    ----------
    modules
        More modules to import before workers are forked.

    Returns
    -------
    Server
        Every process of the "forkserver" context comes from it.

    Raises
    ------
    ConfigurationError
        If one of `modules` cannot be imported.
    """
    prepare(modules)
    _trim_memory_early()
    quieten()
    if threading.active_count() > 1:
        logger.warning(
            "importing %s started threads, which workers will not have; a lock that one of them"
            " holds stays locked there: use --preload for that module instead",
            ", ".join(modules),
        )
    _choose_fork_server([*ENGINE, *modules])
    try:
        if supported():
            gc.freeze()  # what is imported stays: collections need not touch, so copy, it
            _fork_tracker()
            return Server(_fork_warm())
        # Now and not with the first worker: the engine starts those in threads that come and go.
        forkserver.ensure_running()
        return Server(None)
    finally:
        gc.enable()


def prepare(modules: Iterable[str] = ()) -> None:
    """Do the first part of `start`, the longest: import all; the garbage collector stays off.

    Raises
    ------
    ConfigurationError
        If one of `modules` cannot be imported.
    """
    gc.disable()  # an import makes almost no garbage, and a collection touches every page
    with fast_yaml():
        warm_up(modules)


def warm_up(modules: Iterable[str] = ()) -> None:
    """Import what workers need, and fill the caches that they would each fill."""
    for name in ENGINE:
        importlib.import_module(name)
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            raise ConfigurationError(
                f"cannot import {name}: {error!r}",
                hint="check --fork-preload and --worker-class, and the node's Python environment",
            ) from error
    if "numpy" in sys.modules:  # the engine seeds it in each worker, and it is imported lazily
        importlib.import_module("numpy.random")
    from distributed.versions import get_versions

    get_versions()  # a worker sends them to its scheduler: nine packages' metadata, then cached


@contextlib.contextmanager
def fast_yaml() -> Iterator[None]:
    """Let the engine read its configuration with libyaml: a tenth of the time, the same values."""
    import yaml

    before = yaml.SafeLoader
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", before)  # type: ignore[misc]
    try:
        yield
    finally:
        yaml.SafeLoader = before  # type: ignore[misc]


def _trim_memory_early() -> None:
    """Give freed memory back soon, as the engine has its workers do (MALLOC_TRIM_THRESHOLD_).

    Through mallopt(3) and not through the environment, where it would hold for the import already
    and make that a fifth slower: every file read grows the heap and trims it again.
    """
    import dask

    name = "MALLOC_TRIM_THRESHOLD_"
    configured = dask.config.get("distributed.nanny.pre-spawn-environ", {}).get(name)
    if name in os.environ or configured is None:
        return
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every libc has it
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, int(configured))


def quieten() -> None:
    """Keep the engine's dozen lines per worker out of the job's log, but not its warnings.

    Only the output is filtered, so ``Client.get_worker_logs`` still has them; a user who configures
    logging is left alone.
    """
    import dask

    config = dask.config.config
    if "logging" not in config and "logging" not in config.get("distributed", {}):
        for handler in logging.getLogger("distributed").handlers:
            handler.setLevel(logging.WARNING)


def _choose_fork_server(preload: list[str]) -> None:
    import dask
    from distributed import utils

    dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.worker.http.routes": [],  # nothing serves them: see `worker`
            **slower_clocks(dask.config.get),
        }
    )
    # Else the engine imports every optional package it knows, pandas among them, in this process.
    utils._forkserver_preload_set = True  # noqa: SLF001
    # For the public way, and for a server that the standard library starts after ours was killed.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preload, "dask_hpc.node.fork_server"])


def supported() -> bool:
    """Whether this Python's fork server is built as we know it (3.11 to 3.14)."""
    server = getattr(forkserver, "_forkserver", None)
    parameters = inspect.signature(forkserver.main).parameters
    return (
        server is not None
        and all(hasattr(server, name) for name in _FIELDS)
        and all(hasattr(resource_tracker._resource_tracker, name) for name in ("_fd", "_pid"))  # noqa: SLF001
        and tuple(parameters)[: len(_PARAMETERS)] == _PARAMETERS
        and ("authkey_r" in parameters) == hasattr(server, "_forkserver_authkey")
    )


def _fork() -> int:
    """Fork; a signal that comes meanwhile is answered afterwards.

    What its handler raises within the interpreter's own hooks around a fork is lost, and with it
    the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*WARNINGS, signal.SIGINT))
    try:
        return os.fork()
    finally:  # in both processes
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fork_tracker() -> None:
    """Leave the standard library's resource tracker as a fork too, not as a new interpreter.

    Every process of the fork server is given a pipe to it, whether it has anything to track or not.
    """
    read, write = os.pipe()
    pid = _fork()
    if pid == 0:
        os.close(write)
        code = 1
        for number in WARNINGS:  # it ignores the others by itself
            signal.signal(number, signal.SIG_IGN)
        try:
            resource_tracker.main(read)  # until the last holder of the pipe is gone
            code = 0
        finally:
            os._exit(code)
    os.close(read)
    tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001
    tracker._fd, tracker._pid = write, pid  # noqa: SLF001


def _fork_warm() -> int:
    listener, address = _private_listener()
    alive_r, alive_w = os.pipe()
    key_r, key = _key_pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = _fork()
    if pid == 0:
        os.close(alive_w)
        _serve(parent, listener.detach(), alive_r, key_r)
    listener.close()
    os.close(alive_r)
    if key_r is not None:
        os.close(key_r)
    server: Any = forkserver._forkserver  # noqa: SLF001
    server._forkserver_address = address  # noqa: SLF001
    server._forkserver_alive_fd = alive_w  # noqa: SLF001
    server._forkserver_pid = pid  # noqa: SLF001
    if key is not None:
        server._forkserver_authkey = key  # noqa: SLF001
    return pid


def _private_listener() -> tuple[socket.socket, str]:
    """A listening socket without a name: reached through our own open descriptor alone.

    It is bound in a directory of mode 0700 and unlinked at once.  Not the abstract name space:
    there any user of the node could connect, and have code run as us (CVE-2022-42919).
    """
    listener = socket.socket(socket.AF_UNIX)
    with _short_directory() as directory:
        path = Path(directory, "s")
        listener.bind(str(path))
        listener.listen(socket.SOMAXCONN)
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    return listener, f"/proc/self/fd/{descriptor}"


def _short_directory() -> tempfile.TemporaryDirectory[str]:
    longest = 80  # a socket's path has 107 bytes (unix(7))
    parent = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(
        prefix="dask-hpc-",
        dir=parent if len(os.fsencode(parent)) < longest else "/tmp",  # noqa: S108
    )


def _key_pipe() -> tuple[int | None, bytes | None]:
    """Where the standard library authenticates its clients (3.14): a key, and a pipe with it."""
    if "authkey_r" not in inspect.signature(forkserver.main).parameters:
        return None, None
    names = ("_AUTHKEY_LEN", "_authkey_len")
    length = next(getattr(forkserver, name) for name in names if hasattr(forkserver, name))
    key = os.urandom(length)
    key_r, key_w = os.pipe()
    os.write(key_w, key)
    os.close(key_w)
    return key_r, key


def _serve(parent: int, listener: int, alive_r: int, key_r: int | None) -> NoReturn:
    """Be the fork server; never return into the supervisor's code."""
    code = 1
    try:
        forked.die_with(parent)
        forked.become_server()
        key = {} if key_r is None else {"authkey_r": key_r}
        forkserver.main(listener, alive_r, [], **key)  # type: ignore[arg-type]
    except SystemExit:  # its clients are gone
        code = 0
    except BaseException:  # noqa: BLE001  (the process ends here, whatever it was)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def stop(server: Server) -> None:
    """End the fork server and whatever it still has forked.

    Parameters
    ----------
    server
        As :func:`start` returned it; one that the standard library keeps ends with this process.
    """
    if server.pid is None:
        return
    running: Any = forkserver._forkserver  # noqa: SLF001
    if running._forkserver_pid != server.pid:  # noqa: SLF001  (killed, and replaced by another)
        return
    os.close(running._forkserver_alive_fd)  # noqa: SLF001
    running._forkserver_pid = running._forkserver_alive_fd = None  # noqa: SLF001
    with contextlib.suppress(ChildProcessError):  # reaped already
        if not _ended_within(server.pid, _STOP_SECONDS):
            os.kill(server.pid, signal.SIGKILL)  # its workers die with it
        os.waitpid(server.pid, 0)


def _ended_within(pid: int, seconds: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
