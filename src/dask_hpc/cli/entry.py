"""The command line's front door: which commands there are, and how errors are shown.

Commands live in files of their own, imported when called: a job's start and ``dask --help`` must
not pay for what they do not use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.errors import (
    ConfigurationError,
    HeadUnreachable,
    HPCError,
    NodeError,
    SchedulerFileMissing,
    UnknownCluster,
    WorkersTimeout,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Each command: where it is, and its line in the help.
_COMMANDS = {
    "up": ("dask_hpc.cli.up:up", "Start a cluster that outlives this shell."),
    "ls": ("dask_hpc.cli.ls:ls", "List your clusters."),
    "status": ("dask_hpc.cli.status:status", "Show one cluster; --watch keeps showing it."),
    "scale": ("dask_hpc.cli.scale:scale", "Want so many workers or jobs."),
    "adapt": ("dask_hpc.cli.adapt:adapt", "Have as many jobs as the tasks can use."),
    "renew": ("dask_hpc.cli.renew:renew", "Ask for more time for a head in a job."),
    "jobs": ("dask_hpc.cli.jobs:jobs", "List the jobs of a cluster."),
    "logs": ("dask_hpc.cli.logs:logs", "Show what jobs have written."),
    "attach": ("dask_hpc.cli.attach:attach", "Tell how to use a cluster from elsewhere."),
    "jupyter": ("dask_hpc.cli.jupyter:jupyter", "Open JupyterLab beside the scheduler."),
    "down": ("dask_hpc.cli.down:down", "End clusters."),
    "revive": ("dask_hpc.cli.revive:revive", "Have the jobs of a dead head taken over."),
    "run": ("dask_hpc.cli.run:run", "Run a script on a cluster of its own."),
    "demo": ("dask_hpc.cli.demo:demo", "Try it: a cluster through the queue and a real analysis."),
    "doctor": (
        "dask_hpc.cli.doctor:doctor",
        "Look for what would go wrong here, and say what to do.",
    ),
    "plan": (
        "dask_hpc.cli.plan:plan",
        "Ask when jobs of which shape would start; submit nothing.",
    ),
    "report": ("dask_hpc.cli.report:report", "Tell what closed clusters have cost."),
    "batch": ("dask_hpc.cli.batch:batch", "Tell which batch system this machine has, and why."),
    "site": ("dask_hpc.cli.site:site", "Show the machines whose ways are known."),
    "completion": ("dask_hpc.cli.completion:completion", "Complete words in your shell."),
    "worker": ("dask_hpc.cli.worker:worker", "Run the workers of one node."),
    "scheduler": ("dask_hpc.cli.scheduler:scheduler", "Run a scheduler by hand."),
    "mpi": ("dask_hpc.cli.mpi:mpi", "Turn the ranks of an MPI launch into a cluster."),
}

#: Exit codes (docs/cli.md); click's own are 1 and 2.
NO_CLUSTER, NO_WORKERS, INTERRUPTED = 3, 4, 130
#: EX_CONFIG of sysexits.h: what was asked can never work.
BAD_REQUEST = 78
_CODES: tuple[tuple[tuple[type[HPCError], ...], int], ...] = (
    ((ConfigurationError, NodeError), BAD_REQUEST),
    ((UnknownCluster, HeadUnreachable, SchedulerFileMissing), NO_CLUSTER),
    ((WorkersTimeout,), NO_WORKERS),
)
_EPILOG = """\b
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 no such cluster, or it does
not answer; 4 workers did not come in time; 78 what was asked for can never
work; 130 interrupted.
"""


class _Failure(click.ClickException):
    """One of our errors: a message, no traceback."""

    def __init__(self, error: HPCError) -> None:
        super().__init__(str(error))
        codes = (code for kinds, code in _CODES if isinstance(error, kinds))
        self.exit_code = next(codes, 1)  # type: ignore[misc]


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
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table, for the same reason."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=line)
            for name, (_, line) in _COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that is not there, say what may have been meant."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(name, _COMMANDS, n=1)
            ctx.fail(f"No such command {name!r}.{f' Did you mean {close[0]!r}?' if close else ''}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command, and show our errors as messages."""
        try:
            return super().invoke(ctx)
        except HPCError as error:
            raise _Failure(error) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise SystemExit(INTERRUPTED) from None


def load(name: str) -> click.Command:
    """Import the command of this name."""
    place, _ = _COMMANDS[name]
    module, _, attribute = place.partition(":")
    command = getattr(import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{place} is no command")
    return command


@click.group("hpc", cls=LazyGroup, epilog=_EPILOG)
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
