"""The engine's worker and nanny, less what a job must not have.

No behaviour of a worker may be added here: only its open door is closed, what it cannot see is
counted, and a nanny's reason to end is written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from distributed import Nanny, Worker
from distributed.core import Status
from distributed.http.routing import RoutingApplication
from distributed.utils import import_term

from dask_hpc.errors import ConfigurationError
from dask_hpc.node.tmpfs import Share, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class WithoutHTTP:
    """Serve nothing over HTTP.

    Every worker of the engine opens a plain HTTP server on all addresses, without encryption or
    authentication, and has no option not to.  What it leaves behind is left here too: the
    engine's ``_stop_services`` and users' preloads look at ``http_application``.
    """

    http_application: RoutingApplication
    http_server: None

    def start_http_server(self, routes: Any, dashboard_address: Any, **_options: Any) -> None:
        """Open nothing."""
        del dashboard_address
        self.http_application = RoutingApplication(routes)
        self.http_server = None


class _NoFarewell(logging.Filter):
    """Drops the error of a heartbeat that was on its way when its own worker was told to close."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        closing = self._worker.status in (Status.closing, Status.closed, Status.closing_gracefully)
        return not (closing and "during heartbeat" in str(record.msg))


class JobWorker(WithoutHTTP, Worker):
    """The engine's worker without its HTTP server."""


def make_worker(
    *args: Any,
    base: str | None = None,
    cpus: AbstractSet[int] | None = None,
    scratch: Mapping[str, Any] | None = None,
    tmpfs: tuple[str, int] | None = None,
    **kwargs: Any,
) -> Worker:
    """Make a worker of a job; called in the worker's process.

    Parameters
    ----------
    base
        Import path of a user's worker class, or None for the engine's.
    cpus
        That the worker may use; None for all that this process may.
    scratch
        What the scheduler is told of the worker's scratch: ``scratch`` in ``scheduler_info``.
    tmpfs
        The job's scratch and the number of its workers, where files in memory count as memory.
    args, kwargs
        Of the class.

    Returns
    -------
    distributed.Worker
        Without HTTP server, whatever the class.
    """
    if cpus:  # before the worker has threads, which inherit it
        with contextlib.suppress(OSError):  # the launcher's own binding, in a cgroup, goes first
            os.sched_setaffinity(0, cpus)
    user = Worker if base is None else import_term(base)
    if user is Worker or issubclass(user, Nanny):  # a nanny's class says nothing of its worker
        worker = JobWorker(*args, **kwargs)
    else:
        worker = type(user.__name__, (WithoutHTTP, user), {})(*args, **kwargs)
    logging.getLogger("distributed.worker").addFilter(_NoFarewell(worker))
    if scratch is not None:
        worker.startup_information["scratch"] = lambda _worker: dict(scratch)
    if tmpfs is not None:
        _count_tmpfs(worker, *tmpfs)
    return worker


def _count_tmpfs(worker: Worker, directory: str, workers: int) -> None:
    """Have the worker pause for what it cannot see: its part of the job's files in memory."""
    share = Share(reader(directory), workers)
    own = worker.monitor.get_process_memory
    worker.monitor.get_process_memory = lambda: own() + share()


def nanny_class(base: str | None) -> type[JobNanny]:
    """Nanny for workers of a class: ours, or a user's subclass of the engine's with ours before it.

    Parameters
    ----------
    base
        Import path of a user's class of workers or nannies, or None.

    Raises
    ------
    ConfigurationError
        If it is neither.
    """
    user = Worker if base is None else import_term(base)
    if not (isinstance(user, type) and issubclass(user, Worker | Nanny)):
        raise ConfigurationError(
            f"--worker-class {base} is neither a Worker nor a Nanny of distributed",
            hint="give a subclass of distributed.Worker or of distributed.Nanny",
        )
    if issubclass(user, Worker) or user is Nanny:
        return JobNanny
    return type(user.__name__, (JobNanny, user), {})


class JobNanny(Nanny):
    """The engine's nanny, which says why it ends.

    Parameters
    ----------
    told
        Called with the engine's words when the nanny, or its worker, begins to close.
    options
        Of the engine's Nanny.
    """

    def __init__(self, *args: Any, told: Callable[[str], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._told: Callable[[str], None] | None = told

    def _tell(self, reason: str) -> None:
        """Tell the first reason alone: all others follow from it."""
        if self._told is not None:
            self._told(reason)
            self._told = None

    @property
    def settled(self) -> bool:
        """Whether the worker runs and has joined: it is not being started, for the nth time."""
        return self.process is not None and self.process.status.name == "running"

    @property
    def answering(self) -> bool:
        """Whether this listens, as long as it is not closed."""
        return self.status is Status.running

    def start_periodic_callbacks(self) -> None:
        """Start what a nanny needs: the health of the loop that all share is watched by none."""
        for name in ("tick", "ticks", "monitor"):
            self.periodic_callbacks.pop(name, None)
        super().start_periodic_callbacks()

    def close_gracefully(self, reason: str = "nanny-close-gracefully") -> None:
        """Note why the worker goes away, which comes before the nanny itself closes."""
        self._tell(reason)
        super().close_gracefully(reason=reason)
        # The worker is closing, and would then wait two seconds for a thread that listens for this.
        queue = getattr(self.process, "child_stop_q", None)
        if queue is not None:
            queue.put({"op": "stop", "reason": reason})

    async def close(  # the engine's signature
        self,
        timeout: float = 5,
        reason: str = "nanny-close",
    ) -> Any:
        """Close, and note why."""
        self._tell(reason)
        killing = asyncio.ensure_future(self._kill_unsettled())  # after the first await below
        try:
            # In this task: the engine waits for all others of this nanny.
            return await super().close(timeout=timeout, reason=reason)
        finally:
            await killing

    async def _kill_unsettled(self) -> None:
        # The engine would first wait until the worker has joined: for ever, if the head is gone.
        process = None if self.process is None else self.process.process
        if process is not None and not self.settled and process.is_alive():
            await process.kill()
