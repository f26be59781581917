"""The size of a cluster: asked for, followed, waited for; and more time for its head."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from dask_hpc.cluster.lived import Lived
from dask_hpc.control.backoff import DEMAND_INTERVAL
from dask_hpc.errors import HPCError, WorkersTimeout
from dask_hpc.units import parse_walltime

if TYPE_CHECKING:
    from datetime import timedelta

    from dask_hpc.cluster.elsewhere import Elsewhere
    from dask_hpc.cluster.steering import Here


class Sized(Lived):
    """A cluster with jobs that can be more or fewer."""

    @property
    def steering(self) -> Here | Elsewhere:
        """The running head, wherever it is."""
        raise NotImplementedError

    def scale(
        self,
        n: int | Mapping[str, int] | None = None,
        *,
        jobs: int | None = None,
        cores: int | None = None,
        memory: str | int | None = None,
        pool: str | None = None,
    ) -> Any:
        """Want so many workers; whole jobs are submitted or closed to have at least that many.

        Fewer: pending jobs go first; then workers finish their tasks and hand their results over,
        which is not waited for here.  None at all: whatever they do.

        Parameters
        ----------
        n
            Workers; by the name of their pool, ``{"default": 100, "gpu": 4}``, in several pools
            at once.
        jobs
            Jobs.
        cores
            Threads in all.
        memory
            Memory of the workers in all, as bytes or text.
        pool
            Whose size is meant; the others stay as they are.  Default: the cluster's own pool,
            ``"default"``.

        Raises
        ------
        ConfigurationError
            Unless exactly one of the four is given, not negative, and not more than one scheduler
            can hold the connections of; if there is no such pool.
        SubmitRejected
            If the batch system refuses the jobs, in its own words.
        """
        self._check_open()
        return self._do(self.steering.scale(n, jobs=jobs, cores=cores, memory=memory, pool=pool))

    def add_pool(self, name: str, /, **options: Any) -> Any:
        """Have one more kind of jobs; none is submitted before :meth:`scale` or :meth:`adapt`.

        Tasks go to a pool by the resources of its workers: those given here, ``GPU`` where it has
        GPUs, and ``pool-NAME``, as in ``client.submit(f, x, resources={"pool-gpu": 1})``.

        Parameters
        ----------
        name
            Of the pool, in file names and in calls such as ``scale(4, pool="gpu")``.
        **options
            What each of its jobs asks for, as for the cluster, whose own options hold where
            nothing is said.  `resources` (of each worker), `preemptible` and, where the size of
            a job differs, `processes` and the like are not inherited.

        Raises
        ------
        ConfigurationError
            If the name is taken or cannot be used, or an option is unknown, senseless or the
            whole cluster's.
        """
        self._check_open()
        return self._do(self.steering.add_pool(name, options))

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools, the cluster's own one (``"default"``) first."""
        return self.steering.pools

    def _do(self, change: Awaitable[None]) -> Any:
        """Run to the end, or, in an event loop, start at once and give back what can be awaited."""
        if self.called_from_running_loop:
            return asyncio.ensure_future(change)

        async def run() -> None:
            await change

        return self.sync(run)

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
        pool: str | None = None,
    ) -> Any:
        """Have as many jobs as the tasks can use; until the next :meth:`scale` of that pool.

        More jobs are submitted at once; those that wait in the queue count.  Fewer are wanted only
        after some patience, and then only jobs go whose workers have nothing to do.  What the
        batch system refuses is told by the log, ``repr`` and :meth:`wait_for_workers`.

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
            that jobs take until they are of use, between five seconds and ten minutes.
        wait_count
            The engine's way to say `patience`, in intervals.
        pool
            Whose size is meant; the others go on as they do.  Default: the cluster's own pool.

        Raises
        ------
        ConfigurationError
            If the bounds make no sense, or there is no such pool.
        """
        self._check_open()
        words: dict[str, Any] = {
            "minimum": minimum,
            "maximum": maximum,
            "minimum_jobs": minimum_jobs,
            "maximum_jobs": maximum_jobs,
            "minimum_cores": minimum_cores,
            "maximum_cores": maximum_cores,
            "minimum_memory": minimum_memory,
            "maximum_memory": maximum_memory,
            "interval": interval,
            "target_duration": target_duration,
            "patience": patience,
            "wait_count": wait_count,
            "pool": pool,
        }
        given = {word: value for word, value in words.items() if value is not None}
        return self._do(self.steering.adapt(**given))

    def renew(self, walltime: str | float | timedelta) -> Any:
        """Have the job of the head run longer, where the batch system and the site allow it.

        Workers need none of it: their jobs are replaced before their walltime is over.

        Parameters
        ----------
        walltime
            To add to what it has: seconds or text such as ``"2 h"``.

        Raises
        ------
        ConfigurationError
            If the head runs in no job, or the batch system has no command for it.
        BatchSystemError
            If the batch system refuses, in its own words, or has not granted it within a minute:
            the head's own deadline is what the batch system tells afterwards.
        """
        self._check_open()
        return self._do(self.steering.renew(walltime))

    def wait_for_workers(
        self, n_workers: int, timeout: float | str | None = None, *, pool: str | None = None
    ) -> Any:
        """Wait until so many workers have joined.

        Parameters
        ----------
        n_workers
            At least one.
        timeout
            Seconds, or text such as ``"5 min"``; None waits as long as it takes.
        pool
            Count the workers of this pool alone.

        Raises
        ------
        ConfigurationError
            If there is no such pool.
        WorkersTimeout
            If they have not joined in time; it says what is pending and why.
        JobStartError, SubmitRejected
            If no more will join, because jobs fail or are refused.
        """
        self._check_open()
        if pool is None:
            return super().wait_for_workers(n_workers, timeout=timeout)
        return self.sync(self._wait_for_workers, n_workers, timeout, self.steering.known(pool))

    async def _wait_for_workers(
        self, n_workers: int, timeout: float | str | None, pool: str | None = None
    ) -> None:
        seconds = parse_walltime(timeout) if isinstance(timeout, str) else timeout
        steering = self.steering
        try:
            async with asyncio.timeout(seconds):
                while steering.workers(pool) < n_workers:
                    if steering.problem is not None:
                        raise steering.problem
                    await steering.change()
        except TimeoutError:
            raise WorkersTimeout(
                f"{steering.workers(pool)} of {n_workers} workers joined "
                f"{f'pool {pool} of ' if pool else ''}cluster {self.name} in {seconds:g} s; "
                f"jobs: {steering.view()['line']}",
                hint="time in the queue is no failure: wait longer, or ask for less per job",
            ) from None
