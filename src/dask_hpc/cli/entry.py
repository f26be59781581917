"""The command line's front door: which commands there are, and how errors are shown.

Commands live in files of their own, imported when called: a job's start and ``dask --help`` must
not pay for what they do not use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from dask_hpc.errors import ConfigurationError, HPCError, NodeError

_COMMANDS = {
    "worker": "dask_hpc.cli.worker:worker",
    "scheduler": "dask_hpc.cli.scheduler:scheduler",
    "mpi": "dask_hpc.cli.mpi:mpi",
    "demo": "dask_hpc.cli.demo:demo",
    "batch": "dask_hpc.cli.batch:batch",
    "site": "dask_hpc.cli.site:site",
    "doctor": "dask_hpc.cli.doctor:doctor",
    "report": "dask_hpc.cli.report:report",
    "plan": "dask_hpc.cli.plan:plan",
}
_HELP = {
    "worker": "Run the workers of one node.",
    "scheduler": "Run a scheduler by hand.",
    "mpi": "Turn the ranks of an MPI launch into a cluster.",
    "demo": "Try it: a cluster through the queue and a real analysis.",
    "batch": "Tell which batch system this machine has, and why.",
    "site": "Show the machines whose ways are known.",
    "doctor": "Look for what would go wrong here, and say what to do.",
    "report": "Tell what closed clusters have cost.",
    "plan": "Ask when jobs of which shape would start; submit nothing.",
}
#: EX_CONFIG of sysexits.h: what was asked can never work.
_BAD_REQUEST = 78


class _Failure(click.ClickException):
    """One of our errors: a message, no traceback."""

    def __init__(self, error: HPCError) -> None:
        super().__init__(str(error))
        wrong_request = isinstance(error, ConfigurationError | NodeError)
        self.exit_code = _BAD_REQUEST if wrong_request else 1  # type: ignore[misc]


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        return load(cmd_name) if cmd_name in _COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help from the table: click would import every command for its first line."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_HELP.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command, and show our errors as messages."""
        try:
            return super().invoke(ctx)
        except HPCError as error:
            raise _Failure(error) from error


def load(name: str) -> click.Command:
    """Import the command of this name."""
    module, _, attribute = _COMMANDS[name].partition(":")
    command = getattr(import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{_COMMANDS[name]} is no command")
    return command


@click.group("hpc", cls=LazyGroup)
@click.version_option(package_name="dask-hpc")
def hpc() -> None:
    """Secure Dask clusters through a supercomputer's batch queue."""


def main() -> None:
    """Run ``dask-hpc``."""
    if sys.argv[1:2] == ["mpi"]:  # every rank of a launch comes here: few need a command line
        from dask_hpc.cli.mpi_front import run

        run(sys.argv[2:], "dask-hpc mpi")
    hpc(prog_name="dask-hpc")


def worker() -> None:
    """Run ``dask-worker``, the classic name of ``dask-hpc worker``."""
    _run_alone("worker")


def scheduler() -> None:
    """Run ``dask-scheduler``, the classic name of ``dask-hpc scheduler``."""
    _run_alone("scheduler")


def _run_alone(name: str) -> None:
    try:
        load(name).main(prog_name=f"dask-{name}")
    except HPCError as error:
        failure = _Failure(error)
        failure.show()
        sys.exit(failure.exit_code)
