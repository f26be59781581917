"""The widget of a cluster in a notebook: what there is to see, and its size to be changed.

It draws from the cluster's view and calls `scale` and `adapt`, so that it serves a cluster in this
process and one elsewhere alike.  ipywidgets is imported with the first widget; without it a
notebook shows HTML.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from html import escape
from types import ModuleType
from typing import Any, Protocol

from tornado.ioloop import PeriodicCallback

from dask_hpc.cluster import present
from dask_hpc.cluster.view import View
from dask_hpc.errors import HPCError

logger = logging.getLogger("dask_hpc")

#: Seconds between two looks whether anything has changed; and until spans of time ("in 5 min") are
#: written anew though nothing has.
INTERVAL = 1.0
_STALE = 10.0

#: In the engine's dictionary of what runs with a cluster and stops at its end.
_NAME = "cluster-repr"

_UNITS = ("workers", "jobs")


class Sizeable(Protocol):
    """What the widget asks of a cluster."""

    name: str
    loop: Any
    periodic_callbacks: dict[str, Any]

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of its pools."""

    @property
    def dashboard_help(self) -> str:
        """One line that says how to see the dashboard; it holds the secret token."""

    def scale(self, **size: Any) -> Any:
        """Want so many."""

    def adapt(self, **bounds: Any) -> Any:
        """Follow the tasks."""

    def changes(self) -> int:
        """How often anything has changed so far."""

    def seen(self) -> View | None:
        """The last view that is known, without waiting."""

    async def news(self) -> None:
        """Return when `seen` is of about now."""

    def _repr_html_(self) -> str: ...


def install(cluster: Sizeable) -> ClusterWidget | None:
    """Make the widget of a cluster that runs, and keep it up to date until the cluster closes.

    Returns
    -------
    ClusterWidget
        None if there is no ipywidgets.
    """
    try:
        import ipywidgets
    except ImportError:
        return None
    made = ClusterWidget(cluster, ipywidgets)

    def begin() -> None:
        ticking = PeriodicCallback(made.follow, INTERVAL * 1000)
        cluster.periodic_callbacks[_NAME] = ticking
        ticking.start()

    cluster.loop.add_callback(begin)
    return made


