"""The workers of a job while they have one head: started, watched, closed.

Workers and nannies are the engine's.  This file starts them, notices when the head is gone, and
obeys signals.  It restarts nothing itself: nannies do.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from dask_hpc.model.grace import grace_of
from dask_hpc.node import ending, head, probe
from dask_hpc.node.ending import Ending, ExitCode
from dask_hpc.node.leaving import Signals, leave

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from dask_hpc.node.crew import Hand
    from dask_hpc.node.head import Head
    from dask_hpc.node.listening import Listening
    from dask_hpc.node.options import WorkerOptions
    from dask_hpc.node.scratch import Place
    from dask_hpc.node.worker import JobNanny

#: Seconds a worker may take to close before it is killed.
CLOSE_SECONDS = 5.0
#: Seconds for closing all, the killing included; then the fork server takes the rest with it.
CLOSE_BOUND = 3 * CLOSE_SECONDS
#: Seconds in which the head must answer when a worker has lost it.
DOUBT_SECONDS = 2.0
#: Seconds that workers get to end by themselves once the head is gone: nothing is left to save.
GONE_SECONDS = 1.0
#: Seconds between two looks at workers that are being started again.
LOOK_EVERY = 10.0


def say(line: str) -> None:
    """Tell whoever reads the job's log."""
    sys.stderr.write(f"dask-hpc worker: {line}\n")
    sys.stderr.flush()


