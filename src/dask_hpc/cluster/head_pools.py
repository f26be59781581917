"""The pools of a head: what each job of them runs, its script, and which of them may go.

How many jobs there are is the controller's business.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dask.config

from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.pools import (
    job_environment,
    label,
    memory_environment,
    pool_for,
    pool_of,
)
from dask_hpc.cluster.workers import SchedulerWorkers
from dask_hpc.drivers.base import Driver
from dask_hpc.drivers.script import job_script
from dask_hpc.launch import rendezvous
from dask_hpc.node import own_settings

if TYPE_CHECKING:
    from distributed.scheduler import WorkerState

    from dask_hpc.cluster.lasting import LastingScheduler
    from dask_hpc.cluster.options import ClusterOptions
    from dask_hpc.model.pool import Pool


class HeadPools:
    """The pools of one cluster.

    All their jobs start where, and with the variables that, the user has at this moment.

    Parameters
    ----------
    directory
        Of the cluster: the scripts go there.
    driver
        Of the batch system.
    await_head
        Seconds for which jobs wait for another head, should they lose theirs.

    Attributes
    ----------
    pools, scripts
        Each pool, and the path of its script, by its name.
    """

    def __init__(
        self, directory: ClusterDirectory, driver: Driver, *, await_head: float = 0.0
    ) -> None:
        self.pools: dict[str, Pool] = {}
        self.scripts: dict[str, Path] = {}
        self._directory = directory
        self._driver = driver
        self._await_head = await_head
        self._here = _here()
        self._environment = job_environment(
            dask.config.get("distributed.nanny.pre-spawn-environ"), os.environ
        ) | memory_environment(own_settings.changed())

    def add(self, name: str, options: ClusterOptions) -> Pool:
        """Have one more pool, and write its script.

        Raises
        ------
        ConfigurationError
            If jobs cannot have so many nodes.
        OSError
            If the cluster directory cannot be written.
        """
        path = self._directory.script(name)
        pool = pool_for(
            options,
            name=name,
            labels=label(name),
            scheduler_file=self._directory.scheduler_file,
            logs=self._directory.logs,
            environment=self._environment,
            directory=self._here,
            batch=self._driver.name,
            script=path,
            await_head=self._await_head,
        )
        rendezvous.write_atomically(path, job_script(pool.spec, self._driver))
        self.pools[name], self.scripts[name] = pool, path
        return pool

    def script(self, name: str) -> str:
        """Text of the script that each job of a pool runs."""
        return job_script(self.pools[name].spec, self._driver)

    @property
    def any_may_go(self) -> bool:
        """Whether there is a pool whose jobs may be taken away at any moment."""
        return any(pool.preemptible for pool in self.pools.values())

    def may_go(self, worker: WorkerState) -> bool:
        """Whether a worker is in such a pool."""
        pool = self.pools.get(pool_of(worker.resources) or "")
        return pool is not None and pool.preemptible


class PoolWorkers(SchedulerWorkers):
    """The controller's view of the workers of several pools.

    Attributes
    ----------
    lent
        Names of workers that work for another pool: they need not be spared by their own.
    """

    def __init__(self, scheduler: LastingScheduler) -> None:
        super().__init__(scheduler)
        self.lent: Collection[str] = ()

    def busy(self) -> Collection[str]:
        """Names of the workers with tasks of their own pool."""
        return set(super().busy()).difference(self.lent)


def _here() -> Path | None:
    """The working directory; None where it was removed under our feet."""
    with suppress(FileNotFoundError):
        return Path.cwd()
    return None
