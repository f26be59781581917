"""Workers on their way out, called back, hurried, requeued meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from dask_hpc.control.departures import Departures
from dask_hpc.control.reconcile import JobKey

ONE, TWO = JobKey("a", 0), JobKey("a", 1)
NAMES = {ONE: ["a-0-0"], TWO: ["a-1-0"]}


class Slow:
    """Workers that leave when they are told so."""

    def __init__(self) -> None:
        self.asked: list[tuple[set[str], float | None]] = []
        self.go = asyncio.Event()
        self.fails = False

    async def retire(
        self, names: Collection[str], *, force: bool, deadline: float | None = None
    ) -> set[str]:
        assert not force
        self.asked.append((set(names), deadline))
        await self.go.wait()
        if self.fails:
            raise RuntimeError("no")
        return set(names)

    def busy(self) -> Collection[str]:
        return ()

    def load(self) -> Mapping[str, float]:
        return {}

    def longest_task(self) -> float:
        return 0.0

    def deadlines(self, deadlines: Mapping[str, float]) -> None:
        del deadlines


def departures() -> tuple[Departures, Slow, list[tuple[JobKey, bool]]]:
    slow, over = Slow(), list[tuple[JobKey, bool]]()
    return Departures(slow, lambda key, gone: over.append((key, gone))), slow, over


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_jobs_that_end_at_about_the_same_time_leave_together() -> None:
    """With the earlier deadline of them; those without one by themselves."""
    leaving, slow, over = departures()
    late = JobKey("a", 2)
    leaving.begin({**NAMES, late: ["a-2-0"]}, {ONE: 100.0, TWO: 103.0})
    await settled()
    assert slow.asked == [({"a-0-0", "a-1-0"}, 100.0), ({"a-2-0"}, None)]
    assert ONE in leaving
    slow.go.set()
    await settled()
    assert sorted(over) == [(ONE, True), (TWO, True), (late, True)]
    assert ONE not in leaving


@pytest.mark.parametrize("started", [True, False])
async def test_who_is_called_back_stays(*, started: bool) -> None:
    """Also before the departure has begun at all: nothing must be leaving for ever."""
    leaving, _, over = departures()
    leaving.begin(NAMES, {})
    if started:
        await settled()
    leaving.recall([ONE])
    await settled()
    assert sorted(over) == [(ONE, False), (TWO, False)]
    assert ONE not in leaving


async def test_a_departure_that_fails_is_told_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The job stays, and the fault is in the log."""
    leaving, slow, over = departures()
    slow.fails = True
    slow.go.set()
    leaving.begin({ONE: NAMES[ONE]}, {})
    await settled()
    assert over == [(ONE, False)]
    assert "could not be sent out" in caplog.text


async def test_a_requeued_job_may_leave_once_more_before_its_first_departure_is_over() -> None:
    """What becomes of the first is no news any more."""
    leaving, slow, over = departures()
    leaving.begin({ONE: NAMES[ONE]}, {})
    leaving.begin({ONE: ["a-0-0"]}, {ONE: 50.0})
    await settled()
    slow.go.set()
    await settled()
    assert over == [(ONE, True)]


async def test_only_a_deadline_that_is_nearer_is_news() -> None:
    """Who leaves in time anyway is not disturbed."""
    leaving, _, over = departures()
    leaving.begin({ONE: NAMES[ONE]}, {ONE: 100.0})
    await settled()
    leaving.hurry(ONE, 98.0)
    leaving.hurry(TWO, 10.0)
    await settled()
    assert over == []
    leaving.hurry(ONE, 50.0)
    await settled()
    assert over == [(ONE, False)]
