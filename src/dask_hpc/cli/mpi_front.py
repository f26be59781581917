"""The way into ``dask-mpi`` that every rank takes: who leads goes on, the others have only to wait.

Nothing large may be imported before that is known: of 32 ranks on a node, 31 need neither a command
line nor an engine.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from dask_hpc.cluster.mpi.launch import Launch, say
from dask_hpc.errors import ConfigurationError, HPCError
from dask_hpc.launch import rank as ranks
from dask_hpc.launch import world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_hpc.cluster.mpi.options import LaunchOptions
    from dask_hpc.cluster.mpi.program import NodeProgram

_ONLY_TEXT = frozenset(("--help", "--version"))
_BAD_REQUEST = 78


def main() -> NoReturn:
    """Run ``dask-mpi``."""
    run(sys.argv[1:], "dask-mpi")


def run(arguments: Sequence[str], program: str) -> NoReturn:
    """Run this rank, to its end.

    Parameters
    ----------
    arguments
        Of the command line.
    program
        Its name in messages.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a rank that waits ends without a traceback
    if _ONLY_TEXT.intersection(arguments):
        told = ranks.read(os.environ)
        _end(_Command(arguments, program).text() if told is None or told.rank == 0 else 0)
    try:
        launch = Launch(arguments)
    except HPCError as error:
        _refuse(error)
    if launch.leads:
        _end(_lead(launch, _Command(arguments, program)))
    try:
        code = launch.follow()
    except HPCError as error:
        say(str(error))
        code = 1
    _end(code)


def _lead(launch: Launch, command: _Command) -> int:
    from dask_hpc.cluster.mpi import lead
    from dask_hpc.cluster.mpi.program import NodeProgram

    program: NodeProgram | None = None
    code = 1
    try:
        launch.prepare()
        program = NodeProgram()
        code = lead.lead(launch, program, command.options)
    except command.stopped() as error:  # wrong usage: shown by one rank, ends them all
        code = command.show(error, speak=launch.rank == 0)
        lead.fail(launch, code)
    finally:
        if program is not None:
            program.close()
        launch.dismiss(code)
    return code


class _Command:
    """The command line; click is imported when it is read."""

    def __init__(self, arguments: Sequence[str], program: str) -> None:
        self._arguments = list(arguments)
        self._program = program

    def text(self) -> int:
        """Print what was asked for instead of a launch."""
        from dask_hpc.cli.mpi import mpi

        return int(mpi.main(self._arguments, prog_name=self._program, standalone_mode=False) or 0)

    def options(self) -> LaunchOptions:
        """Read it."""
        from dask_hpc.cli.mpi import mpi

        options: LaunchOptions = mpi.main(
            self._arguments, prog_name=self._program, standalone_mode=False
        )
        return options

    def stopped(self) -> type[Exception]:
        """Return click's errors."""
        import click

        return click.ClickException

    def show(self, error: Exception, *, speak: bool) -> int:
        """Show one; an exit code."""
        import click

        if not isinstance(error, click.ClickException):
            raise error
        if speak:
            error.show()
        return error.exit_code


def _refuse(error: HPCError) -> NoReturn:
    """End a launch whose ranks cannot know each other: each finds the same, one tells."""
    if world.let_first_speak(ranks.read(os.environ)):
        say(str(error))
    _end(_BAD_REQUEST if isinstance(error, ConfigurationError) else 1)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # MPI has ended where it was used; what follows would only cost time
