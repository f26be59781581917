"""Let workers finish, hand over and go: the engine's side.

A worker that is to go takes no new tasks; what waits on it goes elsewhere, what runs may end if
there is time, results are copied to others meanwhile, and then it closes.  What a task may do is
decided in :mod:`~dask_hpc.control.drain`; which workers have to go, by the controller.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from distributed import Scheduler
from distributed.active_memory_manager import (
    ActiveMemoryManagerExtension,
    RetireWorker,
    Suggestion,
    SuggestionGenerator,
)
from distributed.core import Status
from distributed.scheduler import TaskState, WorkerState

from dask_hpc.cluster.asking import Questions
from dask_hpc.cluster.way_out import Hold, Leaving, cut_off
from dask_hpc.control.drain import Task, hand_over_time, outlives

logger = logging.getLogger("dask_hpc")

#: What this does is called in the engine's events and logs.
_STIMULUS = "dask-hpc-drain"
#: Seconds between two looks at few workers, and at most; in between, so many workers per second.
_SHORT_BEAT, _LONG_BEAT, _LOOKS = 0.05, 1.0, 500
#: Seconds between two rounds of a memory manager of our own, where the user runs none: the engine's
#: own value for the one that it starts for the same reason.
_ROUND = 2.0


class HandOver(RetireWorker):
    """The engine's policy that copies what one worker alone holds, to workers that stay longest.

    Parameters
    ----------
    draining
        Knows who stays.
    leaving
        The worker.
    """

    __slots__ = ("_draining", "_leaving")

    def __init__(self, draining: Draining, leaving: Leaving) -> None:
        super().__init__(leaving.ws.address)
        self._draining = draining
        self._leaving = leaving

    def run(self) -> SuggestionGenerator:
        """See the engine's."""
        recipients = self._draining.recipients(self._leaving)
        suggestions, answer = super().run(), None
        with suppress(StopIteration):
            while True:
                suggestion = suggestions.send(answer)
                if suggestion.op == "replicate":
                    suggestion = Suggestion("replicate", suggestion.ts, recipients)
                answer = yield suggestion


