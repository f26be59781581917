"""What a signal begins: the head is told that these workers go, and they work on until they must.

The batch systems' signals and their times are :mod:`dask_hpc.model.grace`'s; closing the workers is
the supervisor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

from dask_hpc.model.grace import to_work
from dask_hpc.model.joining import LEAVING
from dask_hpc.node.head import refused
from dask_hpc.node.unheard import WARNINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dask_hpc.model.grace import Grace
    from dask_hpc.node.head import Head
    from dask_hpc.node.worker import JobNanny

#: That end a job, or announce its end.
SIGNALS = (*WARNINGS, signal.SIGINT)
#: Seconds in which a head that is not overloaded has answered; it is asked again if not.
ANSWER = 2.0
#: Seconds between two attempts that failed at once.
AGAIN = 0.2
#: Seconds in which the same signal may come twice from one sender: a launcher, or the shell of a
#: job with an epilogue, forwards what the batch system sent to all.
TWICE = 1.0


class Signals:
    """The signals that a supervisor gets, and until when its workers may work after them.

    Parameters
    ----------
    grace
        What the batch system leaves between a signal and the kill; None where a signal closes the
        workers at once.
    """

    def __init__(self, grace: Grace | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.first: int | None = None
        self._grace = grace
        self._clock = clock
        self._began = self._deadline = 0.0
        self._news = asyncio.Event()

    def watch(self) -> None:
        """Have the event loop take the signals."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.heard, number)

    def heard(self, number: int) -> None:
        """Take in a signal: the first begins the end, a further one may only hasten it."""
        now = self._clock()
        deadline = now if self._grace is None else now + to_work(self._grace.of(number))
        if self.first is None:
            self.first, self._began, self._deadline = number, now, deadline
        elif number == signal.SIGINT or self._hurries(now):
            self._deadline = min(now, deadline)
        else:
            self._deadline = min(self._deadline, deadline)
        self._news.set()

    def _hurries(self, now: float) -> bool:
        return not (self._grace and self._grace.repeats) and now - self._began > TWICE

    @property
    def left(self) -> float:
        """Seconds that the workers still have."""
        return max(0.0, self._deadline - self._clock())

    async def come(self) -> int:
        """Wait for the first one; its number."""
        while self.first is None:
            await self._news.wait()
        return self.first

    async def out_of_time(self) -> None:
        """Wait until the workers must be closed."""
        while left := self.left:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()


async def leave(
    head: Head, nannies: Sequence[JobNanny], signals: Signals, say: Callable[[str], None]
) -> None:
    """After a first signal, return when the workers must be closed.

    It is for the head to close them before, once it has moved their data: whoever awaits this has
    to await their end as well.

    Parameters
    ----------
    head
        To be told.
    nannies
        Of all workers; those that do not run have nothing to save.
    signals
        Of which one has come.
    say
        Writes to the job's log.
    """
    name = signal.Signals(signals.first or signal.SIGTERM).name
    workers = [str(nanny.worker_address) for nanny in nannies if nanny.settled]
    if not workers or not signals.left:
        say(f"{name}: closing")
        return
    say(f"{name}: {len(workers)} workers leave, within {signals.left:.0f} s")
    telling = asyncio.create_task(_tell(head, workers, signals, say))
    waiting = asyncio.create_task(signals.out_of_time())
    try:
        await asyncio.wait((telling, waiting), return_when=asyncio.FIRST_COMPLETED)
        if telling.done() and not telling.result():
            return
        await waiting
        say("warning: not all workers could leave in time: closing")
    finally:
        telling.cancel()
        waiting.cancel()


async def _tell(
    head: Head, workers: list[str], signals: Signals, say: Callable[[str], None]
) -> bool:
    """Tell a head of ours, or have any other retire the workers; whether to wait for anything."""
    heard: Any = None
    while head.ours and signals.left:
        try:
            heard = await _ask(
                head, min(ANSWER, signals.left), LEAVING, workers=workers, grace=signals.left
            )
            break
        except TimeoutError:
            say("the head has not answered yet")
        except OSError:
            await asyncio.sleep(AGAIN)
        if await refused(head.address):
            say("warning: the head is gone: closing")
            return False
    if isinstance(heard, int):  # how many of them it knows
        return heard > 0
    with contextlib.suppress(OSError):
        retired: Any = await _ask(
            head, signals.left, "retire_workers", workers=workers, close_workers=True, remove=True
        )
        # Of those that it could not empty, a running task may still be waited for by a client.
        return not set(workers) <= set(retired)
    return True


async def _ask(head: Head, timeout: float, operation: str, **values: object) -> object:
    """Call an operation of the scheduler; OSError if that is not possible in time."""
    from distributed.comm import connect

    async with asyncio.timeout(timeout):
        security = head.security.get_connection_args("worker")
        comm = await connect(head.address, timeout=timeout, **security)
        try:
            await comm.write({"op": operation, **values})
            return await comm.read()
        finally:
            comm.abort()