class ClusterWidget:
    """The widget's parts.

    Parameters
    ----------
    cluster
        Whose it is.
    widgets
        The module ipywidgets.

    Attributes
    ----------
    box
        What a notebook shows.
    """

    def __init__(self, cluster: Sizeable, widgets: ModuleType) -> None:
        self._cluster = cluster
        self._drawn = (-1, 0.0)  # changes that were seen, and when
        narrow, wide = widgets.Layout(width="160px"), widgets.Layout(width="110px")
        self.status = widgets.HTML()
        self.jobs = widgets.HTML()
        self.said = widgets.HTML()
        self.link = widgets.HTML()
        self.pool = widgets.Dropdown(description="Pool", layout=widgets.Layout(width="200px"))
        self.unit = widgets.Dropdown(options=_UNITS, layout=wide)
        self.size = widgets.BoundedIntText(0, min=0, max=10**6, description="Size", layout=narrow)
        self.scale = widgets.Button(description="Scale", layout=wide)
        self.least = widgets.BoundedIntText(0, min=0, max=10**6, description="From", layout=narrow)
        self.most = widgets.BoundedIntText(0, min=0, max=10**6, description="To", layout=narrow)
        self.adapt = widgets.Button(description="Adapt", layout=wide)
        self.dashboard = widgets.Button(description="Dashboard")
        self.scale.on_click(self._scale)
        self.adapt.on_click(self._adapt)
        self.dashboard.on_click(self._show_link)
        rows = [
            self.jobs,
            widgets.HBox([self.pool, self.unit]),
            widgets.HBox([self.size, self.scale]),
            widgets.HBox([self.least, self.most, self.adapt, widgets.HTML("to 0: no bound")]),
            self.said,
        ]
        self.box = widgets.Tab()
        self.box.children = [
            widgets.VBox([self.status, widgets.HBox([self.dashboard, self.link])]),
            widgets.VBox(rows),
        ]
        self.box.set_title(0, "Status")
        self.box.set_title(1, "Scaling")
        self.refresh()

    # -- what there is to see ---------------------------------------------------------------------

    async def follow(self) -> None:
        """Draw anew what has changed, of a head elsewhere as well."""
        try:
            await self._cluster.news()
        except HPCError as error:
            self._say(str(error))
        else:
            self.refresh()

    def refresh(self) -> None:
        """Draw anew what has changed."""
        changes, now = self._cluster.changes(), time.monotonic()
        if changes == self._drawn[0] and now - self._drawn[1] < _STALE:
            return
        if (view := self._cluster.seen()) is None:
            return
        self._drawn = (changes, now)
        self.status.value = self._cluster._repr_html_()
        self.jobs.value = present.pools_table(view) + _reasons(view)
        pools = tuple(view["pools"])
        if self.pool.options != pools:
            chosen = self.pool.value
            self.pool.options = pools
            self.pool.value = chosen if chosen in pools else pools[0]
            self.pool.layout.display = None if len(pools) > 1 else "none"

    def end(self) -> None:
        """Show that the cluster is closed, or left; nothing can be clicked any more."""
        self.status.value = self._cluster._repr_html_()
        for button in (self.scale, self.adapt, self.dashboard):
            button.disabled = True

    def _say(self, text: str) -> None:
        """Show a message, the failure's text with its lines."""
        self.said.value = _text(text)

    # -- what there is to do ----------------------------------------------------------------------

    def _scale(self, _: object) -> None:
        size = {"jobs" if self.unit.value == "jobs" else "n": self.size.value}
        self._do("scale", self._cluster.scale, **size, pool=self.pool.value)

    def _adapt(self, _: object) -> None:
        ending = "_jobs" if self.unit.value == "jobs" else ""
        bounds = {f"minimum{ending}": self.least.value, f"maximum{ending}": self.most.value or None}
        self._do("adapt", self._cluster.adapt, **bounds, pool=self.pool.value)

    def _show_link(self, _: object) -> None:
        """Show the link that opens the dashboard: when asked for, since notebooks are shared."""

        def show() -> None:
            self.link.value = _text(self._cluster.dashboard_help)

        threading.Thread(target=self._safely, args=(show,), daemon=True).start()

    def _do(self, what: str, method: Callable[..., Any], **values: Any) -> None:
        """Call a method, which may take as long as the batch system does, and say what came of it.

        A cluster of the notebook's own event loop gives back what is to be awaited there; any other
        one blocks, and is called beside it.
        """
        said = f"{what}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
        self._say(f"{said} …")

        def call() -> None:
            coming = method(**values)
            if inspect.isawaitable(coming):
                self._await(coming, said)
            else:
                self._done(said)

        if _in_loop_of(self._cluster):
            self._safely(call)
        else:
            threading.Thread(target=self._safely, args=(call,), daemon=True).start()

    def _await(self, coming: Awaitable[Any], said: str) -> None:
        async def wait() -> None:
            try:
                await coming
            except Exception as error:  # noqa: BLE001  (whatever it is, the user clicked: tell)
                self._say(str(error))
            else:
                self._done(said)

        self._waits = asyncio.ensure_future(wait())  # kept: the loop itself does not

    def _done(self, said: str) -> None:
        self._say(f"{said}: done")
        self._cluster.loop.add_callback(self.refresh)

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever it is, the user clicked: tell
            logger.debug("from the widget of cluster %s", self._cluster.name, exc_info=error)
            self._say(str(error) or repr(error))


def _in_loop_of(cluster: Sizeable) -> bool:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return False
    return getattr(cluster.loop, "asyncio_loop", None) is running


def _text(text: str) -> str:
    return f'<pre style="white-space: pre-wrap; margin: 0">{escape(text)}</pre>'


def _reasons(view: View) -> str:
    """Why jobs wait, and what went wrong, below the table."""
    told = present.facts(view)
    lines = [f"{name}: {told[name]}" for name in ("Expected", "Failure") if name in told]
    return _text("\n".join([view["line"], *lines]))
