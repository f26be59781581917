"""The JupyterLab of a head: started when its owner asks for it, ended with the head.

It joins what the cluster knows (directory, scheduler, identity) to :mod:`dask_hpc.jupyter`, which
knows the server, or to :mod:`.lab_job`, which has it run elsewhere.  No setting of Jupyter's and no
text for people may live here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed.comm import get_address_host
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

from dask_hpc.cluster.dashboard import GuardedScheduler
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.lab_job import POOL as LAB_POOL
from dask_hpc.cluster.lab_job import LabJob, LabJobs
from dask_hpc.cluster.lab_settings import lab_settings
from dask_hpc.cluster.lone_job import TOPIC
from dask_hpc.control.journal import Recorded, Remembered
from dask_hpc.errors import ConfigurationError, HPCError
from dask_hpc.jupyter.reach import Listen, Reach, Waiting, default_listen
from dask_hpc.jupyter.server import JupyterServer, check_installed, make_place
from dask_hpc.jupyter.settings import DASHBOARD_SOCKET, usable_root
from dask_hpc.model.job import JobSpec

logger = logging.getLogger("dask_hpc")


class Lab:
    """The JupyterLab of one head, or none: beside it, or in a job of its own.

    Parameters
    ----------
    name
        Of the cluster.
    directory
        Of the cluster.
    scheduler
        Running.
    jobs
        How a job is submitted.
    """

    def __init__(
        self, name: str, directory: ClusterDirectory, scheduler: GuardedScheduler, jobs: LabJobs
    ) -> None:
        self._name = name
        self._directory = directory
        self._scheduler = scheduler
        self._jobs = jobs
        self._busy = asyncio.Lock()
        self._server: JupyterServer | None = None
        self._reach: Reach | None = None
        self._dashboard: HTTPServer | None = None
        self._job: LabJob | None = None

    def adopt(self, told: Remembered) -> Remembered:
        """Go on with the job of an earlier head, if it had one.

        Parameters
        ----------
        told
            What the journal tells.

        Returns
        -------
        Remembered
            The same, less that job.
        """
        for each in told.left.values():
            if each.pool == LAB_POOL:
                self._job = self._new_job(each)
        left = {name: each for name, each in told.left.items() if each.pool != LAB_POOL}
        return replace(told, left=left)

    async def open(
        self,
        listen: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        remote: bool = True,
        spec: JobSpec | None = None,
    ) -> Reach | Waiting:
        """Start the server, or return the one that runs.

        Parameters
        ----------
        listen
            Where; None: as suits `remote`, on the network in a job, or wherever it listens already.
        root
            Directory that it shows; None: see :func:`~dask_hpc.jupyter.settings.usable_root`.
        remote
            Whether the browser is on another machine than the head.
        spec
            Of the job to start it in; None: beside the head.

        Returns
        -------
        Reach
            How its owner gets there; it holds the token.
        Waiting
            If its job has not started it yet: ask again.

        Raises
        ------
        ConfigurationError
            If there is no such place to listen, or another server than this one runs already.
        JupyterError
            If JupyterLab is not installed or does not start.
        BatchSystemError
            If the batch system does not take the job.
        """
        wanted = _listen(listen)
        async with self._busy:
            if self._job is not None and self._job.over:
                job, self._job = self._job, None
                if job.error is not None:
                    raise job.error
            if found := self._found(in_job=spec is not None):
                self._check_same(found, wanted)
                return found
            if spec is not None:
                self._job = self._new_job()
                await self._job.submit(spec, wanted or Listen.NETWORK, usable_root(root))
                return self._job.look()
            check_installed()
            await self._stop()
            return await self._start(wanted or default_listen(remote=remote), usable_root(root))

    def _found(self, *, in_job: bool) -> Reach | Waiting | None:
        """What there is already."""
        if self._job is not None:
            return self._job.look()
        if self._server is None or not self._server.running or self._reach is None:
            return None
        if in_job:
            raise ConfigurationError(
                f"JupyterLab of cluster {self._name} runs already, beside the head",
                hint="stop it first",
            )
        return self._reach

    def _check_same(self, there: Reach | Waiting, wanted: Listen | None) -> None:
        if isinstance(there, Reach) and wanted not in (None, there.listen):
            raise ConfigurationError(
                f"JupyterLab of cluster {self._name} runs already, and listens at {there.listen}",
                hint="stop it first",
            )

    def _new_job(self, recorded: Recorded | None = None) -> LabJob:
        return LabJob(self._jobs, self._name, self._directory, warn=self._warn, recorded=recorded)

    def _warn(self, line: str) -> None:
        logger.warning("%s", line)
        self._scheduler.log_event(TOPIC, {"action": "deadline", "msg": line})

    def told(
        self,
        name: str,
        reach: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """Hear from a job of ours; see :meth:`LabJob.told`.

        Parameters
        ----------
        name
            Of the job.
        reach, error
            What it says.

        Returns
        -------
        bool
            Whether it is wanted.
        """
        if self._job is None or self._job.name != name or self._job.over:
            return False
        self._job.told(reach=reach, error=error)
        return True

    async def _start(self, listen: Listen, root: Path) -> Reach:
        place = await asyncio.to_thread(make_place, self._directory.path)
        try:
            settings = await asyncio.to_thread(
                lab_settings,
                place,
                listen=listen,
                root=root,
                scheduler_file=self._directory.scheduler_file,
                address=get_address_host(self._scheduler.address),
                dashboard_token=self._scheduler.dashboard_token,
            )
            self._show_dashboard(place)
            self._server = JupyterServer(self._name, settings, died=_say)
            self._reach = await self._server.start()
        except BaseException:
            await self._stop()
            shutil.rmtree(place, ignore_errors=True)
            raise
        return self._reach

    def _show_dashboard(self, place: Path) -> None:
        """Serve the dashboard at a socket, too, for the server's proxy; it asks for the token."""
        self._dashboard = HTTPServer(self._scheduler.http_application)
        self._dashboard.add_socket(bind_unix_socket(str(place / DASHBOARD_SOCKET), mode=0o600))

    async def close(self) -> list[str]:
        """End the server, its kernels and what they left, if there is one.

        Returns
        -------
        list of str
            The id of its job, if that is not known to have ended.
        """
        async with self._busy:
            await self._stop()
            if self._job is None:
                return []
            left = await self._job.close()
            if not left:
                self._job = None
            return left

    async def _stop(self) -> None:
        if self._dashboard is not None:
            self._dashboard.stop()
            await self._dashboard.close_all_connections()
        if self._server is not None:
            await self._server.stop()
        self._dashboard = self._server = self._reach = None


def _listen(wanted: str | None) -> Listen | None:
    try:
        return None if wanted is None else Listen(wanted)
    except ValueError:
        raise ConfigurationError(
            f"JupyterLab cannot listen at {wanted!r}",
            hint=f"one of {', '.join(map(repr, map(str, Listen)))}",
        ) from None


def _say(error: HPCError) -> None:
    logger.error("%s", error)