class Job:
    """The nannies of this job, and what has been heard of them."""

    def __init__(
        self,
        wanted: WorkerOptions,
        hands: Sequence[Hand],
        *,
        reached: Head,
        place: Listening,
        scratch: Place,
    ) -> None:
        import dask

        self.wanted = wanted
        self.head = reached
        self.place = place
        self.scratch = scratch
        self.mates = len(hands)
        self.joined = asyncio.Event()
        self.reasons: list[str] = []
        self.doubt = asyncio.Event()
        self.signals = Signals(grace_of(os.environ, wanted.grace) if wanted.drains else None)
        shared = self._nanny_options()
        dask.config.set(scratch.settings)  # nannies heed them, and hand them to their workers
        self.nannies = [self._nanny(hand, shared) for hand in hands]

    def _told(self, reason: str) -> None:
        self.reasons.append(reason)
        if reason == ending.BROKEN:
            self.doubt.set()

    def _nanny(self, hand: Hand, shared: dict[str, Any]) -> JobNanny:
        from dask_hpc.node.worker import make_worker, nanny_class

        own: dict[str, Any] = {
            "name": hand.name,
            "nthreads": hand.threads,
            "memory_limit": hand.memory,
            "port": list(hand.nanny_ports) or 0,
            "worker_port": list(hand.worker_ports) or 0,
            "worker_class": functools.partial(
                make_worker,
                base=self.wanted.worker_class,
                cpus=hand.cpus,
                scratch=self.scratch.about,
                tmpfs=(self.scratch.directory, self.mates) if self.scratch.counts_tmpfs else None,
            ),
        }
        if hand.environ:
            own["env"] = dict(hand.environ)
        if hand.gpus:
            own["resources"] = {"GPU": hand.gpus, **self.wanted.resources}
        if hand.gpus and self.wanted.dask_cuda:
            from dask_hpc.node import cuda

            own |= cuda.spilling(hand.environ, hand.memory)
        kind = nanny_class(self.wanted.worker_class)
        options = {**shared, **own, **self.wanted.worker_options}
        options["local_directory"] = self.scratch.directory  # in the one that any of them names
        return kind(self.head.address, **options)

    def _nanny_options(self) -> dict[str, Any]:
        wanted = self.wanted
        preload, arguments = list(wanted.preload), list[Any](wanted.preload_argv)
        if wanted.dask_cuda:
            from dask_hpc.node import cuda

            preload, arguments = cuda.preloads(wanted)
        optional = {
            "lifetime": wanted.lifetime,
            "lifetime_stagger": wanted.lifetime_stagger,
            "lifetime_restart": wanted.lifetime_restart,
        }
        return {
            "told": self._told,
            "security": self.head.security,
            "host": self.place.host,
            "protocol": wanted.protocol,
            "death_timeout": wanted.death_timeout,
            "resources": dict(wanted.resources) or None,
            "preload": preload or None,
            "preload_argv": arguments or None,
            "preload_nanny": list(wanted.preload_nanny) or None,
            "dashboard": False,
            **{name: value for name, value in optional.items() if value is not None},
        }

    async def run(self) -> Ending:
        """Start all workers and stay until they end, the head is gone, or a signal comes."""
        self.signals.watch()
        signalled = asyncio.create_task(self._signalled())
        gone = asyncio.create_task(self._head_gone())
        ended = asyncio.create_task(self._start_and_wait())
        cut_off = asyncio.create_task(self._cut_off())
        watch = asyncio.create_task(self._watch_memory())
        ways = (ended, signalled, gone, cut_off)
        tasks = (*ways, watch)
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            first = next(task for task in ways if task in done)
            if first is gone:
                await asyncio.wait([ended], timeout=GONE_SECONDS)
            end = first.result()
            if self.signals.first is not None:  # whoever closed the workers then: that is why
                end = ending.signalled(self.signals.first)
        finally:
            await self._close("supervisor-ends")
            for task in tasks:  # after: a nanny whose start is cancelled closes no worker
                task.cancel()
        return end

    async def _signalled(self) -> Ending:
        number = await self.signals.come()
        if self.joined.is_set():
            await leave(self.head, self.nannies, self.signals, say)
        else:
            say(f"{signal.Signals(number).name}: closing")
        return ending.signalled(number)

    async def _start_and_wait(self) -> Ending:
        began = time.monotonic()
        results = await asyncio.gather(*map(_start, self.nannies), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors and await self.head.answers(DOUBT_SECONDS):
            return ending.start_failed(head.root_cause(errors[0]))
        if errors and self.wanted.head_starts_with_us:
            return Ending(ExitCode.DONE, "the head was closed before all workers had joined")
        if errors:
            return ending.head_gone(self.head.address)
        if not self.wanted.quiet:
            say(
                f"{len(self.nannies)} workers joined {self.head.address}"
                f" in {time.monotonic() - began:.2f} s"
            )
        self.joined.set()
        await asyncio.gather(*(nanny.finished() for nanny in self.nannies))
        return ending.finished(self.reasons)

    async def _head_gone(self) -> Ending:
        """Return when the head does not answer any more.

        A nanny does not watch the head: one that starts its worker again would try for ever.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self.doubt.wait()
            restarting = any(not nanny.settled for nanny in self.nannies)
            if (self.doubt.is_set() or restarting) and not await self.head.answers(DOUBT_SECONDS):
                return ending.head_gone(self.head.address)
            self.doubt.clear()

    async def _watch_memory(self) -> None:
        from dask_hpc.node.memory_watch import MemoryWatch  # workers are starting meanwhile

        await MemoryWatch(self.nannies).run()

    async def _cut_off(self) -> Ending:
        """Return when the head turns out not to reach this node: results could never leave it."""
        await self.joined.wait()
        await probe.pause()
        if await self._reached_back() or await self._reached_back():
            await asyncio.Event().wait()
        return ending.cut_off(self.head.address, str(self.place))

    async def _reached_back(self) -> bool:
        wanted = self.wanted
        # A firewall may know those ports alone, and a user how a worker is reached.
        ports = wanted.worker_port and not wanted.nanny_port
        if ports or "contact_address" in wanted.worker_options:
            return True
        nanny = next((each for each in self.nannies if each.answering), None)
        if nanny is None:
            return True
        told = await probe.way_back(self.head.address, nanny.address, self.head.security)
        if told is None:  # who answers at once, and has still not come, cannot come
            told = not await self.head.answers(DOUBT_SECONDS)
        return told or not nanny.answering

    async def _close(self, reason: str) -> None:
        closing = [nanny.close(timeout=CLOSE_SECONDS, reason=reason) for nanny in self.nannies]
        try:
            async with asyncio.timeout(CLOSE_BOUND):
                await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            say("warning: workers did not close in time and are killed")


async def _start(nanny: Awaitable[Any]) -> None:
    await nanny
