"""The Jobs page: what a head knows in, tables and figures out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from dask_hpc.cluster.jobs_seen import EDGES, JobsSeen
from dask_hpc.cluster.view import STATES
from dask_hpc.control.controller import Controller
from dask_hpc.errors import JobStartError
from dask_hpc.model.job import JobState, JobStatus
from tests.unit.heads import EPOCH, POOLS, RUNS, Watch, controller, head, see, submit

pytest.importorskip("bokeh")

from dask_hpc.cluster.jobs_page import JobsPage, jobs_doc

EVIL = "<img src=x onerror=alert(1)> $$x$$"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """One clock for the controller and for what is seen of it."""
    made = Watch()
    monkeypatch.setattr("dask_hpc.cluster.view.time.time", made.wall)
    return made


def texts(page: JobsPage) -> dict[str, str]:
    page.update()
    return {name: div.text for name, div in page.texts.items()}


def test_the_page_shows_what_a_person_wants_to_know(watch: Watch) -> None:
    """Jobs by state, why and how long they wait, deadlines, failures."""
    made = controller(watch, dict(POOLS))
    submit(made, "c-1a", 4, walltime=600.0)
    watch.now = 160.0
    see(
        made,
        j0=JobStatus(JobState.PENDING, "Priority"),
        j1=JobStatus(JobState.HELD, "JobHeldUser"),
        j2=replace(RUNS, start=EPOCH + 150),
        j3=replace(RUNS, start=EPOCH + 120, node="n2"),
    )
    made.book.observed(made.ledger.statuses(), [], made._wall())
    made.worker_joined("c-1a-2-0")
    made.ledger.arrays["c-1a"].expires(3, EPOCH + 720, near=True)
    made.failed(JobStartError("a job ended too soon"))
    page = JobsPage(JobsSeen(head(made)))
    told = texts(page)
    assert "Priority" in told["waiting"]
    assert "held: JobHeldUser" in told["waiting"]
    assert "1 min" in told["waiting"]
    assert "50 s" in told["waited"]
    starts = dict(zip(["<1", *EDGES], page.waits.data["starts"], strict=True))
    assert {edge: count for edge, count in starts.items() if count} == {10: 1, 30: 1}
    assert told["endings"].index("c-1a-3") < told["endings"].index("c-1a-2")
    assert told["endings"].count("is being replaced") == 1
    assert "0 s ago" in told["failures"]
    assert "a job ended too soon" in told["failures"]
    assert "c-1a" not in told["pools"]
    assert {state: page.source.data[state][-1] for state in STATES} == {
        "pending": 1,
        "held": 1,
        "starting": 1,
        "running": 1,
        "leaving": 0,
        "ending": 0,
        "in doubt": 0,
    }


def test_an_empty_cluster_has_a_page_too(watch: Watch) -> None:
    """It says that there is nothing."""
    told = texts(JobsPage(JobsSeen(head(controller(watch)))))
    assert "No job waits." in told["waiting"]
    assert "None." in told["failures"]


def test_nothing_of_others_is_markup_or_formula(watch: Watch) -> None:
    """Reasons and node names are the batch system's, failures what a job wrote."""
    made = controller(watch)
    submit(made, "c-1a", 2, walltime=600.0)
    see(made, j0=JobStatus(JobState.PENDING, EVIL), j1=replace(RUNS, node=EVIL))
    made.report(JobStartError(EVIL))
    page = JobsPage(JobsSeen(head(made)))
    told = texts(page)
    assert not any("<img" in text for text in told.values())
    assert all("&lt;img" in told[part] for part in ("waiting", "endings", "failures", "cluster"))
    assert all(div.disable_math for div in page.texts.values())


def test_what_has_not_changed_is_not_looked_at_again(watch: Watch) -> None:
    """Several tabs share one look; a change is seen within a second, other things in five."""
    made = controller(watch)
    seen = JobsSeen(head(made))
    first = seen.sheet()
    watch.now += 4.0
    assert seen.sheet() is first
    watch.now += 1.5
    second = seen.sheet()
    assert second is not first
    made.changed.set()
    assert seen.sheet() is second
    watch.now += 0.6
    assert seen.sheet() is not second


def test_a_page_that_shows_the_same_sends_nothing(watch: Watch) -> None:
    """The figure's data are not replaced by their equals."""
    made = controller(watch)
    page = JobsPage(JobsSeen(head(made)))
    page.update()
    before, waits = page.source.data, page.waits.data
    page.update()
    assert page.source.data is before
    made.changed.set()
    watch.now += 6.0
    page.update()
    assert page.source.data is not before
    assert page.waits.data is waits


@asynccontextmanager
async def watching(seen: JobsSeen) -> AsyncIterator[None]:
    task = asyncio.create_task(seen.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def counted(seen: JobsSeen, moments: int) -> None:
    async with asyncio.timeout(5):
        while len(seen.history) < moments:
            await asyncio.sleep(0.01)


async def test_jobs_are_counted_whenever_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anybody looks or not; a change between two counts is not missed."""
    monkeypatch.setattr("dask_hpc.cluster.jobs_seen._BETWEEN", 0.01)
    made = controller()
    seen = JobsSeen(head(made))
    async with watching(seen):
        await counted(seen, 1)
        submit(made, "c-1a", 3)
        made.changed.set()
        await counted(seen, 2)
        see(made, j0=RUNS, j1=RUNS, j2=RUNS)
        made.changed.set()
        made.changed.clear()  # another one waits on it too
        async with asyncio.timeout(5):
            while seen.history.series(STATES, time.time()).counts["starting"][-1] != 3:
                await asyncio.sleep(0.01)


def test_a_scheduler_without_jobs_says_so() -> None:
    """The engine has one list of pages for all schedulers of a process."""
    from bokeh.document import Document

    doc = Document()
    jobs_doc(object(), {}, doc)
    [root] = doc.roots
    assert "no jobs" in root.text  # type: ignore[attr-defined]


def large() -> tuple[Controller, Any]:
    made = controller()
    submit(made, "c-1a", 10_000, walltime=600.0)
    waits = JobStatus(JobState.PENDING, "Priority", start=EPOCH)
    see(made, **{f"j{i}": RUNS if i % 2 else waits for i in range(10_000)})
    made.book.observed(made.ledger.statuses(), [], made._wall())
    return made, head(made)


def test_a_refresh_with_ten_thousand_jobs_is_cheap() -> None:
    """Less than 50 ms of the head's CPU, all that is seen included."""
    made, of_it = large()
    seen = JobsSeen(of_it)
    for second in range(2000):
        seen.history.add(1e9 + 2 * second, {"running": second})
    page = JobsPage(seen)
    tries = []
    for _ in range(5):
        made.changed.set()
        seen._sheet = None
        began = time.thread_time()
        page.update()
        tries.append(time.thread_time() - began)
    assert min(tries) < 0.05, tries
