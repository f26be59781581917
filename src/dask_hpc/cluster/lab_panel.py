"""The clusters of this user in the panel of JupyterLab's extension for dask (dask-labextension).

A Jupyter server extension, loaded where both are installed; what it does there costs nothing where
the other is missing.  The panel, its buttons and the pages are the other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

if TYPE_CHECKING:
    from dask_hpc.cluster.hpc_cluster import HPCCluster

logger = logging.getLogger(__name__)

#: Seconds between two looks at which clusters there are.
_EVERY = 5.0
_PANEL = "dask_labextension"


class Panel:
    """Keeps the list of the extension's manager true.

    The manager has no way to be given a cluster that runs already: its `_clusters` and
    `_cluster_names` are its own, and used here alone.

    Parameters
    ----------
    manager
        The extension's ``DaskClusterManager``.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        #: What opens the dashboards on this machine, by cluster id.
        self.tokens: dict[str, str] = {}

    async def keep(self) -> None:
        """Look again and again."""
        while True:
            try:
                await self.refresh()
            except Exception:  # whatever it is, the panel's own clusters must go on
                logger.exception("the list of clusters could not be brought up to date")
            await asyncio.sleep(_EVERY)

    async def refresh(self) -> None:
        """Add clusters that have come, drop those that have gone."""
        from dask_hpc.cluster.discovery import DiscoveredCluster, living

        known = {each.name: each for each in await asyncio.to_thread(living)}
        ours = self.ours()
        listed = {
            key: each
            for key, each in ours.items()
            if isinstance(each, DiscoveredCluster) and not each.ending_it
        }
        # One that was made in the panel may have been found before its maker had it.
        own = {each.name for key, each in ours.items() if key not in listed}
        for key, each in listed.items():
            if each.name not in known or each.name in own:
                await self._drop(key)
        here = {name for name, each in known.items() if each.host == socket.gethostname()}
        for name in known.keys() - {each.name for each in self.ours().values()}:
            await self._add(name, here)
        await self._learn_tokens(here)

    def ours(self) -> dict[str, HPCCluster]:
        """Clusters of ours in the panel, by their ids there."""
        from dask_hpc.cluster.hpc_cluster import HPCCluster

        clusters = self._manager._clusters.items()  # noqa: SLF001  (see the class)
        return {key: each for key, each in clusters if isinstance(each, HPCCluster)}

    async def _learn_tokens(self, here: Collection[str]) -> None:
        """Learn what opens the dashboards on this machine; another's would be some other port."""
        there = {key: each for key, each in self.ours().items() if each.name in here}
        self.tokens = {key: token for key, token in self.tokens.items() if key in there}
        for key in there.keys() - self.tokens.keys():
            await self._learn(key, there[key])

    async def _learn(self, key: str, cluster: HPCCluster) -> None:
        from dask_hpc.errors import HPCError

        with contextlib.suppress(HPCError, OSError):  # it ends: there will be nothing to show
            self.tokens[key] = await asyncio.to_thread(_token, cluster)

    async def _add(self, name: str, here: Collection[str]) -> None:
        from dask_hpc.cluster.discovery import DiscoveredCluster
        from dask_hpc.errors import HPCError

        try:
            cluster = await DiscoveredCluster.from_name(name, asynchronous=True)
        except (HPCError, OSError) as error:  # it may have ended meanwhile
            logger.info("cluster %s is not listed: %s", name, error)
            return
        key = str(uuid4())
        if name in here:  # first: who sees it may click at once
            await self._learn(key, cluster)
        self._manager._clusters[key] = cluster  # noqa: SLF001
        self._manager._cluster_names[key] = name  # noqa: SLF001

    async def _drop(self, key: str) -> None:
        cluster = self._manager._clusters.pop(key, None)  # noqa: SLF001
        self._manager._cluster_names.pop(key, None)  # noqa: SLF001
        self._manager._adaptives.pop(key, None)  # noqa: SLF001
        if cluster is not None:
            await cluster.finish()


def _token(cluster: HPCCluster) -> str:
    link = cluster.steering.dashboard(token=True)
    return parse_qs(urlsplit(link).query).get("token", [""])[0]


def _dashboard_handler(panel: Panel) -> Any:
    from dask_labextension.dashboardhandler import DaskDashboardHandler
    from tornado.web import HTTPError

    class DashboardHandler(DaskDashboardHandler):
        """The extension's way to a dashboard, which shows ours who asks.

        Whoever comes here has been let in by the Jupyter server.
        """

        _token: str | None = None

        def proxy(self, cluster_id: str, proxied_path: str) -> Any:
            """Fetch a page."""
            self._ask(cluster_id)
            return super().proxy(cluster_id, proxied_path)

        async def open(self, cluster_id: str, proxied_path: str) -> Any:
            """Open a websocket."""
            self._ask(cluster_id)
            return await super().open(cluster_id, proxied_path)

        def _ask(self, cluster_id: str) -> None:
            self._token = panel.tokens.get(cluster_id) or None  # "": it has no dashboard
            if self._token is None and cluster_id in panel.ours():
                # Its port on this machine may be another user's, whose pages would be shown as
                # the Jupyter server's own.
                raise HTTPError(404, "this cluster has no dashboard on this machine")

        def proxy_request_headers(self) -> Any:
            """Headers of the browser's request, as the dashboard may see them."""
            headers = super().proxy_request_headers()
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
                # Of the Jupyter server, which has checked them; they would name another site.
                for name in ("Origin", "Cookie"):
                    headers.pop(name, None)
            return headers

    return DashboardHandler


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    """Start, where the extension is installed."""
    if importlib.util.find_spec(_PANEL) is None:
        return
    from dask_labextension.manager import manager
    from jupyter_server.utils import url_path_join
    from tornado.ioloop import IOLoop

    panel = Panel(manager)
    key = r"(?P<cluster_id>\w+-\w+-\w+-\w+-\w+)"
    web = app.web_app
    path = url_path_join(web.settings["base_url"], f"dask/dashboard/{key}(?P<proxied_path>.+)")
    # Before the extension's own of the same path: it is loaded later, by its name.
    web.add_handlers(".*$", [(path, _dashboard_handler(panel))])
    IOLoop.current().add_callback(panel.keep)
