"""A controller, a fake batch system and a clock that moves only when told."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.control.controller import Controller
from dask_hpc.control.ports import Place
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool
from tests.fakes.core import COMPLETED, RUNNING, Array, Core, Job
from tests.fakes.inprocess import InProcess

SPEC = JobSpec(command=("true",), cores=1, log_directory=Path("/nonexistent"))


class MemoryJournal:
    """Stands for the journal where the disk is not what is tested."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def append(self, event: str, **values: Any) -> None:
        self.events.append({"event": event, **values})

    def close(self) -> None:
        pass


class World:
    """Everything of a cluster but the engine.

    Keywords are the core's and its faults' (:mod:`tests.fakes.core`).
    """

    def __init__(self, system: str = "slurm", spec: JobSpec = SPEC, **truth: Any) -> None:
        self.now = 1000.0
        self.core = Core(slots=truth.pop("slots", 1000), max_array=truth.pop("max_array", 1001))
        self.core.virtual = self.now
        for name, value in truth.items():
            setattr(self.core if hasattr(self.core, name) else self.core.faults, name, value)
        self.batch = InProcess(system, self.core)
        self.core.forget |= self.batch.dialect.forgets
        self.journal = MemoryJournal()
        self.retired: list[str] = []
        self.stuck: set[str] = set()  # workers whose data has nowhere to go
        self.bytes: dict[str, float] = {}
        self.computing: set[str] = set()
        self.ends: dict[str, float] = {}  # deadline of each worker, as told
        self.slow = False
        self.task = 0.0  # seconds of the longest task
        self.given: list[float | None] = []  # deadline of each retirement
        self.left: list[float] = []  # seconds that it had
        self.scripts = {"default": _script(system, spec.cores, spec.walltime)}
        self.controller = Controller(
            name="sim",
            pools={"default": Pool("default", spec, Layout(1, 1, None))},
            client=BatchClient(driver(system), self.batch.run),
            journal=self.journal,  # type: ignore[arg-type]
            place=Place(self.scripts, Path("/nonexistent")),
            workers=self,
            clock=lambda: self.now,
            wall=lambda: self.now,
        )

    def busy(self) -> Collection[str]:
        return self.computing

    def load(self) -> Mapping[str, float]:
        return self.bytes

    def longest_task(self) -> float:
        return self.task

    def deadlines(self, deadlines: Mapping[str, float]) -> None:
        self.ends = dict(deadlines)

    async def retire(
        self, names: Collection[str], *, force: bool, deadline: float | None = None
    ) -> set[str]:
        """The workers leave and their jobs end by themselves, as a supervisor does."""
        self.given.append(deadline)
        self.left.append((deadline or inf) - self.now)
        while self.slow and not force:  # they have tasks to finish
            await asyncio.Event().wait()
        leave = set(names) if force else set(names) - self.stuck
        jobs = {(array.name, job.index): job for array, job in self.core.jobs()}
        for worker in leave:
            self.retired.append(worker)
            self.controller.worker_left(worker)
            name, index, _ = worker.rsplit("-", 2)
            self.core.end(jobs[name, int(index)], COMPLETED)
        return leave

    async def scale(self, jobs: int) -> None:
        await self.controller.scale({"default": jobs})
        await settle()

    async def step(self, seconds: float = 2.0) -> None:
        """Let time pass: jobs start, workers join, the controller goes a round."""
        self.now += seconds
        self.core.virtual = self.now
        for worker in self.core.tick():
            self.controller.worker_joined(worker)
        await self.controller.round()
        await settle()

    async def steps(self, count: int, seconds: float = 2.0) -> None:
        for _ in range(count):
            await self.step(seconds)

    def running(self) -> list[tuple[Array, Job]]:
        return [(array, job) for array, job in self.core.jobs() if job.state == RUNNING]

    def kill(self, choose: int, state: str) -> None:
        """End one running job from outside."""
        if running := self.running():
            array, job = running[choose % len(running)]
            self.core.end(job, state)
            self._lost(array, job)

    def requeue(self, choose: int) -> None:
        """Send one running job back into the queue."""
        if running := self.running():
            array, job = running[choose % len(running)]
            self.core.requeue(job)
            self._lost(array, job)

    def _lost(self, array: Array, job: Job) -> None:
        job.joined = False
        self.controller.worker_left(f"{array.name}-{job.index}-0")


async def settle() -> None:
    """Let what was begun in the background be done."""
    for _ in range(5):
        await asyncio.sleep(0)


@cache
def _script(system: str, cores: int, walltime: int | None) -> Path:
    """A script that the system would read, once for all worlds."""
    spec = replace(SPEC, cores=cores, walltime=walltime)
    path = Path(tempfile.mkdtemp(prefix="world-")) / "job.sh"
    path.write_text(job_script(spec, driver(system)), encoding="utf-8")
    return path
