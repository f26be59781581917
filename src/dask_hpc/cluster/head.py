"""The head: the dask Scheduler and the controller in one event loop.

Starts and ends both, writes the scheduler file, keeps the guardian.  In which process is told it.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from distributed import Scheduler, Security
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import silence_logging_cmgr

from dask_hpc.batch.client import BatchClient
from dask_hpc.batch.errands import Errands
from dask_hpc.batch.runner import run
from dask_hpc.cluster.adaptive import Adaptive, Following
from dask_hpc.cluster.bring_up import command
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.head_deadline import HeadDeadline
from dask_hpc.cluster.head_pools import HeadPools, PoolWorkers
from dask_hpc.cluster.jobs_seen import JobsSeen
from dask_hpc.cluster.joining import HeadScheduler
from dask_hpc.cluster.lab import Lab
from dask_hpc.cluster.lab_job import LabJobs
from dask_hpc.cluster.listening import Listening, listening
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.pools import POOL, pool_of
from dask_hpc.cluster.preemptible import keep_elsewhere
from dask_hpc.cluster.security import engine_security
from dask_hpc.cluster.service import Service
from dask_hpc.cluster.usage import Usage
from dask_hpc.cluster.view import HERE, HeadPlace
from dask_hpc.control.controller import Controller
from dask_hpc.control.demand import Bounds
from dask_hpc.control.heads import myself
from dask_hpc.control.journal import Journal, Remembered, read, remembered
from dask_hpc.control.ports import Place
from dask_hpc.control.reaper import GOODBYE, IN_CHARGE, start_guardian
from dask_hpc.control.revival import write_command
from dask_hpc.drivers.base import Driver
from dask_hpc.errors import BatchSystemError, BatchSystemMissing, HPCError
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles

logger = logging.getLogger("dask_hpc")

#: Seconds for which jobs wait for a head that may come back: three starts from a slow, shared file
#: system.  Their cores idle meanwhile, which is cheaper than another wait in the queue.
AWAIT_HEAD = 300.0

_AT_WORK = (Status.running, Status.init)


class Membership(SchedulerPlugin):
    """Tells the controller which workers join and leave."""

    name = "dask-hpc-membership"

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._names: dict[str, str] = {}

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """See the engine's SchedulerPlugin."""
        self._names[worker] = str(scheduler.workers[worker].name)
        self._controller.worker_joined(self._names[worker])

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: object) -> None:  # noqa: ARG002
        """See the engine's SchedulerPlugin."""
        if (name := self._names.pop(worker, None)) is not None:
            self._controller.worker_left(name)


