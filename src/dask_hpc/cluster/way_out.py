"""A worker that is to go: what is known of its way, and the last step of it.

What the steps are is in :mod:`~dask_hpc.cluster.draining`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import Enum

from distributed import Scheduler
from distributed.active_memory_manager import RetireWorker
from distributed.scheduler import TaskState, WorkerState

#: Seconds that a worker is given to go by itself when it is told to, and how often that is seen to.
_GOES, _LOOKS = 2.0, 100


class Hold(Enum):
    """Why a worker that is to go is kept in service for now."""

    STARTING = "it has only just joined"
    ACTORS = "it holds actors, which cannot move"
    ALONE = "no other worker could take its tasks and results"
    NEEDED = "a computation has its parts on it"  # a shuffle between workers, for one


@dataclass(eq=False)
class Leaving:
    """A worker that is to go.

    Parameters
    ----------
    ws
        The worker.
    deadline
        Seconds since the epoch at which it must have gone, or None.
    """

    ws: WorkerState
    deadline: float | None
    since: float = field(default_factory=time.time)
    hold: Hold | None = None
    stopped: float | None = None  # since when it takes no new tasks
    closing: bool = False  # nothing is left on it, the engine closes it
    over: bool = False  # nothing is left to do: it is gone, or stays
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    asked: set[TaskState] = field(default_factory=set)
    running: set[TaskState] = field(default_factory=set)  # of those, what had begun
    abandoned: bool = False  # a thread of it goes on with a task that was moved
    policy: RetireWorker | None = None
    unfinished: int = 0  # tasks when the policy began


async def cut_off(scheduler: Scheduler, ws: WorkerState, stimulus: str) -> None:
    """Close a worker without waiting for its threads: the engine would, for half a minute.

    Parameters
    ----------
    scheduler
        Its scheduler, which knows it no more afterwards.
    ws
        The worker.
    stimulus
        What this is called in the engine's events and logs.
    """
    scheduler.transitions({ts.key: "released" for ts in ws.processing}, stimulus)
    message = {"op": "close", "reason": stimulus, "executor_wait": False}
    scheduler.worker_send(ws.address, message)
    # One that is removed at once may hear that first, with its next heartbeat, and would wait.
    for _ in range(_LOOKS):
        if scheduler.workers.get(ws.address) is not ws:
            return
        await asyncio.sleep(_GOES / _LOOKS)
    await scheduler.remove_worker(ws.address, stimulus_id=stimulus, expected=True, close=False)
