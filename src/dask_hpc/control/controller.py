"""Observe, reconcile, apply: one round after the other, in the head's event loop.

The thin edge around pure parts: it runs the batch system's commands, writes the journal and tells
the scheduler whom to retire.  What is safe to do is decided in :mod:`dask_hpc.control.reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.control import backoff
from dask_hpc.control.accounts import Book
from dask_hpc.control.adoption import Succession
from dask_hpc.control.departures import Departures
from dask_hpc.control.failures import Failures
from dask_hpc.control.journal import Journal, Remembered
from dask_hpc.control.ledger import Ledger
from dask_hpc.control.notices import Notices
from dask_hpc.control.outlook import Outlook
from dask_hpc.control.ports import Place, Workers
from dask_hpc.control.reconcile import Actions, JobKey, JobView, reconcile
from dask_hpc.control.submitter import Submitter
from dask_hpc.control.waiting import ask_why
from dask_hpc.drivers.base import Listing, log_path
from dask_hpc.errors import BatchSystemError, BatchSystemMissing, HPCError, SubmitRejected
from dask_hpc.model.pool import Pool

logger = logging.getLogger("dask_hpc")


class Controller(Notices):
    """Keeps the jobs of a cluster as many as wanted.

    Parameters
    ----------
    name
        Of the cluster; job names start with it.
    pools
        Each pool by its name.
    client
        The batch system.
    journal
        Where every submission is written first.
    place
        Where the files are.
    workers
        The scheduler's side.
    clock
        Seconds that only go forward.
    wall
        Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        name: str,
        pools: Mapping[str, Pool],
        client: BatchClient,
        journal: Journal,
        place: Place,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(wall)
        self.name = name
        self.pools = dict(pools)
        self.client = client
        self.ledger = Ledger(client.driver.history_delay)
        self.book = Book(self.pools)
        self.submitter = Submitter(
            name=name,
            pools=self.pools,
            client=client,
            journal=journal,
            place=place,
            ledger=self.ledger,
            book=self.book,
            clock=clock,
            wall=wall,
        )
        self._failures = Failures(
            name, self.ledger, self.submitter.nodes, log=self.log, notices=self
        )
        self.wanted = dict.fromkeys(pools, 0)
        self.adapting: dict[str, Mapping[str, Any]] = {}  # how pools follow the demand
        self._succession = Succession(self.submitter.record, self.ledger, self.book)
        self.rounds = 0
        self._place = place
        self._workers = workers
        self._outlook = Outlook(self.ledger, workers, self.pools)
        self._departures = Departures(workers, self._departed)
        self._clock = clock
        self._wall = wall
        self._spares: set[str] = set()  # pools whose jobs are kept while they are of use
        self._told = True  # whether the scheduler's side knows how long its workers have
        self._interval = backoff.MIN_POLL
        self._next_poll = 0.0
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()

    # -- what the head tells ----------------------------------------------------------------------

    async def scale(self, wanted: Mapping[str, int]) -> None:
        """Want so many jobs of each pool; the user's word also resumes after failures.

        Raises
        ------
        HPCError
            If the batch system refuses what is to be submitted.
        """
        self.wanted.update(wanted)
        self.adapting = {each: how for each, how in self.adapting.items() if each not in wanted}
        self._spares -= wanted.keys()
        self._failures.resume()
        self.changed.set()
        if not any(self.wanted.values()):
            await self._departures.stop()  # they took their time; now none is wanted
        await self.round()
        self._wake.set()  # the loop slept without a date while there was nothing to look at
        if self.problem is not None:
            raise self.problem

    def want(self, wanted: Mapping[str, int]) -> None:
        """Want so many jobs of each pool, as the demand says: nobody's word, and nothing urgent.

        Jobs whose workers are busy, and those about to start, are spared for as long as they are;
        failures stay counted.  The next round, which comes at once, sees to it.
        """
        news = any(self.wanted[pool] != jobs for pool, jobs in wanted.items())
        self.wanted.update(wanted)
        self._spares |= wanted.keys()
        if news:
            self.changed.set()
        if news or self._surplus:
            self._wake.set()

    def adapt(self, pool: str, how: Mapping[str, Any]) -> None:
        """Note how a pool follows the demand (JSON values): the next head is to know."""
        self.adapting[pool] = how
        self._wake.set()

    def adopt(self, told: Remembered) -> None:
        """Go on where an earlier head of this cluster has ended, as its journal tells.

        Nothing is submitted or given up before the batch system has told what became of its jobs.

        Raises
        ------
        ConfigurationError
            If it had jobs of a pool that this one does not have.
        """
        first, now = self.client.driver.first_index, self._clock()
        self.wanted = self._succession.take_over(told, self.pools, first, now, self._wall())
        self.adapting = {p: how for p, how in told.adapting.items() if p in self.wanted}

    def worker_joined(self, worker: str) -> None:
        """Note a worker that registered with the scheduler."""
        key = self.ledger.worker_joined(worker, self._clock(), self._wall())
        if key is not None:
            self.book.joined(key, self._wall())
            self.changed.set()
            self._told = False
            if self._outlook.renewing:
                self._wake.set()  # it may stand in for one that waits to leave

    def worker_left(self, worker: str) -> None:
        """Note a worker that the scheduler lost or let go: its job may have ended, look soon."""
        if self.ledger.worker_left(worker) is not None:
            self._interval = backoff.MIN_POLL
            self._next_poll = min(self._next_poll, self._clock() + 0.5)
            self._wake.set()
            self.changed.set()

    def warned(self, workers: Collection[str], grace: float) -> None:
        """Take in that the jobs of these workers were told to end within so many seconds."""
        end = self._wall() + grace
        for key in {key for worker in workers if (key := self.ledger.job_of(worker))}:
            self.ledger.warned(key, end)
            self._departures.hurry(key, end)
        self._wake.set()

    # -- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go round after round until cancelled."""
        while True:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            try:
                await self.round()
            except OSError as error:  # the journal's disk: nothing is submitted until it is back
                logger.warning("the controller waits: %s", error)
                self._next_poll = self._clock() + backoff.MAX_POLL
            except Exception:  # jobs near their end need the next round more than this one
                logger.exception("a round of the controller failed, the next one comes soon")
                await asyncio.sleep(backoff.UNANSWERED_DELAY)

    def _pause(self) -> float | None:
        now = self._clock()
        moments = []
        if self.ledger.to_query():
            moments += [self._next_poll, now + self._outlook.next_turn(self._wall())]
        permit = self._failures.permit(self._clock())
        if not permit.allowed and permit.not_before is not None:
            moments.append(permit.not_before)
        return max(0.0, min(moments) - now) if moments else None

    async def round(self) -> None:
        """Observe if it is time, reconcile, apply."""
        async with self._lock:
            self.rounds += 1
            await self._succession.wanted(self.wanted, self.adapting)
            if self.ledger.to_query() and self._clock() >= self._next_poll:
                await self._observe()
            if self.ledger.unsettled():
                return
            views = self.views()
            if not self._told:
                self._outlook.tell()
                self._told = True
            actions = reconcile(self.wanted, views, self._failures.permit(self._clock()))
            if actions:
                await self._apply(actions)
            await self._cancel_overdue()

    def views(self) -> list[JobView]:
        """Every live job."""
        return self._outlook.views(
            self._wall(), surplus=self._surplus, spares=self._spares, departing=self._departures
        )

    @property
    def _surplus(self) -> bool:
        live = self.ledger.live_by_pool()
        return any(jobs > self.wanted.get(pool, 0) for pool, jobs in live.items())

    # -- observe ----------------------------------------------------------------------------------

    async def _observe(self) -> None:
        now = self._clock()  # what a slow answer does not show may have come since it was asked for
        try:
            listing = await self.client.query(self.ledger.to_query())
        except BatchSystemError as error:
            self.silence(error)
            self._schedule(changed=False)
            return
        if self.unanswered:
            self.unanswered = ""
            self.changed.set()
        if vanished := self.ledger.unlisted(listing, now):
            past = await self.client.history(vanished)
            ended = {job: status for job, status in past.jobs.items() if not status.state.live}
            listing = Listing({**ended, **listing.jobs}, listing.names)
        epoch = self._wall()
        await self._succession.settle_doubts(listing, now, epoch)
        changed, ends = self.ledger.observe(listing, now, epoch)
        changed |= self.ledger.unsettled()  # look again soon
        await self._succession.started()
        self._told = False
        self.book.observed(self.ledger.statuses(), ends, self._wall())
        await self._failures.take_in(ends, now)
        changed |= await ask_why(self.client, self.ledger, now)
        if changed:
            self._failures.tell_impossible()
        over = self.ledger.prune()
        await self._succession.account(now, ended=bool(over))
        for name in over:
            await self.submitter.record("ended", name=name)
        self._schedule(changed=changed)

    def _schedule(self, *, changed: bool) -> None:
        self._interval = backoff.next_poll(self._interval, changed=changed)
        self._next_poll = self._clock() + self._interval
        if changed:
            self.changed.set()

    def give_up(self, why: str) -> None:
        """Want no job any more, and tell whoever waits."""
        self.wanted = dict.fromkeys(self.wanted, 0)
        self.report(HPCError(f"cluster {self.name} has ended: {why}"))

    # -- apply ------------------------------------------------------------------------------------

    async def _apply(self, actions: Actions) -> None:
        for pool, count in actions.submit.items():
            await self._submit(pool, count)
        if actions.cancel:
            await self._cancel(actions.cancel)
        if actions.retire:
            await self._retire(actions.retire)
        self._departures.recall(actions.recall)

    async def _submit(self, pool: str, count: int) -> None:
        try:
            submitted = await self.submitter.submit(pool, count)
        except (SubmitRejected, BatchSystemMissing) as error:
            self._failures.refused(error, self._clock())
        except BatchSystemError as error:  # in doubt: looked for by its name, not repeated
            self._failures.unanswered(error, self._clock())
        else:
            if submitted:
                self._failures.accepted()
                self._schedule(changed=True)

    async def _cancel(self, keys: Collection[JobKey]) -> None:
        self.ledger.leave(keys, self._clock())
        try:
            await self.client.cancel(self.ledger.ids(keys), self.ledger.sizes())
        except BatchSystemError as error:
            logger.warning("could not cancel, it is tried again: %s", error)
        self._schedule(changed=True)

    async def _retire(self, keys: Collection[JobKey]) -> None:
        names = {key: set(self.ledger.arrays[key.name].workers[key.index]) for key in keys}
        self.ledger.leave(keys, self._clock())
        self.changed.set()
        if any(self.wanted.values()):
            self._departures.begin(names, self.ledger.deadlines())
            return
        everyone = {worker for workers in names.values() for worker in workers}
        left = await self._workers.retire(everyone, force=True)
        for key, workers in names.items():
            self._departed(key, left.issuperset(workers))

    def _departed(self, key: JobKey, gone: bool) -> None:  # noqa: FBT001  (a callback)
        if gone:
            self.ledger.leave((key,), self._clock())
        else:  # its data has nowhere to go: keep the job, try again later
            self.ledger.stay(key)
        self._schedule(changed=True)
        self._wake.set()

    async def _cancel_overdue(self) -> None:
        overdue = self.ledger.overdue(self._clock(), backoff.LEAVE_GRACE)
        overdue = [key for key in overdue if key not in self._departures]
        if overdue:
            with suppress(BatchSystemError):
                await self.client.cancel(self.ledger.ids(overdue), self.ledger.sizes())

    # -- the end ----------------------------------------------------------------------------------

    async def close(self, timeout: float) -> list[JobKey]:
        """Cancel every job and see them gone.

        Parameters
        ----------
        timeout
            Seconds to wait for the batch system to confirm.

        Returns
        -------
        list
            Jobs that are not known to have ended, for the caller to report.
        """
        await self._departures.stop()
        async with self._lock:
            await self._succession.closing()
            self.wanted = dict.fromkeys(self.wanted, 0)
            deadline = self._clock() + timeout
            interval, cancelled = 0.2, set[JobKey]()
            while live := [view.key for view in self.views()]:
                fresh = [key for key in live if key not in cancelled]
                fresh = [key for key in fresh if self.ledger.arrays[key.name].array is not None]
                if fresh:
                    cancelled.update(fresh)
                    await self._cancel(fresh)
                await asyncio.sleep(interval)
                interval = min(interval * 1.5, backoff.MIN_POLL)
                await self._observe()
                if self._clock() >= deadline:
                    break
            left = [view.key for view in self.views()]
            if not left:
                await self.submitter.record("closed")
            return left

    # -- what others may ask ----------------------------------------------------------------------

    def log(self, key: JobKey) -> Path:
        """Path of one job's log."""
        return log_path(self._place.logs, key.name, key.index)

    def epoch(self) -> float:
        """Seconds since the epoch at which the clock, and with it the ledger's, showed zero."""
        return self._wall() - self._clock()
