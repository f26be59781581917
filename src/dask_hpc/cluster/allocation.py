"""A cluster in a job that exists already: its scheduler in this process, workers on its nodes.

Nothing is submitted and nothing is replaced: the job has what it has.  How its nodes are reached is
the table of :mod:`dask_hpc.launch.launchers`.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import re
import secrets
from typing import Any

import dask.config
from distributed import Security
from distributed.core import Status, rpc
from distributed.utils import silence_logging_cmgr

from dask_hpc.cluster.allocation_crew import Crew, script_text
from dask_hpc.cluster.dashboard import tunnel_line
from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.directory import ClusterDirectory, claim
from dask_hpc.cluster.joining import Comings, HeadScheduler, check_room
from dask_hpc.cluster.listening import listening
from dask_hpc.cluster.lived import Lived
from dask_hpc.cluster.options import ClusterOptions, check_name, warn_insecure
from dask_hpc.cluster.place import Allocation
from dask_hpc.cluster.pools import job_environment, memory_environment
from dask_hpc.cluster.portable import workers_on
from dask_hpc.cluster.security import engine_security, ensure_identity
from dask_hpc.errors import ConfigurationError, HPCError, JobStartError, WorkersTimeout
from dask_hpc.launch import rendezvous
from dask_hpc.node import limits, own_settings
from dask_hpc.units import parse_walltime

logger = logging.getLogger("dask_hpc")

_AT_WORK = (Status.running, Status.init)


class AllocationCluster(Lived):
    """A Dask cluster on the nodes of the job that this process is in.

    Parameters
    ----------
    allocation
        The job.
    options
        Of the cluster; what they say of a job's size divides the nodes' cores among workers.
    name
        Of the cluster and its directory.
    asynchronous
        Whether it is used from a running event loop, with ``await``.
    silence_logs
        Level below which the engine's own log is not shown.

    Raises
    ------
    ConfigurationError
        If nothing says how the other nodes are reached.
    ClusterDirectoryError, IdentityError
        If the cluster directory or the TLS identity cannot be trusted.
    """

    def __init__(
        self,
        allocation: Allocation,
        options: ClusterOptions,
        *,
        name: str | None = None,
        asynchronous: bool = False,
        silence_logs: int | str = logging.WARNING,
    ) -> None:
        self.status = Status.closed  # what __del__ looks at, should anything below raise
        self.allocation = allocation
        self.options = options
        self.close_timeout = options.close_timeout
        self.cores = allocation.cores or limits.cores(limits.look()).amount
        self.workers = workers_on(self.cores, options)
        if options.insecure:
            warn_insecure()
        self.problem: HPCError | None = None
        self._scheduler: HeadScheduler | None = None
        self.directory: ClusterDirectory | None = None
        self._comings = Comings("dask-hpc-allocation")
        self._crew: Crew | None = None
        self._watching: asyncio.Task[None] | None = None
        super().__init__(
            silence_logs=silence_logs,
            asynchronous=asynchronous,
            name=check_name(name or _name(allocation)),
        )
        self._live()

    # -- life -------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        tls = None
        if not self.options.insecure:
            tls = await asyncio.to_thread(ensure_identity)
            await asyncio.to_thread(name_in_dask_config, tls)
        self.security = engine_security(tls) if tls else Security(require_encryption=False)
        self.directory = await claim(self.name, log_directory=self.options.log_directory)
        others = await self._start_scheduler()
        rendezvous.write(
            self.directory.scheduler_file,
            self.scheduler.identity(),
            cluster=self.name,
            owner=getpass.getuser(),
            tls=tls,
            others=others,
        )
        await self._start_workers(self.directory)
        self.scheduler_comm = rpc(
            self.scheduler.address,
            connection_args=self.security.get_connection_args("client"),
        )

    async def _start_scheduler(self) -> list[str]:
        """Start it; its other addresses."""
        check_room(self.allocation.nodes * self.workers)
        wanted = self.options
        place = listening(wanted.scheduler_interface or wanted.interface, wanted.host)
        self._scheduler = await HeadScheduler(
            protocol=wanted.scheme,
            security=self.security,
            host=place.host,
            port=wanted.scheduler_port,
            dashboard=wanted.dashboard,
            dashboard_address=f"127.0.0.1:{wanted.dashboard_port}",
        )
        self.scheduler.add_plugin(self._comings)
        return place.other_addresses(self._scheduler)

    async def _start_workers(self, directory: ClusterDirectory) -> None:
        self._crew = Crew(self.name, self.options, directory)
        text = script_text(
            self.allocation,
            self.options,
            name=self.name,
            directory=directory,
            cores=self.cores,
            workers=self.workers,
            environment=job_environment(
                dask.config.get("distributed.nanny.pre-spawn-environ"), os.environ
            )
            | memory_environment(own_settings.changed()),
        )
        await self._crew.start(text, here=self.allocation.nodes == 1 and self.allocation.inside)
        self._watching = asyncio.create_task(self._watch(self._crew), name="dask-hpc allocation")

    async def _watch(self, crew: Crew) -> None:
        """Nobody replaces workers that end together with their supervisors: say so."""
        code = await crew.ended()
        words = await asyncio.to_thread(crew.last_words)
        self.problem = JobStartError(
            f"the workers in {self.allocation} have ended (exit code {code}){words}",
            hint=f"their logs are in {self.log_directory}",
        )
        self._comings.changed.set()
        if self.status is Status.running:
            logger.error("%s", self.problem)
            # With neither workers nor hope of any, whoever waits for a result would wait for ever.
            await self.scheduler.close(reason="all workers have ended")

    async def _finish(self) -> None:
        if self._scheduler is not None:
            # Workers that go on purpose are no warning.
            with silence_logging_cmgr(logging.ERROR):
                await self.scheduler.see_off()
                await self.scheduler.close(reason="the cluster was closed")
        if self._crew is not None:
            await self._crew.end(self.options.close_timeout)
        if self.directory is not None:
            self.directory.clear(keep_logs=self.problem is not None)

    async def _end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super()._end()

    @property
    def scheduler(self) -> HeadScheduler:
        """The running scheduler."""
        if self._scheduler is None:
            raise HPCError(f"cluster {self.name} has not started", hint="await it first")
        return self._scheduler

    # -- size and sight ---------------------------------------------------------------------------

    def scale(self, *_: Any, **__: Any) -> Any:
        """Refuse: a job that runs has the nodes that it has."""
        raise ConfigurationError(
            f"this cluster is {self.allocation}, which does not grow",
            hint='connect(where="batch") submits jobs instead',
        )

    adapt = scale

    async def _wait_for_workers(self, n_workers: int, timeout: float | str | None) -> None:
        seconds = parse_walltime(timeout) if isinstance(timeout, str) else timeout
        try:
            async with asyncio.timeout(seconds):
                while (joined := self._joined()) < n_workers:
                    if self.problem is not None:
                        raise self.problem
                    self._comings.changed.clear()
                    await self._comings.changed.wait()
        except TimeoutError:
            raise WorkersTimeout(
                f"{joined} of {n_workers} workers joined in {self.allocation} in {seconds:g} s",
                hint=f"their logs are in {self.log_directory}",
            ) from None

    def _joined(self) -> int:
        return sum(each.status in _AT_WORK for each in self.scheduler.workers.values())

    @property
    def expected(self) -> int:
        """Workers when all have joined."""
        return self.allocation.nodes * self.workers

    @property
    def log_directory(self) -> str:
        """Directory of the workers' logs."""
        return str(self.directory.logs) if self.directory else ""

    @property
    def scheduler_file(self) -> str:
        """Path of the scheduler file: ``Client(scheduler_file=...)`` connects from anywhere."""
        return str(self.directory.scheduler_file) if self.directory else ""

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard on this machine, without the token that opens it."""
        running = self.status is Status.running
        return str(self.scheduler.dashboard_url(token=False)) if running else ""

    @property
    def dashboard_help(self) -> str:
        """One line that says how to see the dashboard in a browser; it holds the secret token."""
        return tunnel_line(self.scheduler.dashboard_url(token=True))


def _name(allocation: Allocation) -> str:
    job = re.sub(r"[^A-Za-z0-9_.]", "_", allocation.job.partition(".")[0])[:16]
    return f"{allocation.batch}-{job or 'job'}-{secrets.token_hex(3)}"
