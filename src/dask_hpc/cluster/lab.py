"""JupyterLab beside a head: started when its owner asks for it, ended with the head.

It joins what the cluster knows (directory, scheduler, identity) to :mod:`dask_hpc.jupyter`, which
knows the server.  No setting of Jupyter's and no text for people may live here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from pathlib import Path

from distributed.comm import get_address_host
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

from dask_hpc.cluster import certificates
from dask_hpc.cluster.dashboard import GuardedScheduler
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.security import page_certificate
from dask_hpc.errors import ConfigurationError, HPCError
from dask_hpc.jupyter.reach import LOOPBACK, Listen, Reach, default_listen
from dask_hpc.jupyter.server import JupyterServer, check_installed, make_place
from dask_hpc.jupyter.settings import DASHBOARD_SOCKET, Certificate, Settings, usable_root

logger = logging.getLogger("dask_hpc")


class Lab:
    """The JupyterLab of one head, or none.

    Parameters
    ----------
    name
        Of the cluster.
    directory
        Of the cluster.
    scheduler
        Running.
    """

    def __init__(self, name: str, directory: ClusterDirectory, scheduler: GuardedScheduler) -> None:
        self._name = name
        self._directory = directory
        self._scheduler = scheduler
        self._busy = asyncio.Lock()
        self._server: JupyterServer | None = None
        self._reach: Reach | None = None
        self._dashboard: HTTPServer | None = None

    async def open(
        self,
        listen: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        remote: bool = True,
    ) -> Reach:
        """Start the server, or return the one that runs.

        Parameters
        ----------
        listen
            Where; None: as suits `remote`, or wherever it listens already.
        root
            Directory that it shows; None: see :func:`~dask_hpc.jupyter.settings.usable_root`.
        remote
            Whether the browser is on another machine than the head.

        Returns
        -------
        Reach
            How its owner gets there; it holds the token.

        Raises
        ------
        ConfigurationError
            If there is no such place to listen, or another server than this one runs already.
        JupyterError
            If JupyterLab is not installed or does not start.
        """
        wanted = _listen(listen)
        async with self._busy:
            if self._server is not None and self._server.running and self._reach is not None:
                self._check_same(self._reach, wanted)
                return self._reach
            check_installed()
            await self._stop()
            return await self._start(wanted or default_listen(remote=remote), usable_root(root))

    def _check_same(self, reach: Reach, wanted: Listen | None) -> None:
        if wanted not in (None, reach.listen):
            raise ConfigurationError(
                f"JupyterLab of cluster {self._name} runs already, and listens at {reach.listen}",
                hint="stop it first",
            )

    async def _start(self, listen: Listen, root: Path) -> Reach:
        place = await asyncio.to_thread(make_place, self._directory.path)
        try:
            settings = await self._settings(place, listen, root)
            self._show_dashboard(place)
            self._server = JupyterServer(self._name, settings, died=_say)
            self._reach = await self._server.start()
        except BaseException:
            await self._stop()
            shutil.rmtree(place, ignore_errors=True)
            raise
        return self._reach

    async def _settings(self, place: Path, listen: Listen, root: Path) -> Settings:
        certificate, address = None, LOOPBACK
        if listen is not Listen.SOCKET:
            certificate = await asyncio.to_thread(_certificate, place)
        if listen is Listen.NETWORK:
            address = get_address_host(self._scheduler.address)
        return Settings(
            runtime=place,
            root=root,
            scheduler_file=self._directory.scheduler_file,
            token=secrets.token_urlsafe(32),
            dashboard_token=self._scheduler.dashboard_token,
            listen=listen,
            address=address,
            certificate=certificate,
        )

    def _show_dashboard(self, place: Path) -> None:
        """Serve the dashboard at a socket, too, for the server's proxy; it asks for the token."""
        self._dashboard = HTTPServer(self._scheduler.http_application)
        self._dashboard.add_socket(bind_unix_socket(str(place / DASHBOARD_SOCKET), mode=0o600))

    async def close(self) -> None:
        """End the server, its kernels and what they left, if there is one."""
        async with self._busy:
            await self._stop()

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


def _certificate(place: Path) -> Certificate:
    made = page_certificate(place)
    print_of_it = certificates.fingerprint(made)
    return Certificate(str(place / "page.pem"), str(place / "page-key.pem"), print_of_it)


def _say(error: HPCError) -> None:
    logger.error("%s", error)
