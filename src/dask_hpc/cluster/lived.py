"""How a cluster of ours lives: started once, ended once, whoever asks and however often."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, Self

from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.utils import silence_logging_cmgr

from dask_hpc.cluster import at_exit
from dask_hpc.cluster.peer import log_level


class Lived(Cluster):
    """A cluster with a beginning and an end.

    Those who derive from it start in `_begin`, end in `_finish`, and call `_live` at the end of
    their own ``__init__``.

    Parameters
    ----------
    silence_logs
        Level below which the engine's own log is not shown.
    options
        Of the engine's Cluster.

    Attributes
    ----------
    over
        Set when it has ended.
    close_timeout
        Seconds that its end may take when the interpreter ends.
    """

    close_timeout: float = 60.0

    def __init__(self, *, silence_logs: int | str, **options: Any) -> None:
        self.status = Status.closed  # what __del__ looks at, should anything below raise
        self._ending: asyncio.Task[None] | None = None
        self.over = asyncio.Event()
        self._silence = ExitStack()
        self._silence_logs = log_level(silence_logs)
        super().__init__(quiet=True, **options)

    def _live(self) -> None:
        """Start, unless there is a running event loop: then whoever awaits it does."""
        at_exit.living.add(self)
        if self.called_from_running_loop:
            return
        self._loop_runner.start()
        try:
            self.sync(self._start)
        except Exception:  # not Ctrl-C: then the loop still has to clear away
            self._loop_runner.stop()
            raise

    def __await__(self) -> Generator[Any, None, Self]:
        async def started() -> Self:
            if self.status is Status.created:
                await self._start()
            return self

        return started().__await__()

    async def _start(self) -> None:
        self._silence.enter_context(silence_logging_cmgr(self._silence_logs))
        try:
            await self._begin()
            await super()._start()
            await self._begun()
        except BaseException:
            await self._close()
            raise

    async def _begin(self) -> None:
        """Start the scheduler and all that is needed to connect to it."""
        raise NotImplementedError

    async def _begun(self) -> None:
        """Do what needs the connection."""

    async def _close(self) -> None:
        await self.finish()

    async def finish(self) -> None:
        """End once, whoever asks and however often; who is interrupted does not stop it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="dask-hpc close")
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            await super()._close()
            self.scheduler_info.update(workers={}, n_workers=0, total_threads=0, total_memory=0)
            await self._finish()
        finally:
            at_exit.living.discard(self)
            self._silence.close()
            self.over.set()

    async def _finish(self) -> None:
        """End the workers and the scheduler, if they have begun."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> Any:
        """Close the workers, the jobs that are the cluster's own, and the scheduler.

        Parameters
        ----------
        timeout
            Seconds to wait; what is not gone by then goes on closing.
        """
        closing = super().close(timeout)
        if closing is None and (self._ending is None or self._ending.done()):
            self._loop_runner.stop()
        return closing
