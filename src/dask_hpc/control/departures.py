"""Workers on their way out: each group leaves in a task of its own, while rounds go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial

from dask_hpc.control.backoff import LEAVE_TOGETHER
from dask_hpc.control.ports import Workers
from dask_hpc.control.reconcile import JobKey

logger = logging.getLogger("dask_hpc")


class Departures:
    """Jobs whose workers finish what they can, hand over the rest and close.

    Parameters
    ----------
    workers
        The scheduler's side.
    over
        Called with a job, and whether all its workers have closed.
    """

    def __init__(self, workers: Workers, over: Callable[[JobKey, bool], None]) -> None:
        self._workers = workers
        self._over = over
        self._deadlines: dict[JobKey, float | None] = {}
        self._tasks: dict[JobKey, asyncio.Task[set[str]]] = {}

    def __contains__(self, key: object) -> bool:
        """Whether workers of a job are on their way out."""
        return key in self._tasks

    def begin(
        self, names: Mapping[JobKey, Collection[str]], deadlines: Mapping[JobKey, float]
    ) -> None:
        """Send workers out, those together whose jobs end at about the same time.

        Parameters
        ----------
        names
            Of the workers of each job.
        deadlines
            When each job is ended by force, in seconds since the epoch, where anybody knows.
        """
        for group in _groups(names, deadlines):
            ends = [end for key in group if (end := deadlines.get(key)) is not None]
            deadline = min(ends, default=None)
            mine = {key: names[key] for key in group}
            everyone = {worker for workers in mine.values() for worker in workers}
            leaving = self._workers.retire(everyone, force=False, deadline=deadline)
            task = asyncio.ensure_future(leaving)
            task.add_done_callback(partial(self._done, mine))
            self._tasks.update(dict.fromkeys(group, task))
            self._deadlines.update(dict.fromkeys(group, deadline))

    def _done(self, names: Mapping[JobKey, Collection[str]], task: asyncio.Task[set[str]]) -> None:
        """Tell of each job whether its workers have gone; of a task that never ran as well."""
        left: set[str] | None = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("workers could not be sent out, it is tried again", exc_info=error)
        elif not task.cancelled():
            left = task.result()
        for key, workers in names.items():
            if self._tasks.get(key) is task:  # a job that was requeued may be leaving once more
                del self._tasks[key], self._deadlines[key]
                self._over(key, left is not None and left.issuperset(workers))

    def hurry(self, key: JobKey, deadline: float) -> None:
        """Call off a departure that reckons with more time than there is."""
        end = self._deadlines.get(key)
        if key in self._tasks and (end is None or end > deadline + LEAVE_TOGETHER):
            self._tasks[key].cancel()

    def recall(self, keys: Collection[JobKey]) -> None:
        """Have workers stay after all, and those that leave with them: nobody has gone yet."""
        for key in keys:
            if key in self._tasks:
                self._tasks[key].cancel()

    async def stop(self) -> None:
        """Call all off."""
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _groups(keys: Collection[JobKey], deadlines: Mapping[JobKey, float]) -> list[list[JobKey]]:
    """Jobs whose deadlines are close together, or unknown."""
    groups: list[list[JobKey]] = []
    unknown = [key for key in keys if deadlines.get(key) is None]
    known = sorted((end, key) for key in keys if (end := deadlines.get(key)) is not None)
    first = None
    for end, key in known:
        if first is None or end > first + LEAVE_TOGETHER:
            first = end
            groups.append([])
        groups[-1].append(key)
    return [*groups, unknown] if unknown else groups
