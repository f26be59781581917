"""How the controller's commands reach the simulated machine, and what it is told.

Two ways: straight values, for thousands of weeks; and Slurm's own text, through the dialect of the
fakes and the real driver.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from dask_hpc.batch.client import BatchClient
from dask_hpc.drivers.base import Command, Listing, Output
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import BatchSystemUnavailable, SubmitLimited
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from tests.fakes import core as c
from tests.fakes.core import Array, Job, Refused, Request
from tests.fakes.front import answer
from tests.fakes.path import dialect
from tests.simulation.machine import Machine
from tests.simulation.weather import TIMEOUT, Weather

T = TypeVar("T")

STATES = {
    c.PENDING: JobState.PENDING,
    c.HELD: JobState.HELD,
    c.RUNNING: JobState.RUNNING,
    c.ENDING: JobState.ENDING,
    c.COMPLETED: JobState.COMPLETED,
    c.FAILED: JobState.FAILED,
    c.TIMEOUT: JobState.TIMEOUT,
    c.MEMORY: JobState.OUT_OF_MEMORY,
    c.CANCELLED: JobState.CANCELLED,
    c.NODE: JobState.NODE_FAIL,
    c.PREEMPTED: JobState.PREEMPTED,
}
#: Tries of a command that may be repeated, and seconds between them, as the package's client has.
ATTEMPTS, WAIT = 4, 2.0
#: Seconds in which a request arrives whose command was ended.
SOON = 20.0
#: Seconds for which ended jobs stay in the listing (Slurm's MinJobAge).
JOB_AGE = 300.0


def status_of(job: Job) -> JobStatus:
    """What the batch system says of a job, as the driver would read it."""
    return JobStatus(
        state=STATES[job.state],
        reason="waiting for free resources" if job.state == c.PENDING else "",
        node=job.node,
        start=job.started if job.started is not None else job.expected,
        end=job.deadline if job.live else job.ended,
    )


class Lost(BatchSystemUnavailable):
    """The command never arrived; whoever sent it cannot tell."""


class Road:
    """Between a command and the machine: delays, losses, silence.

    Attributes
    ----------
    flying
        Jobs of submissions that have not arrived yet and still may, by name.
    watch
        Called before each query and after each submission.
    """

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.flying: dict[str, int] = {}
        self.commands: Counter[str] = Counter()
        self.watch: Callable[[str, int], None] = lambda _what, _count: None

    async def carry(self, what: str, action: Callable[[], T]) -> T:
        """Let a command travel, and its answer.

        Raises
        ------
        BatchSystemUnavailable
            If no answer comes: whether it arrived is not known.
        """
        loop = asyncio.get_running_loop()
        self.commands[what] += 1
        trip = self.weather.trip(what == "submit", loop.time())
        if not trip.arrives:
            await asyncio.sleep(trip.there)
        elif trip.there >= TIMEOUT:
            await self._patiently(TIMEOUT, trip.there, action)
            loop.call_later(trip.there - TIMEOUT, _quietly, action)
        else:
            await self._patiently(trip.there, trip.there, action)
            result = action()
            if trip.there + trip.back < TIMEOUT:
                await asyncio.sleep(trip.back)
                return result
            await asyncio.sleep(TIMEOUT - trip.there)
        raise (BatchSystemUnavailable if trip.arrives else Lost)(f"`{what}` got no answer")

    async def _patiently(self, wait: float, there: float, action: Callable[[], object]) -> None:
        """Wait; who stops waiting stops nothing that is on its way, and soon there."""
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(min(there, SOON), _quietly, action)
            raise


def _quietly(action: Callable[[], object]) -> None:
    """Do what nobody hears of."""
    with suppress(Refused):
        action()


class Desk(BatchClient):
    """A batch system that takes and gives values, in place of commands and text."""

    def __init__(self, machine: Machine, road: Road) -> None:
        super().__init__(driver("slurm"))
        self.machine, self.road = machine, road
        self._shown: dict[JobId, JobStatus] = {}
        self._names: dict[str, str] = {}
        machine.on_change = self._changed

    # -- what is listed, and when -----------------------------------------------------------------

    def _changed(self, array: Array, job: Job) -> None:
        key, status = JobId(str(array.number), job.index), status_of(job)
        loop, lag = asyncio.get_running_loop(), self.road.weather.lag
        if lag:
            loop.call_later(lag, self._show, key, array.name, status)
        else:
            self._show(key, array.name, status)
        if not job.live:
            forgotten = job.vanished or "forgetful" in self.road.weather
            age = 0.0 if forgotten else JOB_AGE
            loop.call_later(lag + age, self._shown.pop, key, None)

    def _show(self, key: JobId, name: str, status: JobStatus) -> None:
        self._shown[key] = status
        self._names[name] = key.array

    def _list(self, arrays: Mapping[str, str | None]) -> Listing:
        names = {name: self._names[name] for name in arrays if name in self._names}
        return Listing(dict(self._shown), names)

    # -- what the controller asks -----------------------------------------------------------------

    async def submit(self, submission: Submission, spec: JobSpec, script: Path) -> str:
        request = Request()
        request.cores, request.nodes, request.walltime = spec.cores, spec.nodes, spec.walltime
        request.exclude = frozenset(spec.exclude)
        name, count = submission.name, submission.count
        self.road.watch("submit", count)
        self.road.flying[name] = count

        def arrive() -> Array:
            self.road.flying.pop(name, None)
            return self.machine.submit(name, submission.indices, request, "")

        try:
            array = await self.road.carry("submit", arrive)
        except Refused as refused:
            raise SubmitLimited(
                "sbatch refused the job: Batch job submission failed: Job violates accounting/QOS "
                "policy (job submit limit, user's size and/or time limits)"
            ) from refused
        except Lost:
            self.road.flying.pop(name, None)
            raise
        return str(array.number)

    async def query(self, arrays: Mapping[str, str | None]) -> Listing:
        self.road.watch("query", 0)
        return await self.road.carry("query", lambda: self._list(arrays))

    async def history(self, arrays: Collection[str]) -> Listing:
        if "forgetful" in self.road.weather:
            return Listing()
        wanted = {int(array) for array in arrays}
        try:
            return await self.road.carry("history", lambda: self._ends(wanted))
        except BatchSystemUnavailable:
            return Listing()

    def _ends(self, arrays: Collection[int]) -> Listing:
        return Listing(
            {
                JobId(str(number), job.index): status_of(job)
                for number in sorted(arrays)
                for job in self.machine.arrays[number].jobs.values()
                if not job.live and self.machine.recorded(job)
            }
        )

    async def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> None:
        chosen: dict[str, list[int]] = {}
        for job in jobs:
            chosen.setdefault(job.array, []).append(job.index)

        def arrive() -> None:
            for array, indices in chosen.items():
                self.machine.cancel(self.machine.arrays[int(array)], indices)

        if chosen:
            await self._try("cancel", arrive)

    async def array_limit(self) -> int:
        if self._array_limit is None:
            self._array_limit = await self._try("limits", lambda: self.machine.site.max_array)
        return self._array_limit

    async def _try(self, what: str, action: Callable[[], T]) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self.road.carry(what, action)
            except BatchSystemUnavailable:
                await asyncio.sleep(WAIT)
        return await self.road.carry(what, action)


class SlurmDesk:
    """Stands where the runner stands: the machine answers in Slurm's own words."""

    def __init__(self, machine: Machine, road: Road) -> None:
        self.machine, self.road = machine, road
        self._dialect = dialect("slurm")

    async def run(self, command: Command) -> Output:
        submits = command.argv[0] == self._dialect.submits
        what = {"sbatch": "submit", "squeue": "query", "sacct": "history", "scancel": "cancel"}
        name, count = _submission(command) if submits else ("", 0)
        self.road.watch(what.get(command.argv[0], ""), count)
        if submits:
            self.road.flying[name] = count

        def arrive() -> Any:
            self.road.flying.pop(name, None)
            environ = command.environment(os.environ)
            return answer(self._dialect, self.machine, command.argv, environ)

        try:
            said = await self.road.carry(what.get(command.argv[0], command.argv[0]), arrive)
        except Lost:
            self.road.flying.pop(name, None)
            raise
        return Output(command, said.code, said.out, said.err)


def _submission(command: Command) -> tuple[str, int]:
    """Name and number of jobs of an sbatch command."""
    option = dict(word.split("=", 1) for word in command.argv if "=" in word)
    return option["--job-name"], int(option["--array"].rpartition("-")[2]) + 1
