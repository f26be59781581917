"""One batch system of a test: its fake programs on the PATH, its driver, and a client over both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.batch.runner import run
from dask_hpc.drivers.base import Command, Listing, Output
from dask_hpc.drivers.registry import DRIVERS, driver
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.model.job import JobId, JobSpec, JobStatus, Submission
from tests.fakes import core as c
from tests.fakes.core import Array, Core
from tests.fakes.path import Installed

#: Drivers that no fake of another system's commands can hold to the contract.
EXEMPT = {
    "local": "its own commands and server are the real ones (tests/integration/test_local_batch)",
    "drmaa": "a library, not a set of commands",
}
SYSTEMS = [name for name in DRIVERS if name not in EXEMPT]

#: What each state of the core is in our model, where the system can tell it.
MODEL = {
    c.PENDING: "PENDING",
    c.HELD: "HELD",
    c.RUNNING: "RUNNING",
    c.ENDING: "ENDING",
    c.COMPLETED: "COMPLETED",
    c.FAILED: "FAILED",
    c.TIMEOUT: "TIMEOUT",
    c.MEMORY: "OUT_OF_MEMORY",
    c.CANCELLED: "CANCELLED",
    c.NODE: "NODE_FAIL",
    c.PREEMPTED: "PREEMPTED",
}


class Site:
    """A machine with one batch system."""

    def __init__(self, name: str, directory: Path, **core: Any) -> None:
        self.name = name
        self.directory = directory
        self.driver = driver(name)
        self.installed = Installed(directory / "fake", name, Core(**core))
        self.dialect = self.installed.dialect
        self.client = BatchClient(self.driver, partial(run, timeout=30.0))
        with self.core() as truth:
            truth.forget = self.dialect.forgets

    @contextmanager
    def core(self) -> Iterator[Core]:
        with self.installed.core() as core:
            yield core

    @contextmanager
    def array(self, name: str) -> Iterator[tuple[Core, Array]]:
        """One array by its name, to look at and to change."""
        with self.core() as core:
            yield core, next(a for a in core.arrays.values() if a.name == name)

    def spec(self, **values: Any) -> JobSpec:
        told = {
            "command": ("printf", r"%s\n", WORKER_PREFIX),
            "cores": 2,
            "log_directory": self.directory,
        }
        return JobSpec(**{**told, **values})

    async def submit(self, name: str = "mine-1a2b", count: int = 3, **values: Any) -> str:
        """Submit an array; its id."""
        submission = Submission(name, count, self.driver.first_index)
        return await self.client.submit(submission, *self.written(**values))

    def written(self, **values: Any) -> tuple[JobSpec, Path]:
        """A spec, and the script written from it."""
        spec = self.spec(**values)
        script = spec.log_directory.parent / "job.sh" if values.get("log_directory") else None
        script = script or self.directory / "job.sh"
        script.write_text(job_script(spec, self.driver), encoding="utf-8")
        script.chmod(0o755)
        return spec, script

    async def output(self, command: Command) -> Output:
        return await run(command, timeout=30.0)

    async def look(self, name: str, array: str | None) -> dict[int, JobStatus]:
        """What the client learns of an array's jobs, as the controller asks: listing, then past."""
        listing = await self.client.query({name: array})
        jobs = dict(listing.jobs)
        array = array or listing.names[name]
        with self.array(name) as (_, truth):
            missing = any(JobId(array, i) not in jobs for i in truth.jobs)
        if missing:
            past = await self.client.history([array])
            jobs = {**past.jobs, **jobs}
        return {job.index: status for job, status in jobs.items() if job.array == array}


def expected(site: Site, state: str) -> str:
    """The word of our model for a state of the core, as far as the system can tell it."""
    return site.dialect.tells.get(state, MODEL[state])


def words(listing: Listing) -> dict[JobId, tuple[str, int | None, int | None]]:
    """What a wrong reading would change: state, exit code and signal of each job.

    Held or pending: both wait, and the word that tells may be what was cut off.
    """
    return {
        job: (status.state.name.replace("HELD", "PENDING"), status.exit_code, status.signal)
        for job, status in listing.jobs.items()
    }
