"""An event loop whose time passes only when nothing is left to do: a week in seconds.

The loop is asyncio's own, on a selector that waits by moving the clock.  No thread, file or socket
may be waited for on it: what would run in a thread runs at once.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

#: Seconds since the epoch at which every simulation begins.  The loop's own clock begins at zero:
#: it adds a nanosecond to tell what is due, which is lost in the rounding of larger numbers.
EPOCH = 1_767_225_600.0


class Deadlock(RuntimeError):
    """Nothing is left to happen, and the main coroutine still waits."""


class Unseen(RuntimeError):
    """Something broke in the background, where nobody waited for it."""


class _Timeless(selectors.SelectSelector):
    """A selector that sees no file and waits in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("nothing will ever happen again")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock."""

    def __init__(self) -> None:
        self._clock = _Timeless()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def epoch(self) -> float:
        """Seconds since the epoch."""
        return EPOCH + self.time()

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run it now: a thread would not be seen by the clock."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (an executor hands on whatever it is)
            future.set_exception(error)
        return future


@contextmanager
def _fixed(seed: int, loop: VirtualLoop) -> Iterator[None]:
    """Let clock and chance of the code under test be those of the simulation."""
    before = random.getstate()
    random.seed(seed)
    names = random.Random(f"names {seed}")
    with (
        mock.patch.object(time, "time", loop.epoch),
        mock.patch("secrets.token_hex", lambda n=8: f"{names.getrandbits(8 * n):0{2 * n}x}"),
    ):
        try:
            yield
        finally:
            random.setstate(before)


def simulate(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int = 0) -> T:
    """Run a coroutine on a virtual clock, with the same chance each time.

    Parameters
    ----------
    main
        Makes the coroutine, on the loop.
    seed
        Of whatever draws from `random` or `secrets`.

    Raises
    ------
    Deadlock
        If it waits for something that will never happen.
    Unseen
        If a task or a callback failed that nobody waited for.
    """
    loop = VirtualLoop()
    unseen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: unseen.append(context))
    try:
        with _fixed(seed, loop):
            task = loop.create_task(main())
            try:
                result = loop.run_until_complete(task)
            finally:
                _end(loop)
                del task
    finally:
        loop.close()
    if unseen:
        raise Unseen(unseen[0]["message"]) from unseen[0].get("exception")
    return result


def _end(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
