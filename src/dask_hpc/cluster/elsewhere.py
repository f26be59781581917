"""A head in another process, steered over its control channel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc import errors
from dask_hpc.cluster import pending
from dask_hpc.cluster.dashboard import tunnel_line
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.lending import Lending
from dask_hpc.cluster.steering import known_pool
from dask_hpc.errors import HPCError
from dask_hpc.launch import rendezvous
from dask_hpc.node.head import security_for
from dask_hpc.units import parse_walltime

if TYPE_CHECKING:
    from datetime import timedelta

    from distributed import Security

    from dask_hpc.cluster.known import Known
    from dask_hpc.cluster.report import Report
    from dask_hpc.cluster.view import View
    from dask_hpc.jupyter.reach import Reach, Waiting

#: Seconds that one question for news may last: a thread that waits cannot be cancelled.
_LISTEN = 2.0


class Elsewhere:
    """The same as :class:`~dask_hpc.cluster.steering.Here`.

    Parameters
    ----------
    known
        Which cluster.

    Attributes
    ----------
    cluster
        The same.
    client
        To ask it.
    found
        Where its scheduler is.

    Raises
    ------
    RendezvousError
        If its scheduler file cannot be used, or the head does not answer.
    """

    def __init__(self, known: Known) -> None:
        if known.pending:
            raise pending.unreachable(known.directory)
        self.cluster = known
        self.client = HeadClient(known)
        self.found = rendezvous.read(known.scheduler_file)
        self._view = self.client.view(jobs=False)
        self._turn = asyncio.Lock()
        self._lending = Lending(known)

    def close(self) -> None:
        """Leave it: what this machine ran for its head comes to its end."""
        self._lending.close()

    def security(self) -> Security:
        """What its scheduler is connected to with."""
        return security_for(self.found.tls, insecure=self.found.tls is None)

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools, the cluster's own one first."""
        return tuple(self._view["pools"])

    def scale(self, n: int | Mapping[str, int] | None = None, **words: Any) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.scale`."""
        return self._steer(self.client.scale, n, **words)

    def adapt(self, **words: Any) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.adapt`."""
        return self._steer(self.client.adapt, **words)

    def add_pool(self, name: str, options: Mapping[str, Any]) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.add_pool`."""
        return self._steer(self.client.add_pool, name, options)

    def renew(self, walltime: str | float | timedelta) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.renew`; it may take a minute, which holds up no other."""
        return self._change(self.client.renew, parse_walltime(walltime))

    async def _steer(self, ask: Callable[..., View], *args: Any, **words: Any) -> None:
        async with self._turn:  # in the order of the calls, also of those that nobody awaits
            await self._change(ask, *args, **words)

    async def _change(self, ask: Callable[..., View], *args: Any, **words: Any) -> None:
        self._view = await asyncio.to_thread(ask, *args, **words)

    def view(self, *, jobs: bool = False) -> View:
        """What there is to see."""
        self._view = self.client.view(jobs=jobs)
        return self._view

    @property
    def last(self) -> View:
        """The last that was seen."""
        return self._view

    @property
    def changes(self) -> int:
        """How often anything had changed by then."""
        return self._view["changes"]

    def report(self) -> Report:
        """What it has cost and done."""
        return self.client.report()

    def script(self, pool: str | None = None) -> str:
        """The script that each job of a pool runs."""
        return self.client.script(pool)

    def dashboard(self, *, token: bool) -> str:
        """Link of the dashboard on the head's machine."""
        return self.client.dashboard() if token else self._view["dashboard"]

    def dashboard_help(self) -> str:
        """One line that says how to see it in a browser; it holds the token."""
        host, url = self.cluster.host, self.dashboard(token=True)
        if host == socket.gethostname():
            return tunnel_line(url)
        return tunnel_line(url, host=host, remote=True)

    @property
    def host(self) -> str:
        """Name of the machine where it runs."""
        return self.cluster.host

    async def jupyter(self, **words: Any) -> Reach | Waiting:
        """See :meth:`dask_hpc.cluster.steering.Here.jupyter`."""
        return await asyncio.to_thread(self.client.jupyter, **words)

    async def stop_jupyter(self) -> None:
        """End its JupyterLab, if there is one."""
        await asyncio.to_thread(self.client.stop_jupyter)

    @property
    def directory(self) -> ClusterDirectory:
        """Where its files are."""
        return ClusterDirectory(self.cluster.directory, Path(self._view["log_directory"]))

    def known(self, pool: str | None) -> str:
        """Name of a pool that there is; None is the cluster's own."""
        return known_pool(self.cluster.name, self.pools, pool)

    def workers(self, pool: str | None = None) -> int:
        """Workers (of one pool) that take tasks."""
        pools = self._view["pools"]
        return sum(row["workers"] for name, row in pools.items() if pool in (None, name))

    @property
    def problem(self) -> HPCError | None:
        """Why nothing more is submitted."""
        if not (text := self._view["problem"]):
            return None
        return errors.from_json({"error": self._view["problem_kind"], "message": text})

    async def change(self) -> None:
        """Return when something may have changed."""
        await self._change(self.client.wait, self._view["changes"], _LISTEN, jobs=False)
