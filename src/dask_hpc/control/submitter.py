"""Submits arrays: the journal first, then the batch system, within what it is known to accept."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.control.accounts import Book
from dask_hpc.control.bad_nodes import BadNodes
from dask_hpc.control.ceiling import Ceiling
from dask_hpc.control.journal import Event, Journal
from dask_hpc.control.ledger import Ledger
from dask_hpc.control.ports import Place
from dask_hpc.errors import BatchSystemError, BatchSystemMissing, SubmitLimited, SubmitRejected
from dask_hpc.model.job import Submission
from dask_hpc.model.pool import Pool

logger = logging.getLogger("dask_hpc")


class Submitter:
    """The one place that submits.

    Parameters
    ----------
    name
        Of the cluster; names of submissions start with it.
    pools
        Each pool by its name; pools may be added.
    client, journal, place, ledger, book
        The batch system; where every submission is written first; where the files are; what is
        known of all jobs; what they cost.
    clock, wall
        Seconds that only go forward; seconds since the epoch.

    Attributes
    ----------
    limited : str
        The batch system's words for a limit on the user's jobs, while it holds jobs back.
    nodes : BadNodes
        Where no job is sent for now.
    """

    def __init__(
        self,
        *,
        name: str,
        pools: Mapping[str, Pool],
        client: BatchClient,
        journal: Journal,
        place: Place,
        ledger: Ledger,
        book: Book,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.limited = ""
        self.nodes = BadNodes()
        self._name = name
        self._pools = pools
        self._client = client
        self._journal = journal
        self._place = place
        self._ledger = ledger
        self._book = book
        self._clock = clock
        self._wall = wall
        self._ceiling = Ceiling()

    async def submit(self, pool: str, count: int) -> bool:
        """Submit jobs of a pool, in as few arrays as the batch system allows.

        Returns
        -------
        bool
            Whether anything was submitted: at a limit on the user's jobs nothing may be.

        Raises
        ------
        SubmitRejected, BatchSystemMissing
            If the batch system refused.
        BatchSystemError
            If it is in doubt whether the jobs exist.
        OSError
            If the journal cannot be written; nothing was submitted then.
        """
        room = self._ceiling.room(self._ledger.live_jobs(), count, self._clock())
        if room == count:
            self.limited = ""
        limit = await self._client.array_limit()
        for first in range(0, room, limit):
            size = min(limit, room - first)
            submission = Submission(self._new_name(), size, self._client.driver.first_index)
            try:
                await self._submit_array(submission, pool)
            except SubmitLimited as error:
                self._at_the_limit(error, size)
                return first > 0
        return room > 0

    def _at_the_limit(self, error: SubmitLimited, count: int) -> None:
        if not self.limited:
            logger.warning("the batch system accepts no more jobs for now: %s", error)
        self.limited = str(error.args[0])
        self._ceiling = self._ceiling.refuse(self._ledger.live_jobs(), count, self._clock())

    def _new_name(self) -> str:
        return f"{self._name}-{secrets.token_hex(4)}"

    async def _submit_array(self, submission: Submission, pool: str) -> None:
        name, spec = submission.name, self._pools[pool].spec
        await self.record(
            "intended",
            name=name,
            pool=pool,
            count=submission.count,
            walltime=spec.walltime,
            at=self._wall(),
        )
        self._ledger.intend(submission, pool, self._clock(), spec.walltime)
        try:
            array = await self._client.submit(
                submission,
                replace(spec, exclude=self.nodes.excluded(self._clock())),
                self._place.scripts[pool],
            )
        except (SubmitRejected, BatchSystemMissing):
            self._ledger.forget(name)
            await self.record("refused", name=name)
            raise
        except (BatchSystemError, asyncio.CancelledError):  # a cluster may close meanwhile
            self._ledger.submitted(name, None, self._clock())
            raise
        self._ledger.submitted(name, array, self._clock())
        self._ceiling = self._ceiling.accept(self._ledger.live_jobs())
        self._book.submitted(submission, pool, self._wall())
        await self.record("submitted", name=name, array=array, at=self._wall())
        logger.info("submitted %s: %d jobs as %s", name, submission.count, array)

    async def record(self, event: Event, **values: Any) -> None:
        """Write to the journal off the event loop: a shared file system may take its time."""
        await asyncio.to_thread(self._journal.append, event, **values)