class Draining:
    """Drains workers of a scheduler; one for each scheduler.

    Parameters
    ----------
    scheduler
        Theirs.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.rerun = 0
        self.deadlines: Mapping[str, float] = {}  # by address
        self._scheduler = scheduler
        self._leaving: dict[str, Leaving] = {}
        self._amm: ActiveMemoryManagerExtension | None = None  # where the user's does not run
        self._questions = Questions(scheduler, begun=self._has_begun, let_go=self._release)

    # -- the way of some workers ------------------------------------------------------------------

    async def drain(self, workers: Iterable[WorkerState], deadline: float | None) -> None:
        """Let workers finish, hand over and close.

        Parameters
        ----------
        workers
            To go.  Those that are on their way already keep the earlier of the two deadlines.
        deadline
            Seconds since the epoch at which they are ended by force; None: no hurry, and a worker
            whose results have nowhere to go stays.
        """
        mine, others = self._enter(workers, deadline)
        closing: set[asyncio.Task[None]] = set()
        try:
            while going := [leaving for leaving in mine if not leaving.over]:
                self._step(going)
                if ready := [leaving for leaving in going if self._ready(leaving)]:
                    for leaving in ready:
                        leaving.closing = True
                    closing.add(asyncio.create_task(self._close(ready)))
                # Copies arrive without a word: the engine's own retirement looks like this too.
                await _pause(closing, min(_LONG_BEAT, max(_SHORT_BEAT, len(going) / _LOOKS)))
        finally:
            self._leave(mine)
        for leaving in others:
            await leaving.ended.wait()

    def _enter(
        self, workers: Iterable[WorkerState], deadline: float | None
    ) -> tuple[list[Leaving], list[Leaving]]:
        mine, others = [], []
        for ws in workers:
            if (known := self._leaving.get(ws.address)) is not None:
                dates = [date for date in (known.deadline, deadline) if date is not None]
                known.deadline = min(dates, default=None)
                others.append(known)
            else:
                self._leaving[ws.address] = leaving = Leaving(ws, deadline)
                mine.append(leaving)
        return mine, others

    def _leave(self, group: Collection[Leaving]) -> None:
        for leaving in group:
            self._resume(leaving)
            self._leaving.pop(leaving.ws.address, None)
            leaving.over = True
            leaving.ended.set()
        if not self._leaving and self._amm is not None:
            self._amm.stop()
            self._amm = None

    def _step(self, group: Collection[Leaving]) -> None:
        now = time.time()
        vetoed = self._vetoed([leaving.ws for leaving in group])
        alone = not self.staying()
        started = False
        for leaving in group:
            if self._gone(leaving) or (leaving.deadline is not None and now >= leaving.deadline):
                leaving.over = True
            if leaving.over or leaving.closing:
                continue
            hold = self._hold(leaving, now, alone=alone, vetoed=leaving.ws in vetoed)
            self._note(leaving, hold)
            if hold is not None:
                self._resume(leaving)
                leaving.over = leaving.deadline is None and hold in {Hold.ACTORS, Hold.ALONE}
                continue
            self._stop(leaving)
            self._ask(leaving)
            self._move(leaving, now)
            started |= self._hand_over(leaving)
        if started:
            self._manager().run_once()  # not after its next interval

    def _gone(self, leaving: Leaving) -> bool:
        known = self._scheduler.workers.get(leaving.ws.address) is leaving.ws
        return not known or self._scheduler.status is not Status.running

    def _end(self, leaving: Leaving) -> float | None:
        """When it is ended by force, whether it has to go for that or for another reason."""
        dates = (leaving.deadline, self.deadlines.get(leaving.ws.address))
        return min((date for date in dates if date is not None), default=None)

    def _left(self, leaving: Leaving, now: float) -> float:
        """Seconds until its results must be on their way; infinite without a deadline."""
        if (end := self._end(leaving)) is None:
            return math.inf
        given = end - leaving.since
        return end - hand_over_time(leaving.ws.nbytes, self._scheduler.bandwidth, given) - now

    # -- who may go, who stays --------------------------------------------------------------------

    def staying(self) -> set[WorkerState]:
        """Workers in service that are not to go."""
        going = {leaving.ws for leaving in self._leaving.values()}
        staying: set[WorkerState] = self._scheduler.running - going
        return staying

    def recipients(self, leaving: Leaving) -> set[WorkerState]:
        """Who is to have the results of a worker: who is there for a while after it, if anybody."""
        end = self._end(leaving)
        leaves = time.time() if end is None else end
        staying = self.staying()
        lasting = {ws for ws in staying if outlives(self.deadlines.get(ws.address), leaves)}
        return lasting or staying

    def _hold(self, leaving: Leaving, now: float, *, alone: bool, vetoed: bool) -> Hold | None:
        ws = leaving.ws
        if ws.status is Status.init:
            return Hold.STARTING
        if ws.actors:
            return Hold.ACTORS
        waits = leaving.deadline is not None and (
            self._scheduler.queued or self._scheduler.unrunnable
        )
        if alone and (waits or ws.processing or ws.has_what):
            return Hold.ALONE
        if vetoed and self._left(leaving, now) > 0:
            return Hold.NEEDED
        return None

    def _vetoed(self, workers: list[WorkerState]) -> set[WorkerState]:
        """Workers that an extension of the scheduler cannot spare now: the engine's own hook."""
        may_go = workers
        for plugin in list(self._scheduler.plugins.values()):
            may_go = plugin.valid_workers_downscaling(self._scheduler, may_go)
        return set(workers) - set(may_go)

    def _note(self, leaving: Leaving, hold: Hold | None) -> None:
        if hold is not None and hold is not leaving.hold:
            level = logging.WARNING if hold is Hold.ACTORS else logging.INFO
            until = "for now" if leaving.deadline is None else "until its end at the latest"
            logger.log(level, "worker %s works on %s: %s", leaving.ws.name, until, hold.value)
        leaving.hold = hold

    # -- out of service, and back -----------------------------------------------------------------

    def _stop(self, leaving: Leaving) -> None:
        """Let it begin no more tasks, here and there: what retirement in the engine begins with."""
        if leaving.stopped is None:
            leaving.stopped = time.time()
            self._scheduler.handle_worker_status_change(
                Status.closing_gracefully, leaving.ws, _STIMULUS
            )
            self._tell(leaving, Status.closing_gracefully)

    def _resume(self, leaving: Leaving) -> None:
        """Take everything back, if it is still there and not closing, which the engine ends."""
        if leaving.closing:
            return
        if leaving.policy is not None:
            leaving.policy.manager.policies.discard(leaving.policy)
            leaving.policy = None
        if leaving.stopped is not None and not self._gone(leaving):
            self._tell(leaving, Status.running)  # it confirms, and is given tasks again
        leaving.stopped = None
        leaving.asked.clear()
        leaving.running.clear()

    def _tell(self, leaving: Leaving, status: Status) -> None:
        message = {"op": "worker-status-change", "status": status.name, "stimulus_id": _STIMULUS}
        self._scheduler.worker_send(leaving.ws.address, message)

    # -- its tasks --------------------------------------------------------------------------------

    def _ask(self, leaving: Leaving) -> None:
        """Ask of each task whether it has begun; the worker lets go of those that have not.

        The question follows the word to begin no more, on the same connection: nothing that is
        moved for the answer has begun, or ever will there.
        """
        leaving.asked &= leaving.ws.processing
        leaving.running &= leaving.ws.processing
        for ts in leaving.ws.processing - leaving.asked:
            leaving.asked.add(ts)
            self._questions.ask(ts)

    def _has_begun(self, ts: TaskState, worker: str) -> None:
        if (leaving := self._leaving.get(worker)) is not None:
            leaving.running.add(ts)

    def _release(self, ts: TaskState) -> None:
        """Have the scheduler find another place for a task."""
        self._scheduler.transitions({ts.key: "released"}, _STIMULUS)

    def _move(self, leaving: Leaving, now: float) -> None:
        """Start what cannot end in time elsewhere, now rather than after the deadline."""
        left = self._left(leaving, now)
        if left == math.inf:
            return
        # At the end those too of which a worker that does not answer has not said that they began.
        for ts in list(leaving.running if left > 0 else leaving.ws.processing):
            may_finish = self._seen(leaving, ts, now).may_finish(left)
            if not may_finish and (left <= 0 or self._others_can(ts)):
                leaving.abandoned = True
                self.rerun += ts in leaving.running
                leaving.running.discard(ts)
                logger.info("%s does not end on %s in time", ts.key, leaving.ws.name)
                self._release(ts)

    def _seen(self, leaving: Leaving, ts: TaskState, now: float) -> Task:
        ws, elapsed = leaving.ws, None
        if leaving.stopped is not None and ws.last_seen > leaving.stopped:
            elapsed = ws.executing.get(ts, 0.0) + now - ws.last_seen
        # After secede() the engine knows but the time before it.
        known = ts.prefix.duration_average > 0 and ts not in ws.long_running
        return Task(elapsed, ts.prefix.duration_average if known else None)

    def _others_can(self, ts: TaskState) -> bool:
        valid = self._scheduler.valid_workers(ts)
        staying = self.staying()
        anybody = valid is None or ts.loose_restrictions
        return bool(staying if anybody else staying & valid)

    # -- its results, and its end -----------------------------------------------------------------

    def _hand_over(self, leaving: Leaving) -> bool:
        """Have its results copied, and again what tasks left since; whether that is urgent."""
        ws, policy = leaving.ws, leaving.policy
        failed = policy is not None and policy.no_recipients
        if policy is not None and not failed:
            if not policy.done() or leaving.unfinished == len(ws.processing):
                return False
            policy.manager.policies.discard(policy)
        if failed and leaving.deadline is None:
            leaving.over = True
        if leaving.over or not ws.has_what:
            return False
        leaving.policy = HandOver(self, leaving)
        leaving.unfinished = len(ws.processing)
        self._manager().add_policy(leaving.policy)
        return not failed

    def _manager(self) -> ActiveMemoryManagerExtension:
        users = self._scheduler.extensions.get("amm")
        if users is not None and users.running:
            return users
        if self._amm is None:
            self._amm = ActiveMemoryManagerExtension(
                self._scheduler, policies=set(), register=False, start=True, interval=_ROUND
            )
        return self._amm

    def _ready(self, leaving: Leaving) -> bool:
        if leaving.over or leaving.closing or leaving.stopped is None or leaving.ws.processing:
            return False
        policy = leaving.policy
        if policy is None or leaving.unfinished:
            return not leaving.ws.has_what
        # Not the policy's own word: what two workers hold that both go is safe with neither.
        running = self._scheduler.running
        return not policy.no_recipients and all(
            ts.actor or not running.isdisjoint(ts.who_has) for ts in leaving.ws.has_what
        )

    async def _close(self, ready: Collection[Leaving]) -> None:
        """Close workers that have nothing left; the engine sees to what came up meanwhile.

        A task of its own, which is never cancelled: the engine would leave its policies behind.
        """
        try:
            abandoned = [leaving.ws for leaving in ready if leaving.abandoned]
            await asyncio.gather(*(cut_off(self._scheduler, ws, _STIMULUS) for ws in abandoned))
            await self._scheduler.retire_workers(
                workers=[leaving.ws.address for leaving in ready if not leaving.abandoned],
                close_workers=True,
                remove=True,
                stimulus_id=_STIMULUS,
            )
        finally:
            for leaving in ready:
                leaving.closing = False
                if leaving.over:  # given up meanwhile
                    self._resume(leaving)


async def _pause(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    """Wait for a while, or for one of these tasks; its error is raised."""
    if not tasks:
        await asyncio.sleep(seconds)
        return
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        tasks.discard(task)
        task.result()
