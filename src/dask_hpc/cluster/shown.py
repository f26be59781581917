"""A cluster that can be looked at: ``repr``, HTML and the widget of a notebook, from its view."""

from __future__ import annotations

from typing import Any

from dask.utils import format_bytes
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from dask_hpc.cluster import present
from dask_hpc.cluster.elsewhere import Elsewhere
from dask_hpc.cluster.steering import Here
from dask_hpc.cluster.view import View
from dask_hpc.cluster.widget import ClusterWidget, install
from dask_hpc.errors import HPCError


class Shown(Cluster):
    """A cluster of ours, its head here or elsewhere, as it shows itself."""

    _steering: Here | Elsewhere | None = None
    _shown: ClusterWidget | None = None

    # -- what the widget asks ---------------------------------------------------------------------

    def changes(self) -> int:
        """How often anything has changed so far, as far as known."""
        return 0 if self._steering is None else self._steering.changes

    def seen(self) -> View | None:
        """The last view that is known, without waiting for a head elsewhere; None before any."""
        return None if self._steering is None else self._steering.last

    async def news(self) -> None:
        """Return when `seen` is of about now."""
        if isinstance(self._steering, Elsewhere):
            await self._steering.change()

    async def _close(self) -> None:
        await super()._close()
        if self._shown is not None:
            self._shown.end()

    # -- how it shows itself ----------------------------------------------------------------------

    def _look(self) -> View | None:
        """What there is to see now.  A repr must not raise, and must not block an event loop."""
        steering = self._steering
        if not isinstance(steering, Elsewhere):
            return self.seen()
        if self.status is not Status.running or self.called_from_running_loop:
            return steering.last
        try:
            return steering.view()
        except HPCError as error:  # its head may be gone
            return {**steering.last, "problem": str(error)}

    @property
    def _state(self) -> str:
        """In a word."""
        return "not started" if self.status is Status.created else str(self.status.name)

    def __repr__(self) -> str:
        view = None if self.status in (Status.created, Status.closed) else self._look()
        return present.text(type(self).__name__, self.name, self._state, view, self._size())

    def _size(self) -> str:
        workers = self.scheduler_info["workers"].values()
        memory = sum(worker["memory_limit"] or 0 for worker in workers)
        threads = sum(worker["nthreads"] for worker in workers)
        return f"workers: {len(workers)}, threads: {threads}, memory: {format_bytes(memory)}"

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        rows = present.html_rows(self._state, self._look())
        html: str = super()._repr_html_(cluster_status=rows + (cluster_status or ""))
        return html

    def _widget(self) -> Any:
        """The engine's way to ask for a widget; None without ipywidgets: then HTML is shown."""
        if self._shown is None and self.status is Status.running:
            self._shown = install(self)
        return None if self._shown is None else self._shown.box
