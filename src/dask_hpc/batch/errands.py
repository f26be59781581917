"""The batch system's commands, run by another machine: where the head's own may not speak with it.

Whoever is connected to the head from a machine that may looks for errands, claims one, runs it and
brings back what it printed.  How the two speak with each other is not known here.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dask_hpc import errors
from dask_hpc.batch.runner import TIMEOUT
from dask_hpc.drivers.base import Command, Output
from dask_hpc.errors import BatchSystemMissing, BatchSystemUnavailable

#: Seconds for which somebody is waited for who would run a command: who connects looks at once.
PATIENCE = 3.0
#: The same until the first has come: whoever started the head waits for its scheduler file, which
#: a shared file system may show late.
FIRST_PATIENCE = 120.0
#: Seconds for which one look may last.
LOOK = 20.0
#: Seconds for the way there and back.
_WAY = 15.0


@dataclass(eq=False, slots=True)
class _Errand:
    """One command, until it has been run."""

    command: Command
    claimed: asyncio.Event = field(default_factory=asyncio.Event)
    output: asyncio.Future[Output] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Errands:
    """Runs commands as `dask_hpc.batch.runner.run` does, but elsewhere.

    That nobody claims a command means that it was not run; once it is claimed, no answer means that
    nobody knows.
    """

    def __init__(self) -> None:
        self._errands: dict[int, _Errand] = {}
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._met = False  # whether anybody ever looked
        self._over = False

    async def __call__(self, command: Command) -> Output:
        """Have a command run.

        Raises
        ------
        BatchSystemMissing
            If nobody is there to run it, or its machine has no such program.
        BatchSystemUnavailable
            If it takes too long, or whoever ran it did not come back.
        """
        number, errand = next(self._numbers), _Errand(command)
        self._errands[number] = errand
        self._news.set()
        try:
            await self._claimed(errand)
            async with asyncio.timeout(TIMEOUT + _WAY):
                return await errand.output
        except TimeoutError:
            raise BatchSystemUnavailable(
                f"whoever ran `{command}` for this head did not come back",
                hint="the state of the batch system is unknown",
            ) from None
        finally:
            del self._errands[number]

    async def _claimed(self, errand: _Errand) -> None:
        """Wait until somebody takes it."""
        patience = PATIENCE if self._met else FIRST_PATIENCE
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._over else patience):
                await errand.claimed.wait()
        if not errand.claimed.is_set():
            raise BatchSystemMissing(
                f"nobody is there to run {errand.command.argv[0]} for this head, whose node may"
                " not submit jobs",
                hint="attach to the cluster where jobs may be submitted, or `dask-hpc scale` it"
                " there: that lends it the commands (docs/outliving.md)",
            )

    async def look(self, seconds: float) -> dict[str, Any] | None:
        """Commands that nobody has claimed, by number, as JSON; wait for so many seconds for one.

        Whoever looks can run them.  None once there will be no more.
        """
        self._met = True
        try:
            async with asyncio.timeout(min(seconds, LOOK)):
                while not (found := self._unclaimed()):
                    if self._over:
                        return None
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return {}
        return found

    def close(self) -> None:
        """Let those who look go, and wait for nobody any more."""
        self._over = True
        self._news.set()

    def _unclaimed(self) -> dict[str, Any]:
        return {
            str(number): {
                "argv": errand.command.argv,
                "unset": errand.command.unset,
                "variables": errand.command.variables,
            }
            for number, errand in self._errands.items()
            if not errand.claimed.is_set()
        }

    def claim(self, number: int) -> bool:
        """Take a command to run; False if it need not be, as another one does, or no more."""
        errand = self._errands.get(number)
        if errand is None or errand.claimed.is_set():
            return False
        errand.claimed.set()
        return True

    def bring(self, number: int, told: Mapping[str, Any]) -> None:
        """Tell what became of a command: its output, or the error of ours that it was."""
        errand = self._errands.get(number)
        if errand is None or errand.output.done():  # it was waited for no longer
            return
        if "error" in told:
            errand.output.set_exception(errors.from_json(told))
        else:
            code, out, err = int(told["returncode"]), str(told["stdout"]), str(told["stderr"])
            errand.output.set_result(Output(errand.command, code, out, err))


def command_of(words: Mapping[str, Any]) -> Command:
    """The command that was told by `Errands.look`."""
    return Command(
        tuple(map(str, words["argv"])),
        tuple(map(str, words["unset"])),
        tuple((str(name), str(value)) for name, value in words["variables"]),
    )
