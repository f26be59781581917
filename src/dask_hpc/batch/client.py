"""One batch system as the controller sees it: submit, query, cancel for any number of jobs.

Runs a driver's commands and sorts their failures: refused for good, or not known.  Keeps no state
of jobs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from dask_hpc.batch.runner import Runner, run
from dask_hpc.drivers.base import Command, Driver, Listing, Output, Why
from dask_hpc.drivers.extensions import Extension, Run, extension
from dask_hpc.errors import (
    BatchSystemError,
    BatchSystemUnavailable,
    ConfigurationError,
    SubmitLimited,
    SubmitRejected,
)
from dask_hpc.model.job import JobId, JobSpec, JobStatus, Submission

#: Tries of a command that may be repeated without harm, and seconds before the second one; each
#: further wait doubles, give or take a half, so that many clusters do not knock together.
ATTEMPTS = 4
FIRST_WAIT = 1.0


class BatchClient:
    """Submit, query and cancel through a driver's commands.

    Parameters
    ----------
    driver
        Translates to the batch system.
    runner
        Runs one command; tests inject faults here.

    Attributes
    ----------
    commands : collections.Counter
        Commands run so far, by program.
    """

    def __init__(self, driver: Driver, runner: Runner = run) -> None:
        self.driver = driver
        self.commands: Counter[str] = Counter()
        self._runner = runner
        self._array_limit: int | None = None

    async def submit(self, submission: Submission, spec: JobSpec, script: Path) -> str:
        """Submit one array, once: a repeat could double it.

        Returns
        -------
        str
            The array's id.

        Raises
        ------
        SubmitRejected
            If the batch system refused it; `SubmitLimited` if only because there are too many.
        BatchSystemUnavailable
            If it is not known whether the array exists.
        BatchSystemMissing
            If there is no such program here.
        """
        output = await self._run(self.driver.submit(submission, spec, script))
        killed = output.returncode < 0  # it refused nothing: its request may be on the way
        if killed or (output.returncode != 0 and self.driver.is_transient(output)):
            raise _unavailable(output)
        try:
            return self.driver.submitted(output)
        except SubmitRejected as error:
            limited = self.driver.LIMITED
            if limited is None or not limited.search(output.text):
                raise
            raise SubmitLimited(str(error.args[0]), hint=error.hint) from None

    async def query(self, arrays: Mapping[str, str | None]) -> Listing:
        """Ask once for all jobs of these arrays (name to id, None where not known).

        Raises
        ------
        BatchSystemUnavailable
            If there is no answer.  Then nothing was observed; nothing is gone.
        """
        output = await self._run(self.driver.query(arrays))
        if not self.driver.answered(output):
            raise _unavailable(output)
        return self.driver.states(output)

    async def history(self, arrays: Collection[str]) -> Listing:
        """Ask how jobs ended that the query no longer lists; empty where nothing is recorded."""
        jobs: dict[JobId, JobStatus] = {}
        for command in self.driver.history(arrays):
            try:
                output = await self._run(command)
                if self.driver.answered(output):
                    jobs.update(self.driver.ended(output).jobs)
            except BatchSystemError:
                continue  # a site without accounting, or words cut short: the log still tells
        return Listing(jobs)

    @property
    def tells_why(self) -> bool:
        """Whether the batch system can be asked why jobs wait, apart from the query."""
        return type(self.driver).why is not Driver.why

    async def why(self, array: str) -> Why:
        """Ask why the jobs of an array wait, where the query does not tell; empty if no answer."""
        command = self.driver.why(array)
        if command is None:
            return Why()
        try:
            return self.driver.because(await self._run(command))
        except BatchSystemError:
            return Why()

    async def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> None:
        """Cancel jobs with few commands; ``arrays`` gives the size of each array by id.

        Raises
        ------
        BatchSystemUnavailable
            If the batch system did not take it after several tries.
        BatchSystemError
            If it refused.
        """
        if not jobs:
            return
        refused = []
        for command in self.driver.cancel(jobs, arrays):
            output = await self._insist(command)
            if not self.driver.cancelled(output):
                refused.append(f"`{output.command}` failed: {output.text}")
        if refused:  # after all were tried: one array that cannot be cancelled keeps no other
            raise BatchSystemError("; ".join(refused))

    @property
    def extends(self) -> bool:
        """Whether the batch system has a command that moves the end of a job that runs."""
        return extension(self.driver.name) is not None

    async def allotted(self, job: str) -> Run | None:
        """From when to when a job may run; None where it does not run or has no end.

        Raises
        ------
        ConfigurationError
            If the batch system has no command that moves the end.
        BatchSystemUnavailable
            If there is no answer.
        """
        known = self._extension()
        output = await self._run(known.ask(job))
        if output.returncode != 0:
            raise _unavailable(output)
        return known.read(output, time.time())

    async def extend(self, job: str, walltime: int) -> None:
        """Ask for another walltime of a job that runs: so many seconds in all.

        That it was taken says nothing yet: `allotted` tells.

        Raises
        ------
        ConfigurationError
            If the batch system has no command for it.
        BatchSystemUnavailable
            If the batch system did not take it after several tries.
        BatchSystemError
            If it refused.
        """
        known = self._extension()
        output = await self._insist(known.extend(job, walltime))
        if output.returncode != 0:
            raise BatchSystemError(
                f"`{output.command}` was refused: {output.text}",
                hint=f"{known.WHO}; ask the site for more time, or start another cluster",
            )

    def _extension(self) -> Extension:
        found = extension(self.driver.name)
        if found is None:
            raise ConfigurationError(
                f"batch system {self.driver.name} has no command that gives a job more time",
                hint="ask for a longer walltime as it starts, or start another cluster",
            )
        return found

    async def array_limit(self) -> int:
        """The most jobs in one array; asked once."""
        if self._array_limit is None:
            command = self.driver.limits()
            if command is None:
                self._array_limit = self.driver.default_array_limit
            else:
                self._array_limit = self.driver.array_limit(await self._insist(command))
        return self._array_limit

    async def _insist(self, command: Command) -> Output:
        wait = FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                output = await self._run(command)
            except BatchSystemUnavailable:
                if attempt == ATTEMPTS:
                    raise
            else:
                if output.returncode == 0 or not self.driver.is_transient(output):
                    return output
                if attempt == ATTEMPTS:
                    raise _unavailable(output)
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  (spreads load)
            wait *= 2
        raise AssertionError("unreachable")  # pragma: no cover

    async def _run(self, command: Command) -> Output:
        self.commands[_program(command)] += 1
        return await self._runner(command)


def _program(command: Command) -> str:
    """Name that a user knows the command by: ``sbatch``, or ``local submit``."""
    argv = command.argv
    if "-m" in argv:  # a python module of ours
        module = argv.index("-m") + 1
        return f"{argv[module].rpartition('.')[2]} {argv[module + 1]}"
    return Path(argv[0]).name


def _unavailable(output: Output) -> BatchSystemUnavailable:
    return BatchSystemUnavailable(
        f"`{output.command.argv[0]}` got no answer (exit {output.returncode}): "
        f"{output.text or '(nothing printed)'}",
        hint="it is asked again; nothing is taken for gone meanwhile",
    )
