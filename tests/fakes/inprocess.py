"""A fake system in the test's own process: ten thousand jobs, a virtual clock, no processes."""

from __future__ import annotations

import os
from collections import Counter

from dask_hpc.drivers.base import Command, Output
from dask_hpc.errors import BatchSystemUnavailable
from tests.fakes.core import Core
from tests.fakes.front import answer
from tests.fakes.path import dialect


class InProcess:
    """Stands where the runner stands."""

    def __init__(self, name: str, core: Core) -> None:
        self.dialect = dialect(name)
        self.core = core

    async def run(self, command: Command) -> Output:
        environ = command.environment(os.environ)
        given = answer(self.dialect, self.core, command.argv, environ)
        if given.fate == "hangs":
            raise BatchSystemUnavailable(f"`{command}` did not end within 60 s")
        if given.fate == "killed":
            return Output(command, -9, given.out, given.err)
        return Output(command, given.code, given.out, given.err)

    def ran(self) -> Counter[str]:
        """How often each program ran."""
        return Counter(command[0] for command in self.core.commands)
