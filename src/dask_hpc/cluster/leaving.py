"""The scheduler of a head, as workers are taken from it and given back: told ahead, and come again.

What a supervisor says at a signal is in :mod:`dask_hpc.node.leaving`; what the head makes of it, in
whatever sets `on_leaving`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from distributed.comm import Comm

from dask_hpc.cluster.dashboard import GuardedScheduler
from dask_hpc.model.joining import LEAVING

logger = logging.getLogger("dask_hpc")

#: Workers remembered after they went: as many as may go within a heartbeat or two.
_SEEN_OFF = 1000
#: Seconds in which a worker that lives has answered, whatever it computes.
_ALIVE = 5.0


class LeavingScheduler(GuardedScheduler):
    """A scheduler that hears of workers that must go, and takes in those of a job that came back.

    Parameters
    ----------
    options
        See :class:`~dask_hpc.cluster.dashboard.GuardedScheduler`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.handlers[LEAVING] = self._leaving
        #: Called with the names of workers and the seconds until they close.
        self.on_leaving: Callable[[Collection[str], float], None] | None = None
        self._seen_off: deque[str] = deque(maxlen=_SEEN_OFF)

    async def _leaving(self, workers: Collection[str], grace: float) -> int | None:
        """How many of these addresses are workers here that somebody sees off now.

        None where nobody does, so that whoever asks has the engine retire them.
        """
        if self.on_leaving is None:
            return None
        names = [str(self.workers[each].name) for each in workers if each in self.workers]
        if names:
            self.on_leaving(names, grace)
        return len(names)

    async def add_worker(self, comm: Comm, *, name: object, **registration: Any) -> None:
        """Register a worker, as the engine does, but in the place of a namesake that is dead.

        A job that is requeued comes back under its id, so with the same workers; of a node that
        failed the engine still waits for the old ones to speak, and would refuse the new.
        """
        old = self.aliases.get(name)
        if old is not None and not await self._lives(old):
            logger.warning("worker %s has come back: what it was at %s is dead", name, old)
            await self.remove_worker(old, stimulus_id="dask-hpc-came-back", expected=True)
        await super().add_worker(comm, name=name, **registration)

    async def remove_worker(self, address: str, *, expected: bool = False, **options: Any) -> Any:
        """Remove a worker, as the engine does, and remember those that go on purpose."""
        if expected:
            self._seen_off.append(address)
        return await super().remove_worker(address, expected=expected, **options)

    def heartbeat_worker(self, *, address: str, **told: Any) -> Any:
        """Take a heartbeat; one that was on its way as its worker was seen off is no warning."""
        if address not in self.workers and address in self._seen_off:
            return {"status": "missing"}
        return super().heartbeat_worker(address=address, **told)

    async def _lives(self, address: str) -> bool:
        try:
            async with asyncio.timeout(_ALIVE):
                await self.rpc(address).identity()
        except OSError:
            return False
        return True
