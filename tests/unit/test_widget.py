"""The widget of a notebook, on a cluster that only says what was asked of it."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from dask_hpc.cluster import present
from dask_hpc.cluster.view import View, view
from dask_hpc.cluster.widget import ClusterWidget, install
from dask_hpc.errors import HeadUnreachable, SubmitRejected
from dask_hpc.model.job import JobState, JobStatus
from tests.helpers import wait_until
from tests.unit.heads import EPOCH, POOLS, controller, head, see, submit


class Fake:
    """A cluster."""

    name = "c"
    dashboard_help = "ssh -N -L <8787> http://127.0.0.1:8787/status?token=secret"

    def __init__(self, pools: int = 1) -> None:
        self.controller = controller(pools=dict(list(POOLS.items())[:pools]))
        self.calls: list[tuple[Any, ...]] = []
        self.loop = SimpleNamespace(add_callback=lambda call: call())
        self.periodic_callbacks: dict[str, Any] = {}
        self.error: Exception | None = None
        self.looks = 0

    @property
    def pools(self) -> tuple[str, ...]:
        return tuple(self.controller.pools)

    def seen(self) -> View:
        self.looks += 1
        return view(head(self.controller), jobs=False)

    def changes(self) -> int:
        return self.controller.changed.count

    async def news(self) -> None:
        if self.error is not None:
            raise self.error

    def _repr_html_(self) -> str:
        return present.html_rows("running", self.seen())

    def _called(self, *call: Any) -> None:
        self.calls.append((*call, threading.current_thread() is threading.main_thread()))
        if self.error is not None:
            raise self.error

    def scale(self, n: int | None = None, **how: Any) -> Any:
        self._called("scale", n, how)

    def adapt(self, **bounds: Any) -> Any:
        self._called("adapt", bounds)


@pytest.fixture
def widgets() -> Any:
    return pytest.importorskip("ipywidgets")


def clicked(made: ClusterWidget, button: Any, said: str) -> None:
    button.click()
    wait_until(lambda: said in made.said.value)


def test_scale_and_adapt_are_called_beside_the_notebook(widgets: Any) -> None:
    """In workers or jobs, of the pool that is chosen; the notebook is not held up."""
    cluster = Fake(pools=2)
    made = ClusterWidget(cluster, widgets)
    made.size.value = 3
    clicked(made, made.scale, "done")
    made.unit.value, made.pool.value = "jobs", "wide"
    clicked(made, made.scale, "scale(jobs=3, pool=&#x27;wide&#x27;): done")
    made.least.value, made.most.value = 1, 4
    clicked(made, made.adapt, "adapt(minimum_jobs=1, maximum_jobs=4")
    made.unit.value, made.most.value = "workers", 0
    clicked(made, made.adapt, "adapt(minimum=1, maximum=None")
    wait_until(lambda: len(cluster.calls) == 4)
    assert cluster.calls == [
        ("scale", 3, {"pool": "default"}, False),
        ("scale", None, {"jobs": 3, "pool": "wide"}, False),
        ("adapt", {"minimum_jobs": 1, "maximum_jobs": 4, "pool": "wide"}, False),
        ("adapt", {"minimum": 1, "maximum": None, "pool": "wide"}, False),
    ]


def test_a_refusal_is_shown_with_its_words(widgets: Any) -> None:
    """Escaped, as all that comes from elsewhere."""
    cluster = Fake()
    cluster.error = SubmitRejected("sbatch: <b>no</b>", hint="ask for less")
    made = ClusterWidget(cluster, widgets)
    clicked(made, made.scale, "sbatch: &lt;b&gt;no&lt;/b&gt;\n  -&gt; ask for less")


async def test_a_cluster_of_the_notebooks_own_loop_is_awaited_there(widgets: Any) -> None:
    """Its scale() gives back what is to be awaited."""
    cluster = Fake()
    cluster.loop.asyncio_loop = asyncio.get_running_loop()

    async def refuse() -> None:
        raise SubmitRejected("not today")

    cluster.scale = lambda *_, **__: refuse()  # type: ignore[method-assign]
    made = ClusterWidget(cluster, widgets)
    made.scale.click()
    assert "…" in made.said.value
    async with asyncio.timeout(5):
        while "not today" not in made.said.value:
            await asyncio.sleep(0)
    cluster.scale = lambda *_, **__: asyncio.sleep(0)  # type: ignore[method-assign]
    made.scale.click()
    async with asyncio.timeout(5):
        while "done" not in made.said.value:
            await asyncio.sleep(0)


def test_only_what_has_changed_is_drawn(widgets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs, reasons, failures; spans of time after a while."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("dask_hpc.cluster.widget.time.monotonic", lambda: clock.now)
    cluster = Fake()
    made = ClusterWidget(cluster, widgets)
    looks = cluster.looks
    clock.now += 9.0
    made.refresh()
    assert cluster.looks == looks
    submit(cluster.controller, "c-1a", 1)
    see(cluster.controller, j0=JobStatus(JobState.PENDING, "Priority", start=EPOCH))
    cluster.controller.report(SubmitRejected("no more"))
    made.refresh()
    for part in (made.status.value, made.jobs.value):
        assert "1 pending (Priority)" in part
        assert "no more" in part
    looks = cluster.looks
    clock.now += 11.0
    made.refresh()
    assert cluster.looks > looks


def test_a_choice_of_pools_is_shown_where_there_is_one(widgets: Any) -> None:
    """A pool that is added later appears."""
    cluster = Fake()
    made = ClusterWidget(cluster, widgets)
    assert made.pool.layout.display == "none"
    cluster.controller.pools["wide"] = POOLS["wide"]
    cluster.controller.wanted["wide"] = 0
    cluster.controller.changed.set()
    made.refresh()
    assert made.pool.layout.display is None
    assert made.pool.options == ("default", "wide")


def test_the_link_with_the_token_is_shown_when_asked_for(widgets: Any) -> None:
    """A notebook is shared, with what it shows."""
    made = ClusterWidget(Fake(), widgets)
    assert not any("secret" in part.value for part in (made.status, made.jobs, made.link))
    made.dashboard.click()
    wait_until(lambda: "token=secret" in made.link.value)
    assert "&lt;8787&gt;" in made.link.value


def test_of_a_closed_cluster_nothing_can_be_clicked(widgets: Any) -> None:
    """It shows what was last."""
    made = ClusterWidget(Fake(), widgets)
    made.status.value = ""
    made.end()
    assert made.scale.disabled
    assert made.adapt.disabled
    assert "0 wanted: none" in made.status.value


async def test_a_head_that_does_not_answer_is_told(widgets: Any) -> None:
    """It may be busy, or gone: the widget goes on asking."""
    cluster = Fake()
    made = ClusterWidget(cluster, widgets)
    cluster.error = HeadUnreachable("no answer")
    await made.follow()
    assert "no answer" in made.said.value
    cluster.error = None
    submit(cluster.controller, "c-1a", 2)
    cluster.controller.changed.set()
    await made.follow()
    assert "2 wanted" in made.status.value


def test_without_ipywidgets_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook shows the HTML then."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert install(Fake()) is None
