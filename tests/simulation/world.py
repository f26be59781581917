"""A controller, a fake Slurm and a clock that moves only when told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.control.controller import Controller
from dask_hpc.control.ports import Place
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool
from tests.simulation.fake_slurm import FakeSlurm


class MemoryJournal:
    """Stands for the journal where the disk is not what is tested."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def append(self, event: str, **values: Any) -> None:
        self.events.append({"event": event, **values})

    def close(self) -> None:
        pass


class World:
    """Everything of a cluster but the engine."""

    def __init__(self, **slurm: Any) -> None:
        self.now = 1000.0
        self.slurm = FakeSlurm(**slurm)
        self.journal = MemoryJournal()
        self.retired: list[str] = []
        self.stuck: set[str] = set()  # workers whose data has nowhere to go
        self.bytes: dict[str, float] = {}
        spec = JobSpec(command=("true",), cores=1, log_directory=Path("/nonexistent"))
        self.controller = Controller(
            name="sim",
            pools={"default": Pool("default", spec, Layout(1, 1, None))},
            client=BatchClient(Slurm(), self.slurm.run),
            journal=self.journal,  # type: ignore[arg-type]
            place=Place({"default": Path("/nonexistent/job.sh")}, Path("/nonexistent")),
            workers=self,
            clock=lambda: self.now,
        )

    def load(self) -> Mapping[str, float]:
        return self.bytes

    async def retire(self, names: Collection[str], *, force: bool) -> set[str]:
        """The workers leave and their jobs end by themselves, as a supervisor does."""
        leave = set(names) if force else set(names) - self.stuck
        for worker in leave:
            self.retired.append(worker)
            self.controller.worker_left(worker)
            name, index, _ = worker.rsplit("-", 2)
            for job, i, element in self.slurm.jobs():
                if job == name and i == int(index):
                    element.state = "COMPLETED"
        return leave

    async def scale(self, jobs: int) -> None:
        await self.controller.scale({"default": jobs})

    async def step(self, seconds: float = 2.0) -> None:
        """Let time pass: jobs start, workers join, the controller goes a round."""
        self.now += seconds
        for worker in self.slurm.tick(self.now):
            self.controller.worker_joined(
                worker,
            )
        await self.controller.round()

    async def steps(self, count: int, seconds: float = 2.0) -> None:
        for _ in range(count):
            await self.step(seconds)

    def kill(self, choose: int, state: str) -> None:
        """End one running job from outside."""
        running = [(n, i, e) for n, i, e in self.slurm.jobs() if e.state == "RUNNING"]
        if running:
            name, index, element = running[choose % len(running)]
            element.state, element.joined = state, False
            self.controller.worker_left(f"{name}-{index}-0")
