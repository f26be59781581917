"""When the job of a head ends: waited for, looked at again, and moved where the site allows it.

The head itself asks the batch system, not whoever calls: it submits its workers' jobs the same way,
and calls come from anywhere.  What is done as the end comes near is its process' business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dask_hpc.errors import BatchSystemError, ConfigurationError
from dask_hpc.units import format_walltime

if TYPE_CHECKING:
    from dask_hpc.cluster.head import Head
    from dask_hpc.drivers.extensions import Run

logger = logging.getLogger("dask_hpc")

#: Seconds for which a batch system may think about a request: OAR grants it at a later pass of its
#: scheduler, which takes less than a minute.
_GRANTED = 60.0
_FIRST_LOOK, _LONGEST_LOOK, _GROWTH = 0.5, 10.0, 1.5
#: Seconds that a look may take as the end comes near.
_LOOK = 10.0
#: Seconds by which the end may seem to move by itself: some tell it in minutes.
_SLACK = 90.0


class HeadDeadline:
    """The end of a head's job.

    Parameters
    ----------
    head
        Whose ``where`` tells its job, and its end as far as it is known.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._moved = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def instant(self) -> float | None:
        """In seconds since the epoch; None where there is none."""
        return self._head.where.deadline

    @property
    def movable(self) -> bool:
        """Whether the batch system has a command that moves it."""
        return bool(self._head.where.job) and self._head.client.extends

    async def left(self, seconds: float) -> bool:
        """Wait until so many seconds are left; False if the end has moved meanwhile.

        The batch system is asked once more then: an operator may have moved it, or OAR granted
        what was asked for.
        """
        before = self.instant
        self._moved.clear()
        try:
            async with asyncio.timeout(before and before - seconds - time.time()):
                await self._moved.wait()
        except TimeoutError:
            await self._look()
        return self.instant == before

    async def renew(self, seconds: int) -> None:
        """Have the job run for so many seconds more.

        Raises
        ------
        ConfigurationError
            If the head runs in no job, or its batch system has no command for it.
        BatchSystemError
            If the batch system refuses, does not answer, or has not granted it within a minute.
        """
        job = self._head.where.job or ""
        if self._head.where.kind != "job":
            raise ConfigurationError(
                f"the head of cluster {self._head.name} runs in no job: it has no walltime",
                hint="jobs of its workers are replaced before theirs is over",
            )
        async with self._turn:
            before = await self._head.client.allotted(job)
            if before is None:
                raise BatchSystemError(f"the batch system does not tell when job {job} ends")
            await self._head.client.extend(job, before.walltime + seconds)
            self._set((await self._granted(job, before.walltime, seconds)).end)

    async def _granted(self, job: str, walltime: int, seconds: int) -> Run:
        """Ask until it has more than this walltime."""
        pause, deadline = _FIRST_LOOK, time.monotonic() + _GRANTED
        while True:
            with suppress(BatchSystemError):  # it has taken the request: not observed
                now = await self._head.client.allotted(job)
                if now is not None and now.walltime > walltime:
                    return now
            if time.monotonic() > deadline:
                raise BatchSystemError(
                    f"{format_walltime(seconds)} more are asked for job {job}, but not yet granted",
                    hint="other jobs may be in the way; the head looks again before it closes",
                )
            await asyncio.sleep(pause)
            pause = min(pause * _GROWTH, _LONGEST_LOOK)

    async def _look(self) -> None:
        """Take in where the end is by now, if the batch system tells in time."""
        if not self.movable:
            return
        with suppress(BatchSystemError, TimeoutError):
            async with asyncio.timeout(_LOOK):
                now = await self._head.client.allotted(str(self._head.where.job))
                if now is not None and abs(now.end - (self.instant or 0.0)) > _SLACK:
                    self._set(now.end)

    def _set(self, end: float) -> None:
        logger.info("the head's job ends at %s", time.strftime("%F %T", time.localtime(end)))
        self._head.where = replace(self._head.where, deadline=end)
        self._head.controller.changed.set()
        self._moved.set()
