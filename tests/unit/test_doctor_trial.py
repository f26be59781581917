"""How often a trial looks while its jobs wait: a shared file system and a batch system serve all.

Time passes only where the trial sleeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dask_hpc.drivers.base import Listing
from dask_hpc.drivers.registry import driver
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus
from dask_hpc.model.tls import TLSFiles
from dask_hpc.site.doctor import trial
from dask_hpc.site.doctor.probe import entry
from dask_hpc.site.doctor.trial import Plan, Trial

WAIT = 600.0


class Watched(Trial):
    """A trial whose one job starts after some seconds, and reports at once."""

    def __init__(self, directory: Path, starts: float) -> None:
        plan = Plan(
            name="doctor-1",
            directory=directory,
            spec=JobSpec(command=("true",), cores=1, log_directory=directory),
            jobs=1,
            probes=1,
            wait=WAIT,
            tls=TLSFiles("", "", ""),
            directories={},
            query={},
        )
        super().__init__(driver("slurm"), plan, {}, lambda _: None)
        self.now, self.starts = 1000.0, 1000.0 + starts
        self.queries: list[float] = []
        self.looks: list[float] = []
        self.ends = False
        self._array = "7"
        self._client = SimpleNamespace(query=self.query, tells_why=False, history=self.history)  # type: ignore[assignment]

    async def query(self, _: Mapping[str, str | None]) -> Listing:
        self.queries.append(self.now)
        started = self.now >= self.starts
        if started and self.ends:
            return Listing({}, {})
        state = JobState.RUNNING if started else JobState.PENDING
        return Listing({JobId("7", self._submission.first): JobStatus(state)}, {})

    async def history(self, _: object) -> Listing:
        return Listing({}, {})

    def _look(self) -> bool:
        self.looks.append(self.now)
        if self.now >= self.starts and not self.ends:
            path = self.plan.directory / entry.REPORT.format("a")
            path.write_text(json.dumps({"name": "a", "host": "node01"}))
        return super()._look()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    async def run(starts: float, *, ends: bool = False) -> Watched:
        one = Watched(tmp_path, starts)
        one.ends = ends
        monkeypatch.setattr(
            trial, "time", SimpleNamespace(monotonic=lambda: one.now, time=lambda: 0)
        )
        monkeypatch.setattr(trial, "asyncio", SimpleNamespace(sleep=one.sleep))
        await one._reported(one.now)
        return one

    return run


async def test_a_long_wait_costs_few_queries(tried: Callable[..., Any]) -> None:
    """Ten minutes in the queue: some two dozen, and no look at the directory more than needed."""
    one = await tried(starts=10 * WAIT)
    assert one.now == pytest.approx(1000.0 + WAIT, abs=2)
    assert len(one.queries) <= 27
    assert len(one.looks) <= 40 + WAIT / 2


async def test_a_report_after_a_long_wait_is_seen_soon(tried: Callable[..., Any]) -> None:
    """Whatever the query's interval is by then."""
    one = await tried(starts=500.0)
    assert one._reports
    assert one.now - one.starts <= 2.5


async def test_a_job_that_starts_at_once_is_seen_at_once(tried: Callable[..., Any]) -> None:
    """Its clock is compared by when the report is seen."""
    one = await tried(starts=8.0)
    assert one.now - one.starts <= 0.5


async def test_jobs_that_end_without_a_report_are_not_waited_for(tried: Callable[..., Any]) -> None:
    """Looked at again soon after they vanish, then given up."""
    one = await tried(starts=300.0, ends=True)
    assert 1000.0 + 300.0 < one.now < one.starts + 45
    vanished = [at for at in one.queries if at >= one.starts]
    assert len(vanished) >= 2
