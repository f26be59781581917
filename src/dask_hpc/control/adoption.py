"""What passes from a head that died to the next one of the same cluster: written, and taken over.

The journal is all there is of the first.  What then becomes of a job is observed, never assumed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from dask_hpc.control.accounts import Book
from dask_hpc.control.backoff import ACCOUNT_INTERVAL
from dask_hpc.control.journal import Remembered
from dask_hpc.control.ledger import Ledger
from dask_hpc.control.reconcile import JobKey
from dask_hpc.control.tracked import Tracked
from dask_hpc.drivers.base import Listing
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import Submission

logger = logging.getLogger("dask_hpc")


class Succession:
    """Writes down what the next head needs, as it becomes known, and takes it over.

    What the user asked for announces nothing, so a disk that refuses it keeps no job from its work:
    the next head would go on with what was written last.

    Parameters
    ----------
    record
        Writes an event to the journal.
    ledger, book
        What is known of all jobs, and what they cost.
    """

    def __init__(self, record: Callable[..., Awaitable[None]], ledger: Ledger, book: Book) -> None:
        self._record = record
        self._ledger = ledger
        self._book = book
        self._wanted: Mapping[str, Any] = {"jobs": {}, "adapting": {}}
        self._accounted = 0.0

    async def wanted(
        self, jobs: Mapping[str, int], adapting: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write what the user asked for, if it is not what was written last.

        Parameters
        ----------
        jobs
            Of each pool; of those that follow the demand it is not the user's word.
        adapting
            How those do, by name.
        """
        asked = {pool: n for pool, n in jobs.items() if n and pool not in adapting}
        wanted = {"jobs": asked, "adapting": dict(adapting)}
        if wanted != self._wanted and await self._written("wanted", **wanted):
            self._wanted = wanted

    async def started(self) -> None:
        """Write which jobs were first seen to run: not every batch system tells when that was."""
        jobs = [
            (name, index, round(tracked.started[index], 1))
            for name, tracked in self._ledger.arrays.items()
            for index in tracked.fresh
            if index in tracked.started
        ]
        if jobs and await self._written("started", jobs=jobs):
            for name, _, _ in jobs:
                self._ledger.arrays[name].fresh.clear()

    async def account(self, now: float, *, ended: bool) -> None:
        """Write what jobs and tasks have cost: now and then, and before a submission's end is.

        Parameters
        ----------
        now
            Seconds of any clock.
        ended
            Whether a submission has ended.
        """
        if not ended and now - self._accounted < ACCOUNT_INTERVAL:
            return
        self._accounted = now
        if (news := self._book.news()) and await self._written("account", **news):
            self._book.written(news)

    async def closing(self) -> None:
        """Write that the end has begun: nobody is to take over what is left."""
        await self._written("closing")

    async def _written(self, event: str, **values: Any) -> bool:
        try:
            await self._record(event, **values)
        except OSError as error:
            logger.warning("the journal cannot be written: %s", error)
            return False
        return True

    def take_over(
        self,
        told: Remembered,
        pools: Collection[str],
        first_index: int,
        now: float,
        epoch: float,
    ) -> dict[str, int]:
        """Put the submissions of an earlier head into the ledger and the book.

        Parameters
        ----------
        told
            What the journal tells.
        pools
            That there are.
        first_index
            Of the jobs of an array, as the batch system counts.
        now, epoch
            Seconds of the ledger's clock; seconds since the epoch.

        Returns
        -------
        dict
            Jobs wanted of each pool; of those that follow the demand as many as may live, until the
            demand is known.

        Raises
        ------
        ConfigurationError
            If jobs are of another pool.
        """
        self._wanted = {"jobs": told.jobs, "adapting": told.adapting}
        over = self._book.resume(told.accounts, told.over)
        if unknown := sorted({each.pool for each in told.left.values()}.difference(pools)):
            raise ConfigurationError(
                f"the cluster to be taken over has jobs of {', '.join(unknown)}, and no such pool"
                " was asked for",
                hint="give pools= as they were, or end its jobs: dask-hpc down",
            )
        for name, each in told.left.items():
            at = epoch if each.at is None else min(each.at, epoch)
            submission = Submission(name, each.count, first_index)
            # One in doubt may be on its way still: the submit command outlives its head.
            since = now if each.array is None else now - (epoch - at)
            tracked = Tracked(submission, each.pool, since, each.array, walltime=each.walltime)
            tracked.started.update(each.started)
            self._ledger.resume(name, tracked)
            if each.array is not None:
                self._book.submitted(submission, each.pool, at, over.get(name, ()))
                for index, started in each.started.items():
                    self._book.joined(JobKey(name, index), started)
        jobs = {**told.jobs, **{pool: self._ledger.live_by_pool()[pool] for pool in told.adapting}}
        return {pool: jobs.get(pool, 0) for pool in pools}

    async def settle_doubts(self, listing: Listing, now: float, epoch: float) -> None:
        """Find submissions in doubt by their names, or believe that they never were.

        Parameters
        ----------
        listing
            What a successful query saw.
        now, epoch
            When the query was sent, as in :meth:`take_over`.

        Raises
        ------
        OSError
            If the journal cannot be written.
        """
        found, absent = self._ledger.adopt(listing, now)
        for name in found:
            tracked = self._ledger.arrays[name]
            self._book.submitted(tracked.submission, tracked.pool, epoch)
            await self._record("submitted", name=name, array=listing.names[name], at=epoch)
            logger.info("found submission %s again as %s", name, listing.names[name])
        for name in absent:
            await self._record("absent", name=name)
            self._ledger.forget(name)
