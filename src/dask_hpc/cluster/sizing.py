"""The size of a cluster: asked for, followed, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from dask.utils import parse_timedelta
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from dask_hpc.cluster import present
from dask_hpc.cluster.joining import check_room
from dask_hpc.cluster.options import jobs_between, jobs_wanted
from dask_hpc.control.backoff import DEMAND_INTERVAL
from dask_hpc.control.demand import Demand
from dask_hpc.errors import HPCError, WorkersTimeout
from dask_hpc.units import parse_walltime

if TYPE_CHECKING:
    from dask_hpc.cluster.head import Head
    from dask_hpc.cluster.options import ClusterOptions


class Sized(Cluster):
    """A cluster with jobs that can be more or fewer."""

    options: ClusterOptions

    @property
    def head(self) -> Head:
        """The running scheduler and controller."""
        raise NotImplementedError

    def scale(
        self,
        n: int | None = None,
        *,
        jobs: int | None = None,
        cores: int | None = None,
        memory: str | int | None = None,
    ) -> Any:
        """Want so many workers; whole jobs are submitted or closed to have at least that many.

        Fewer: pending jobs go first; then workers finish their tasks and hand their results over,
        which is not waited for here.  None at all: whatever they do.

        Parameters
        ----------
        n
            Workers.
        jobs
            Jobs.
        cores
            Threads in all.
        memory
            Memory of the workers in all, as bytes or text.

        Raises
        ------
        ConfigurationError
            Unless exactly one of the four is given, not negative, and not more than one scheduler
            can hold the connections of.
        SubmitRejected
            If the batch system refuses the jobs, in its own words.
        """
        layout = self.options.job_layout
        wanted = jobs_wanted(layout, n=n, jobs=jobs, cores=cores, memory=memory)
        check_room(wanted * layout.workers)
        return self._do(self._scale, wanted)

    async def _scale(self, jobs: int) -> None:
        await self.head.scale(jobs)

    def _do(self, coroutine: Callable[..., Awaitable[None]], *args: Any) -> Any:
        """Run to the end, or, in an event loop, start at once and give back what can be awaited."""
        self._check_open()
        if self.called_from_running_loop:
            return asyncio.ensure_future(coroutine(*args))
        return self.sync(coroutine, *args)

    def _check_open(self) -> None:
        if self.status in (Status.closing, Status.closed):
            raise HPCError(f"cluster {self.name} is {self.status.name}", hint="make a new one")

    def adapt(
        self,
        minimum: int = 0,
        maximum: float | None = None,
        *,
        minimum_jobs: int | None = None,
        maximum_jobs: int | None = None,
        minimum_cores: int | None = None,
        maximum_cores: int | None = None,
        minimum_memory: str | int | None = None,
        maximum_memory: str | int | None = None,
        interval: float | str = DEMAND_INTERVAL,
        target_duration: float | str | None = None,
        patience: float | str | None = None,
        wait_count: int | None = None,
    ) -> Any:
        """Have as many jobs as the tasks can use; until the next :meth:`scale`.

        More jobs are submitted at once; those that wait in the queue count.  Fewer are wanted only
        after some patience, and then only jobs go whose workers have nothing to do.

        Parameters
        ----------
        minimum, maximum
            Workers; rounded to whole jobs, the maximum down.
        minimum_jobs, maximum_jobs, minimum_cores, maximum_cores, minimum_memory, maximum_memory
            The same in jobs, threads or memory, instead.
        interval
            Time between two looks at the tasks.
        target_duration
            How soon the work at hand should be done; None takes the engine's setting.
        patience
            For how long fewer jobs must be enough before any is given up; None follows the time
            that jobs wait in the queue, between half a minute and ten minutes.
        wait_count
            The engine's way to say `patience`, in intervals.

        Raises
        ------
        ConfigurationError
            If the bounds make no sense.
        SubmitRejected
            If the batch system refuses the first jobs, in its own words.
        """
        layout = self.options.job_layout
        bounds = jobs_between(
            layout,
            least={
                "n": minimum or None,
                "jobs": minimum_jobs,
                "cores": minimum_cores,
                "memory": minimum_memory,
            },
            most={
                "n": maximum,
                "jobs": maximum_jobs,
                "cores": maximum_cores,
                "memory": maximum_memory,
            },
        )
        check_room(max(bounds.minimum, bounds.maximum or 0) * layout.workers)
        every = parse_timedelta(interval)
        waits = None if wait_count is None else wait_count * every
        return self._do(
            self._adapt,
            Demand(bounds, waits if patience is None else parse_timedelta(patience)),
            every,
            None if target_duration is None else parse_timedelta(target_duration),
        )

    async def _adapt(self, demand: Demand, interval: float, duration: float | None) -> None:
        self.head.adapt(demand, interval=interval, target_duration=duration)

    def wait_for_workers(self, n_workers: int, timeout: float | str | None = None) -> Any:
        """Wait until so many workers have joined.

        Parameters
        ----------
        n_workers
            At least one.
        timeout
            Seconds, or text such as ``"5 min"``; None waits as long as it takes.

        Raises
        ------
        WorkersTimeout
            If they have not joined in time; it says what is pending and why.
        JobStartError, SubmitRejected
            If no more will join, because jobs fail or are refused.
        """
        self._check_open()
        return super().wait_for_workers(n_workers, timeout=timeout)

    async def _wait_for_workers(self, n_workers: int, timeout: float | str | None) -> None:
        seconds = parse_walltime(timeout) if isinstance(timeout, str) else timeout
        controller = self.head.controller
        try:
            async with asyncio.timeout(seconds):
                while self.head.running_workers() < n_workers:
                    if controller.problem is not None:
                        raise controller.problem
                    controller.changed.clear()
                    await controller.changed.wait()
        except TimeoutError:
            raise WorkersTimeout(
                f"{self.head.running_workers()} of {n_workers} workers joined cluster {self.name} "
                f"in {seconds:g} s; jobs: {present.jobs_line(controller)}",
                hint="time in the queue is no failure: wait longer, or ask for less per job",
            ) from None
