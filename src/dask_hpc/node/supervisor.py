"""One job on one node: import the engine once, fork its workers, stay until they end.

What workers do while they have a head is :mod:`dask_hpc.node.life`'s.  This file gets them ready,
has them wait for another head where one may come, and says in its last line why the job ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from dask_hpc.errors import HPCError
from dask_hpc.node import ending, head, limits, listening, spawn
from dask_hpc.node.crew import bound, equal_hands
from dask_hpc.node.ending import Ending, ExitCode
from dask_hpc.node.kernel import raise_file_limit
from dask_hpc.node.leaving import SIGNALS, Signals
from dask_hpc.node.life import Job, say
from dask_hpc.node.scratch import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from dask_hpc.launch.rendezvous import Rendezvous
    from dask_hpc.node.crew import Hand
    from dask_hpc.node.head import Head
    from dask_hpc.node.options import WorkerOptions
    from dask_hpc.node.scratch import Place


def run(wanted: WorkerOptions) -> int:
    """Run the workers of a job on this node until they end.

    Parameters
    ----------
    wanted
        What to run.

    Returns
    -------
    int
        An :class:`~dask_hpc.node.ending.ExitCode`, or 128 + the number of a signal.  The last line
        on standard error is ``dask-hpc worker: ended: <reason>``.
    """
    end = _ended(lambda: _run(wanted))
    say(f"ended: {end.reason}")
    return end.code


def run_crew(
    wanted: WorkerOptions, hands: Callable[[], Sequence[Hand]], found: Rendezvous | None
) -> Ending:
    """Run given workers until they end: the part of this node in a parallel launch.

    Parameters
    ----------
    wanted
        What all of them have in common.
    hands
        Returns the workers.
    found
        Where their head is, or will be in a moment; None: where `wanted` says.

    Returns
    -------
    Ending
        Nothing is said of it here.
    """

    def run() -> Ending:
        crew = hands()
        raise_file_limit()
        with Keeper() as keeper:
            server = spawn.start(_modules(wanted))
            try:
                place = found or head.find(wanted)
                return asyncio.run(_supervise(wanted, crew, place, keeper))
            finally:
                spawn.stop(server)

    return _ended(run)


def _ended(run: Callable[[], Ending]) -> Ending:
    try:
        with _signals_raise():
            return run()
    except HPCError as error:
        return ending.failed(error)
    except _Signalled as caught:
        return ending.signalled(caught.number)
    except Exception as error:  # noqa: BLE001  (whatever it is, the log must not end without a word)
        if (starved := limits.starved(error, dict(limits.process_limits()))) is not None:
            return ending.failed(starved)
        traceback.print_exc()
        return ending.unexpected(error)


class _Signalled(BaseException):
    """A signal came while nothing had to be closed yet; no `except Exception` may keep it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Until the event loop watches signals itself, one of them ends what is being done."""

    def end(number: int, _frame: object) -> NoReturn:
        raise _Signalled(number)

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(wanted: WorkerOptions) -> Ending:
    if wanted.worker_class is not None:
        from dask_hpc.node import cuda

        wanted = cuda.understood(wanted)
    snapshot = limits.look(devices=bool(wanted.gpus))
    plan = limits.plan(wanted, snapshot)
    places, note = bound(wanted, plan.layout, snapshot)
    for each in filter(None, (*plan.notes, note)):
        say(f"warning: {each}")
    hands = equal_hands(wanted, plan.layout, places=places, devices=plan.gpus)
    raise_file_limit()  # workers hold a connection to every other they ever fetched from
    with Keeper() as keeper:  # around the server: a worker may write until that has ended
        server = spawn.start(_modules(wanted))
        try:
            found = head.find(wanted)
            return asyncio.run(_supervise(wanted, hands, found, keeper))
        finally:
            spawn.stop(server)


def _modules(wanted: WorkerOptions) -> list[str]:
    modules = list(wanted.fork_preload)
    if wanted.worker_class is not None:  # a wrong name shows now, and once
        modules.append(wanted.worker_class.rpartition(".")[0])
    return modules


async def _supervise(
    wanted: WorkerOptions, hands: Sequence[Hand], found: Rendezvous, keeper: Keeper
) -> Ending:
    reached = await head.reach(wanted, found, len(hands))
    scratch = keeper.provide(wanted, len(hands))  # nothing waits for this loop yet
    for warning in scratch.warnings:
        say(f"warning: {warning}")
    if not wanted.quiet:
        say(scratch.line)
    job = await _ready(wanted, hands, reached, scratch)
    end = await job.run()
    while end.lost and wanted.await_head:
        if (number := job.signals.first) is not None:  # it came while the workers were closed
            return ending.signalled(number)
        say(f"{end.reason}: waiting {wanted.await_head:g} s for another one")
        came = await _in_time(_after(wanted, hands, job))
        if isinstance(came, Ending):
            return came
        if came is None:
            return end
        job = came
        end = await job.run()
    return end


async def _ready(
    wanted: WorkerOptions, hands: Sequence[Hand], reached: Head, scratch: Place
) -> Job:
    place = await listening.choose(wanted, reached)
    for note in () if wanted.quiet else place.notes:
        say(note)
    await asyncio.sleep(reached.turn)  # the head cannot take in a thousand workers at once
    return Job(wanted, hands, reached=reached, place=place, scratch=scratch)


async def _after(wanted: WorkerOptions, hands: Sequence[Hand], job: Job) -> Job | None:
    """Prepare the same workers for the next head; None if none comes."""
    found = await head.another(wanted, job.head)
    if found is None:
        return None
    reached = await head.reach(wanted, found, len(hands))
    say(f"a head answers at {reached.address}: its workers start again")
    return await _ready(wanted, hands, reached, job.scratch)


async def _in_time(coming: Coroutine[Any, Any, Job | None]) -> Job | Ending | None:
    """Wait for what comes, unless a signal does first: there is no worker to close."""
    signals = Signals(None)
    signals.watch()
    waiting = asyncio.create_task(coming)
    signalled = asyncio.create_task(signals.come())
    try:
        await asyncio.wait((waiting, signalled), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if signals.first is None else ending.signalled(signals.first)
    finally:
        waiting.cancel()
        signalled.cancel()


__all__ = ["ExitCode", "run", "run_crew"]
