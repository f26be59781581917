"""What a user who waits for a cluster is told by it: problems, silence, changes."""

from __future__ import annotations

import asyncio
import logging

from dask_hpc.errors import BatchSystemError, HPCError

logger = logging.getLogger("dask_hpc")


class Notices:
    """The part of a controller that others wait on and read.

    Attributes
    ----------
    problem
        Why nothing more is submitted; None while all goes well.
    unanswered
        What the batch system's silence looked like, while it lasts.
    changed
        Set after every change that a waiting user may care about.
    """

    def __init__(self) -> None:
        self.problem: HPCError | None = None
        self.unanswered = ""
        self.changed = asyncio.Event()

    def report(self, error: HPCError) -> None:
        """Tell whoever waits, and the log, of something that only the user can mend."""
        self.problem = error
        logger.error("%s", error)
        self.changed.set()

    def silence(self, error: BatchSystemError) -> None:
        """Note that the batch system does not answer: its weather, waited out and told once."""
        if not self.unanswered:
            logger.warning("no answer from the batch system, it is waited for: %s", error)
        self.unanswered = str(error.args[0])
