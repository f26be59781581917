"""HPCCluster: what a user holds in a script or a notebook.  Its named forms are in `named`."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar

from distributed.core import Status, rpc
from distributed.utils import Log, Logs

from dask_hpc.cluster.bring_up import Bringing, checked_place
from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.directory import ClusterDirectory, claim
from dask_hpc.cluster.elsewhere import Elsewhere
from dask_hpc.cluster.head import Head
from dask_hpc.cluster.joining import check_room
from dask_hpc.cluster.known import Known
from dask_hpc.cluster.notebooks import Notebooks
from dask_hpc.cluster.options import check_name, warn_insecure
from dask_hpc.cluster.planning import candidates, with_first
from dask_hpc.cluster.pools import POOL
from dask_hpc.cluster.report import Report, keep, summary
from dask_hpc.cluster.request import understand
from dask_hpc.cluster.security import ensure_identity
from dask_hpc.cluster.service import Service
from dask_hpc.cluster.shown import Shown
from dask_hpc.cluster.sizes import jobs_wanted
from dask_hpc.cluster.steering import Here, operations
from dask_hpc.cluster.view import HERE, HeadPlace
from dask_hpc.control.shapes import Plan
from dask_hpc.errors import HPCError

logger = logging.getLogger("dask_hpc")


class HPCCluster(Shown, Notebooks):
    """A Dask cluster whose workers are jobs of a batch system.

    Parameters
    ----------
    site
        Name of the machine (``dask-hpc site list``): its profile gives defaults.
    batch
        Name of the batch system (``"slurm"``, ``"local"``), or None for the one this machine has.
    name
        Of the cluster; its directory and its jobs are called so.  Default: a random one.
    n_workers
        Workers to ask for at once; see :meth:`scale`.
    shapes
        What else jobs may be: each a mapping with some of ``cores, memory, walltime, queue,
        account``.  The batch system is asked when which would start, and the best is taken for all
        jobs; `shape_plan` says why (docs/shapes.md).
    head
        Where the scheduler and what looks after the jobs run: ``"here"``, in this process, and end
        with it; ``"detached"``, in a process of their own on this machine, which goes on when this
        one, the notebook or the login ends, until :meth:`shutdown`; or ``"job"``, in a small job of
        their own (docs/outliving.md).
    head_options
        What that job asks for, in the same words as the others; one core and 4 GiB unless it says
        else, and otherwise as the workers' jobs.  Besides, ``submits``: False where jobs may not be
        submitted from its node.
    asynchronous
        Whether it is used from a running event loop, with ``await``.
    loop
        The engine's event loop to run in.
    silence_logs
        Level below which the engine's own log is not shown.
    **options
        What each job asks for, in dask-jobqueue's words (docs/compatibility.md): ``cores, memory,
        processes, gpus, nodes, launcher, walltime, queue, account, job_extra_directives,
        job_directives_skip, job_script_prologue, job_script_epilogue, shebang, python,
        log_directory, interface, scheduler_interface, host, scheduler_port, protocol,
        local_directory, scratch, spill, death_timeout, fork_preload, bind, worker_extra_args,
        resources, preemptible, dashboard, dashboard_port, insecure, close_timeout``; what the batch
        system alone knows; and ``pools``, which has the options of each further pool by its name,
        see :meth:`add_pool`.  The configuration (``dask-hpc``) gives defaults.

    Raises
    ------
    ConfigurationError
        If an option is unknown, missing or senseless; nothing was submitted then.
    ClusterDirectoryError, IdentityError
        If the cluster directory or the TLS identity cannot be trusted.

    Examples
    --------
    >>> from dask_hpc import HPCCluster
    >>> with HPCCluster(cores=8, memory="16 GiB", walltime="1 h") as cluster:  # doctest: +SKIP
    ...     cluster.scale(jobs=4)
    ...     client = cluster.get_client()
    """

    batch: ClassVar[str | None] = None
    where: HeadPlace = HERE
    resume = force = False  # how the directory is claimed
    _find: Callable[[], Known] | None

    def __init__(
        self,
        site: str | None = None,
        *,
        batch: str | None = None,
        name: str | None = None,
        n_workers: int = 0,
        shapes: Sequence[Mapping[str, Any]] = (),
        head: str = "here",
        head_options: Mapping[str, Any] | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        silence_logs: int | str = logging.WARNING,
        **options: Any,
    ) -> None:
        self.status = Status.closed  # what __del__ looks at, should anything below raise
        where = checked_place(head)
        keywords, others = with_first(options, shapes)
        request = understand(keywords, batch=batch, fixed=self.batch, site=site)
        self.driver, self.options = request.driver, request.options
        self._request, self._pools = request, {POOL: request.options}
        for each, asked in request.pools.items():
            self._pools[each] = request.pool(each, asked, self._pools)
        self.shape_plan: Plan | None = None
        self._candidates = candidates(request, others) if shapes else None
        if self.options.insecure:
            warn_insecure()
        self.close_timeout = self.options.close_timeout
        self._n_workers = n_workers
        self._ask_first = jobs_wanted(self.options.job_layout, n=n_workers)
        check_room(self._ask_first * self.options.job_layout.workers)
        called = check_name(name or f"{request.prefix}-{secrets.token_hex(3)}")
        words = {"site": site, "batch": batch or self.batch, "shapes": list(shapes), **options}
        self._find = (
            None
            if where == "here"
            else Bringing(words, called, n_workers, where, head_options or {})
        )
        self._live_as(called, asynchronous=asynchronous, loop=loop, silence_logs=silence_logs)

    def _live_as(self, name: str, **options: Any) -> None:
        self._steering: Here | Elsewhere | None = None
        self._service: Service | None = None
        super().__init__(name=name, **options)
        self._live()

    # -- life -------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        if self._find is not None:
            known = await asyncio.to_thread(self._find)
            elsewhere = await asyncio.to_thread(Elsewhere, known)
            self._steering, self.security = elsewhere, elsewhere.security()
            self._connect(elsewhere.found.address)
            return
        if self._candidates is not None:
            self.options, self.shape_plan = await self._candidates.choose(self._n_workers)
            self._pools[POOL] = self.options
            self._ask_first = jobs_wanted(self.options.job_layout, n=self._n_workers)
        head = await self._start_head()
        self.security = head.security
        self._connect(head.scheduler.address)

    def _connect(self, address: str) -> None:
        self.scheduler_comm = rpc(
            address, connection_args=self.security.get_connection_args("client")
        )

    async def _begun(self) -> None:
        if self._find is None:
            if self._ask_first and not self.resume:
                await self.steering.scale(jobs=self._ask_first)
            self.head.ready = True

    async def _start_head(self) -> Head:
        identity = await asyncio.to_thread(ensure_identity)
        tls = None if self.options.insecure else identity
        if tls is not None:
            await asyncio.to_thread(name_in_dask_config, tls)
        logs, how = self.options.log_directory, {"resume": self.resume, "force": self.force}
        directory = await claim(self.name, log_directory=logs, **how)
        try:
            head = Head(
                name=self.name,
                pools=self._pools,
                driver=self.driver,
                directory=directory,
                tls=tls,
                where=self.where,
                resume=self.resume,
            )
            here = Here(head, self._request, self._pools)
            self._service = Service(operations(here, self.finish), identity)
            await head.start(self._service)
        except BaseException:
            directory.clear(keep_logs=False)
            raise
        self._steering = here
        return head

    async def _finish(self) -> None:
        if isinstance(self._steering, Elsewhere):
            await asyncio.to_thread(self._steering.close)
        if not isinstance(self._steering, Here):
            return
        left = await self.head.close()
        if self._service is not None:
            self._service.close()
        await self._keep_account()
        if left:
            then = "cancelled as soon as it answers" if self.where.submits else "of no use any more"
            logger.error(
                "jobs %s of cluster %s may be left in the queue: the batch system did not "
                "confirm; they are %s",
                *(", ".join(left), self.name, then),
            )

    async def _keep_account(self) -> None:
        account = self.report()
        logger.info("cluster %s: %s", self.name, summary(account["total"]))
        if account["jobs_submitted"]:
            try:
                await asyncio.to_thread(keep, account)
            except (OSError, HPCError) as error:  # the cluster has ended well all the same
                logger.warning("the account of cluster %s is not kept: %s", self.name, error)

    async def answered(self) -> None:
        """Wait, for a moment, until whoever ended the cluster from elsewhere has been told so."""
        if self._service is not None:
            await self._service.answered()

    @property
    def steering(self) -> Here | Elsewhere:
        """The running head, wherever it is."""
        if self._steering is None:
            raise HPCError(f"cluster {self.name} has not started", hint="await it first")
        return self._steering

    @property
    def head(self) -> Head:
        """The running scheduler and controller, where they are in this process.

        Raises
        ------
        HPCError
            If they are not, or not yet.
        """
        if isinstance(self.steering, Here):
            return self.steering.head
        raise HPCError(f"the head of cluster {self.name} runs in another process")

    # -- what there is to see ---------------------------------------------------------------------

    def job_script(self, pool: str | None = None) -> str:
        """The script that each job of a pool runs; default: of the cluster's own."""
        return self.steering.script(pool)

    @property
    def directory(self) -> ClusterDirectory:
        """Where its files are."""
        return self.steering.directory

    @property
    def log_directory(self) -> str:
        """Directory of the jobs' logs."""
        return str(self.directory.logs)

    @property
    def scheduler_file(self) -> str:
        """Path of the scheduler file: ``Client(scheduler_file=...)`` connects from anywhere."""
        return str(self.directory.scheduler_file)

    @property
    def dashboard_link(self) -> str:
        """Address of the dashboard on the head's machine, without the token that opens it."""
        running = self.status is Status.running
        return self.steering.dashboard(token=False) if running else ""

    @property
    def dashboard_help(self) -> str:
        """One line that says how to see the dashboard in a browser; it holds the secret token."""
        return self.steering.dashboard_help()

    def shutdown(self) -> Any:
        """End the cluster, whoever else takes part in it: its jobs, its head.

        :meth:`close` does the same where this object started it in this process; elsewhere it only
        leaves the cluster.
        """
        if isinstance(self._steering, Elsewhere):
            return self._do(self._shut_down(self._steering))
        return self.close()

    async def _shut_down(self, elsewhere: Elsewhere) -> None:
        await asyncio.to_thread(elsewhere.client.shutdown)
        await self.finish()

    def report(self) -> Report:
        """What the cluster has cost and done so far.

        Returns
        -------
        Report
            A dict that prints as a few lines of text.  ``pools`` (by name) and ``total`` hold
            ``core_hours`` (``allocated``, ``used``, ``idle``, ``lost``), ``jobs`` (counts by what
            became of them) and ``wait_seconds``, each pool also the jobs ``wanted`` and ``running``
            and its ``workers``; docs/accounting.md explains them.  Beside them
            ``jobs_submitted``, ``core_seconds`` (allocated in all), ``tasks_rerun``, ``keys_lost``
            and ``commands`` (run, by name).
        """
        return self.steering.report()

    def get_logs(
        self,
        cluster: bool = True,  # noqa: FBT001, FBT002  (the engine's signature)
        scheduler: bool = True,  # noqa: FBT001, FBT002
        workers: bool = True,  # noqa: FBT001, FBT002
        jobs: bool = True,  # noqa: FBT001, FBT002
        *,
        pool: str | None = None,
    ) -> Any:
        """Logs of the scheduler, of the workers and of the jobs.

        Parameters
        ----------
        cluster, scheduler, workers
            As in the engine.
        jobs
            Whether to read the jobs' log files; each is named by its path.
        pool
            Of the jobs' logs, those of this pool alone.

        Returns
        -------
        distributed.utils.Logs
            Text by name.

        Raises
        ------
        ConfigurationError
            If there is no such pool.
        """
        only = None if pool is None else self.steering.known(pool)
        which = {"cluster": cluster, "scheduler": scheduler, "workers": workers}
        return self.sync(self._get_logs, jobs=jobs, pool=only, **which)

    async def _get_logs(self, *, jobs: bool = True, pool: str | None = None, **which: bool) -> Logs:
        logs = await super()._get_logs(**which)
        if jobs:
            texts = await asyncio.to_thread(self.directory.read_logs, self.name, pool)
            logs.update({path: Log(text) for path, text in texts.items()})
        return logs

    @classmethod
    def attach(
        cls,
        what: str | PathLike[str],
        *,
        asynchronous: bool = False,
        loop: Any = None,
        silence_logs: int | str = logging.WARNING,
    ) -> HPCCluster:
        """Take part in a cluster of yours that runs, from any process, notebook or node.

        Parameters
        ----------
        what
            Its name, the path of its scheduler file, or one of its jobs as in ``"slurm:1234"``.
        asynchronous, loop, silence_logs
            As of the class.

        Returns
        -------
        HPCCluster
            All methods work; closing it leaves the cluster running, :meth:`shutdown` ends it.

        Raises
        ------
        UnknownCluster
            If you have no such cluster.
        RendezvousError
            If its head does not answer.

        Examples
        --------
        >>> from dask_hpc import HPCCluster
        >>> cluster = HPCCluster.attach("analysis")  # doctest: +SKIP
        >>> client = cluster.get_client()  # doctest: +SKIP
        """
        from dask_hpc.cluster.attached import AttachedCluster

        return AttachedCluster(
            what, asynchronous=asynchronous, loop=loop, silence_logs=silence_logs
        )
