"""Waiting for workers, and saying meanwhile how far they are.

No polling: the head answers when something changes.  Progress goes to standard error, so that what
a command prints can be read by another.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from dask_hpc import errors
from dask_hpc.cli.render import clock
from dask_hpc.cli.status import asked_for, first_start
from dask_hpc.errors import HPCError, WorkersTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_hpc.cluster.view import View

#: Seconds that one call may stay with the head.
_CALL = 30.0


class Telling(Protocol):
    """What tells how a cluster is: a head client."""

    def view(self) -> View:
        """How it is."""

    def wait(self, changes: int, seconds: float) -> View:
        """How it is after the next change, or after so many seconds."""


def seconds_of(timeout: str | None) -> float | None:
    """Read a duration; None waits as long as it takes."""
    if timeout is None:
        return None
    from dask_hpc.node.options import parse_seconds

    return parse_seconds(timeout)


def wait_for(head: Telling, workers: int | None, timeout: float | None) -> View:
    """Wait until workers have joined.

    Parameters
    ----------
    head
        Of the cluster.
    workers
        How many; None waits for all that the wanted jobs have.
    timeout
        Seconds; None waits as long as it takes.

    Returns
    -------
    View
        With that many workers.

    Raises
    ------
    WorkersTimeout
        If they have not joined in time.
    JobStartError, SubmitRejected
        If no more will join, because jobs fail or are refused.
    HPCError
        If the cluster ends meanwhile.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with progress() as show:
        view = head.view()
        while (joined := _joined(view)) < (asked := _wanted(view, workers)):
            show(f"{joined} of {asked} workers joined; {_jobs(view)}")
            _check(view)
            left = _CALL if deadline is None else min(_CALL, deadline - time.monotonic())
            if left <= 0:
                raise WorkersTimeout(
                    f"{joined} of {asked} workers of cluster {view['name']} joined in"
                    f" {timeout:g} s; {_jobs(view)}",
                    hint="time in the queue is no failure: wait longer, or ask for less per job",
                )
            view = head.wait(view["changes"], left)
    return view


def _joined(view: View) -> int:
    return sum(pool["workers"] for pool in view["pools"].values())


def _wanted(view: View, workers: int | None) -> int:
    return asked_for(view) if workers is None else workers


def _jobs(view: View) -> str:
    moment = first_start(view)
    starts = "" if moment is None else f"; the next starts about {clock(moment, view['now'])}"
    return f"jobs: {view['line']}{starts}"


def _check(view: View) -> None:
    if view["problem"]:
        message, _, hint = view["problem"].partition("\n  -> ")
        raise errors.from_json({"error": view["problem_kind"], "message": message, "hint": hint})
    if view["status"] != "running":
        raise HPCError(f"cluster {view['name']} is {view['status']}")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show one line that changes: in place on a terminal, a line for each change elsewhere."""
    if not sys.stderr.isatty():
        yield _PlainLines()
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    with console.status("") as shown:
        yield lambda text: shown.update(Text(text))


class _PlainLines:
    """Prints a line unless it is the last one again."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, text: str) -> None:
        if text != self._said:
            click.echo(text, err=True)
            self._said = text
