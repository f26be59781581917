"""Tables and times on a terminal, plain lines in a pipe.

Nothing here knows what the rows mean.  rich is imported for a terminal alone: scripts that read a
listing do not wait for it.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

#: Words that are states, in any table.
_COLOURS = {
    "running": "green",
    "starting": "cyan",
    "pending": "yellow",
    "held": "yellow",
    "leaving": "blue",
    "ending": "blue",
    "closing": "blue",
    "in doubt": "magenta",
    "no answer": "bold red",
    "dead": "bold red",
}
#: Characters that the last column must be left with, for a table to be read.
_LAST_COLUMN = 16
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
#: Of a long time, the smaller unit is left out.
_LONG = 10


def echo_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value, default=str))


def on_terminal() -> bool:
    """Whether somebody looks at standard output."""
    return sys.stdout.isatty()


# -- tables ---------------------------------------------------------------------------------------


def echo_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print a table.

    Parameters
    ----------
    headings
        Of the columns; the last one may be broken into lines.
    rows
        A text for each column.
    right
        Headings of numbers.
    spare
        Headings of columns that a narrow terminal does without, the first one first.

    Notes
    -----
    In a pipe each row is a line, whatever its length.  On a terminal too narrow for the columns
    that must be there each row becomes a block of lines.
    """
    lines = plain(headings, rows, right=right)
    if not on_terminal():
        for line in lines:
            click.echo(line)
        return
    width = shutil.get_terminal_size().columns
    for left_out in range(len(spare) + 1):
        kept = [at for at, each in enumerate(headings) if each not in spare[:left_out]]
        fewer = [headings[at] for at in kept]
        cells = [[row[at] for at in kept] for row in rows]
        if _fits(fewer, cells, width):
            _console().print(_table(fewer, cells, right))
            return
    _echo_blocks(headings, rows)


def plain(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
) -> list[str]:
    """Write a table as aligned lines, the headings first."""
    table = [headings, *([cell or "-" for cell in row] for row in rows)]
    widths = _widths(table)
    return [
        "  ".join(
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def _fits(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    *others, last = _widths([headings, *rows])
    return sum(each + 2 for each in others) + min(last, _LAST_COLUMN) <= width


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        last = heading == headings[-1]
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=not last,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell or "-", _COLOURS.get(cell, "")) for cell in row))
    return table


def _echo_blocks(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = _console()
    for row in rows:
        console.print(facts_grid(dict(zip(headings, row, strict=True))))
        console.print()


def _console() -> Console:
    from rich.console import Console

    width, height = shutil.get_terminal_size()  # of a dumb terminal rich does not ask
    return Console(width=width, height=height, highlight=False)


# -- facts ----------------------------------------------------------------------------------------


def echo_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one a line; what is empty is left out."""
    if on_terminal():
        _console().print(facts_grid(facts))
        return
    for name, value in facts.items():
        if value:
            click.echo(f"{name}: {value}")


def facts_grid(facts: Mapping[str, str]) -> Table:
    """Names and values as a rich grid."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            grid.add_row(Text(name, "bold"), Text(value, _COLOURS.get(value, "")))
    return grid


# -- times ----------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """Write how long: ``40 s``, ``25 min``, ``3 h 20 min``, ``2 d 4 h``."""
    seconds = max(0.0, seconds)
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return _two(seconds, _HOUR, "h", _MINUTE, "min")
    return _two(seconds, _DAY, "d", _HOUR, "h")


def _two(seconds: float, large: float, name: str, small: float, below: str) -> str:
    count, rest = divmod(seconds, large)
    less = int(rest // small)
    return (
        f"{count:.0f} {name}"
        if count >= _LONG or not less
        else f"{count:.0f} {name} {less} {below}"
    )


def clock(moment: float | None, now: float) -> str:
    """Write when, in local time: ``14:03``, or ``2026-03-01 14:03`` on another day."""
    if moment is None:
        return ""
    then, today = time.localtime(moment), time.localtime(now)
    same_day = then[:3] == today[:3]
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", then)