class Head:
    """A running scheduler and controller.

    Parameters
    ----------
    name
        Of the cluster.
    pools
        What each pool was asked for, by its name; the cluster's own one first.
    driver
        Of the batch system.
    directory
        Claimed for this cluster.
    tls
        Identity of the user, or None for an insecure cluster.
    where
        It runs.
    resume
        Whether it goes on where an earlier head of this directory has died.
    """

    def __init__(
        self,
        *,
        name: str,
        pools: Mapping[str, ClusterOptions],
        driver: Driver,
        directory: ClusterDirectory,
        tls: TLSFiles | None,
        where: HeadPlace = HERE,
        resume: bool = False,
    ) -> None:
        self.name = name
        self.where = where
        self.ready = False  # until what was asked for at first is submitted
        self.options = pools[POOL]
        self.driver = driver
        self.directory = directory
        self.tls = tls
        self.errands = None if where.submits else Errands()
        self.client = BatchClient(driver, self.errands or run)
        self.deadline = HeadDeadline(self)
        # One in its user's process dies with its user's work, and one in a job with its node.
        self._comes_back = where.kind == "detached"
        self.pools = HeadPools(
            directory, driver, await_head=AWAIT_HEAD if self._comes_back else 0.0
        )
        self.opened = time.time()
        self._asked = pools
        self._resume = resume
        self._keeps = False  # whether results are kept out of preemptible pools
        self.scheduler: HeadScheduler
        self.lab: Lab
        self.workers: PoolWorkers
        self.usage: Usage
        self._place: Listening
        self.controller: Controller
        self._journal: Journal
        self._adaptive: Adaptive
        self._watch: asyncio.Task[None]
        self._loop_task: asyncio.Task[None]
        self._guardian: subprocess.Popen[bytes] | None = None

    @property
    def security(self) -> Security:
        """What the cluster's own connections use."""
        return engine_security(self.tls) if self.tls else Security(require_encryption=False)

    async def start(self, service: Service) -> None:
        """Start everything.

        Parameters
        ----------
        service
            The control channel, which is to listen where the scheduler does.

        Raises
        ------
        ConfigurationError
            If the interface does not exist.
        OSError
            If the cluster directory cannot be written.
        """
        for name, options in self._asked.items():
            self.pools.add(name, options)
        wanted = self.options
        self._place = listening(
            wanted.scheduler_interface or wanted.interface,
            wanted.host,
            local=self.driver.name == "local",
        )
        self.scheduler = await HeadScheduler(
            protocol=wanted.scheme,
            security=self.security,
            host=self._place.host,
            port=self.options.scheduler_port,
            dashboard=self.options.dashboard,
            dashboard_address=f"127.0.0.1:{self.options.dashboard_port}",
        )
        service.pages = self.scheduler.http_application.find_page
        try:
            self._start_controller(service.listen(self._place.host))
        except BaseException:
            service.close()
            await self.scheduler.close(reason="the cluster could not start")
            if self._guardian is not None:  # who started us sees to what we were to take over
                await asyncio.to_thread(self._guardian.communicate, GOODBYE)
            raise

    def _start_controller(self, control: int) -> None:
        told = remembered(read(self.directory.journal)) if self._resume else None
        if self._comes_back:
            write_command(self.directory.path, command(self.directory.path, "--resume"))
        self._guardian = start_guardian(
            self.directory.path, restarts=self._comes_back, cancels=self.errands is None
        )
        self._journal = Journal(self.directory.journal)
        self._journal.append("opened", batch=self.driver.name, **myself())
        self._tell_guardian(IN_CHARGE)
        self.workers = PoolWorkers(self.scheduler)
        self.controller = Controller(
            name=self.name,
            pools=self.pools.pools,
            client=self.client,
            journal=self._journal,
            place=Place(self.pools.scripts, self.directory.logs),
            workers=self.workers,
        )
        self.scheduler.on_leaving = self.controller.warned
        self.scheduler.add_plugin(Membership(self.controller))
        record = self.controller.submitter.record
        self.lab = Lab(self.name, self.directory, self.scheduler, LabJobs(self.client, record))
        self.usage = Usage(self.controller)
        self.scheduler.add_plugin(self.usage)
        self._adaptive = Adaptive(self.scheduler, self.controller, self.workers)
        if told is not None:
            self._adopt(told)
        self._keep_results()
        rendezvous.write(
            self.directory.scheduler_file,
            self.scheduler.identity(),
            cluster=self.name,
            owner=getpass.getuser(),
            tls=self.tls,
            others=self._place.other_addresses(self.scheduler),
            control=control,
            batch=self.driver.name,
            head=self.where.kind,
            job=self.where.job or "",
            born=myself()["born"],
        )
        self.scheduler.jobs_seen = JobsSeen(self)
        self._watch = asyncio.create_task(self.scheduler.jobs_seen.watch(), name="dask-hpc jobs")
        self._loop_task = asyncio.create_task(self._live(), name="dask-hpc head")

    def _adopt(self, told: Remembered) -> None:
        """Go on with the jobs of an earlier head, and with what was wanted of them."""
        self.opened = told.opened or self.opened
        self.controller.adopt(self.lab.adopt(told))
        for pool, how in self.controller.adapting.items():
            self._adaptive.follow(pool, Following.resumed(how, self.controller.wanted[pool]))
        logger.warning(
            "cluster %s has a new head, which takes over %d jobs of the earlier one; the tasks that"
            " were under way and the results on its workers are lost: connect and submit again",
            self.name,
            self.controller.ledger.live_jobs(),
        )

    def _tell_guardian(self, word: bytes) -> None:
        assert self._guardian is not None  # noqa: S101  (started first)
        assert self._guardian.stdin is not None  # noqa: S101  (a pipe, by start_guardian)
        with suppress(BrokenPipeError):  # somebody has killed it
            self._guardian.stdin.write(word)
            self._guardian.stdin.flush()

    async def _live(self) -> None:
        """Run the controller for as long as there is a scheduler, and clear up after it."""
        controlling = asyncio.create_task(self._control())
        finished = asyncio.create_task(self.scheduler.finished())
        try:
            await asyncio.wait((controlling, finished), return_when=asyncio.FIRST_COMPLETED)
        finally:
            controlling.cancel()
            finished.cancel()
        if controlling.done() and (error := controlling.exception()) is not None:
            self.controller.give_up(
                f"the controller died of {error!r}: no job is replaced any more"
            )
            logger.critical("the controller died", exc_info=error)
        else:  # Client.shutdown(), or an idle timeout
            self.controller.give_up("its scheduler was shut down: its jobs are cancelled")
            await self.lab.close()
            await self.controller.close(self.options.close_timeout)

    async def _control(self) -> None:
        if self._resume:  # at once: there may be no job left that would have it look
            with suppress(HPCError, OSError):
                await self.controller.scale({})
        await self.controller.run()

    async def add_pool(
        self, name: str, options: ClusterOptions, given: Mapping[str, Any] | None = None
    ) -> None:
        """Have one more pool, with no job yet.

        Parameters
        ----------
        name, options
            Of the pool.
        given
            The user's words (JSON values), by which the next head is to make it again.

        Raises
        ------
        ConfigurationError
            If jobs cannot have so many nodes.
        OSError
            If the cluster directory cannot be written.
        """
        pool = await asyncio.to_thread(self.pools.add, name, options)
        self.controller.wanted[name] = 0  # first: another thread may ask for a report of its pools
        self.controller.pools[name] = pool
        await self.controller.submitter.record("pool", name=name, options=dict(given or {}))
        self._keep_results()

    def _keep_results(self) -> None:
        """See that no result is in preemptible pools alone, once there is one."""
        if self.pools.any_may_go and not self._keeps:
            self._keeps = True
            keep_elsewhere(self.scheduler, self.pools.may_go)

    async def scale(self, jobs: Mapping[str, int]) -> None:
        """Want so many jobs of each pool, whatever the demand; see :meth:`Controller.scale`."""
        self._adaptive.leave(jobs)
        await self.controller.scale(jobs)

    def adapt(self, pool: str, following: Following) -> None:
        """Want as many jobs of a pool as the tasks can use, from now on."""
        self.controller.adapt(pool, following.told())
        self._adaptive.follow(pool, following)

    def adapting(self) -> Mapping[str, Bounds]:
        """Between how many jobs each pool moves that follows its tasks."""
        return self._adaptive.bounds()

    def running_workers(self, pool: str | None = None) -> int:
        """Workers (of one pool) that have joined and take tasks, or are about to."""
        return sum(
            ws.status in _AT_WORK and pool in (None, pool_of(ws.resources))
            for ws in self.scheduler.workers.values()
        )

    async def close(self) -> list[str]:
        """End everything; ids of jobs that are not known to have ended."""
        lab = await self.lab.close()
        self._adaptive.stop()
        self._watch.cancel()
        self._loop_task.cancel()
        with suppress(asyncio.CancelledError):
            await self._loop_task
        self.workers.close()
        # Workers that go on purpose are no warning, whatever results they held for a client.
        with silence_logging_cmgr(logging.ERROR):
            await self.scheduler.see_off()
            await self.scheduler.close(reason="the cluster was closed")
        left = await self.controller.close(await self._patience())
        if self.errands is not None:
            self.errands.close()
        if lab:  # its job needs care still: the journal must not end as one of a closed cluster
            await self.controller.submitter.record("closing")
        self._journal.close()
        assert self._guardian is not None  # noqa: S101  (it has started)
        if left or lab:  # the guardian sees no goodbye and goes on trying to clear them away
            self.directory.scheduler_file.unlink(missing_ok=True)  # those that wait end by that
            assert self._guardian.stdin is not None  # noqa: S101  (a pipe, by start_guardian)
            self._guardian.stdin.close()
            return [*map(str, self.controller.ledger.ids(left)), *lab] or ["(in doubt)"]
        await asyncio.to_thread(self._guardian.communicate, GOODBYE)
        self.directory.clear(keep_logs=self.controller.problem is not None)
        self.controller.changed.set()  # who waits for news has the last, and holds nobody up
        return []

    async def _patience(self) -> float:
        """Seconds to see all jobs gone; none where nobody is there to cancel them for us."""
        if self.errands is not None and (jobs := self.controller.ledger.to_query()):
            try:
                await self.client.query(jobs)
            except BatchSystemMissing:
                self.errands.close()
                return 0.0
            except BatchSystemError:
                pass
        return self.options.close_timeout
