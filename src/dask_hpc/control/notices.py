"""What a user who waits for a cluster is told by it: problems, silence, failures, changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from dask_hpc.errors import BatchSystemError, HPCError

logger = logging.getLogger("dask_hpc")

#: Failures that are remembered: what went wrong lately is looked for at the end of the log, too.
FAILURES = 8


class Changes(asyncio.Event):
    """An event that counts how often it was set: who comes later sees whether he missed any.

    Attributes
    ----------
    count
        Times that it was set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def set(self) -> None:
        """Note one more change."""
        self.count += 1
        super().set()


class Notices:
    """The part of a controller that others wait on and read.

    Parameters
    ----------
    wall
        Seconds since the epoch.

    Attributes
    ----------
    problem
        Why nothing more is submitted; None while all goes well.
    unanswered
        What the batch system's silence looked like, while it lasts.
    changed
        Set after every change that a waiting user may care about.
    failures
        The last ones, oldest first: when, in seconds since the epoch, and what went wrong.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.problem: HPCError | None = None
        self.unanswered = ""
        self.changed = Changes()
        self.failures: deque[tuple[float, str]] = deque(maxlen=FAILURES)
        self._told_at = wall

    def report(self, error: HPCError) -> None:
        """Tell whoever waits, and the log, of something that only the user can mend."""
        self.problem = error
        logger.error("%s", error)
        self._remember(error)

    def failed(self, error: HPCError) -> None:
        """Tell the log of a failure that is mended without the user."""
        logger.warning("%s", error)
        self._remember(error)

    def _remember(self, error: HPCError) -> None:
        self.failures.append((self._told_at(), str(error)))
        self.changed.set()

    def silence(self, error: BatchSystemError) -> None:
        """Note that the batch system does not answer: its weather, waited out and told once."""
        if not self.unanswered:
            logger.warning("no answer from the batch system, it is waited for: %s", error)
            self.changed.set()
        self.unanswered = str(error.args[0])
