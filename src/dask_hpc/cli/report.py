"""``dask-hpc report``: what closed clusters have cost, and one that runs so far.

Printing only; the figures are :mod:`dask_hpc.cluster.report`'s.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from dask_hpc.cli.which import ClusterName, connect
from dask_hpc.errors import HPCError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_hpc.cluster.report import Report


@click.command("report")
@click.argument("name", required=False, type=ClusterName())
@click.option("--last", type=click.IntRange(1), metavar="N", help="of the last N clusters alone")
@click.option("--json", "as_json", is_flag=True, help="print one JSON list")
def report(name: str | None, *, last: int | None, as_json: bool) -> None:
    """Tell what your closed clusters have cost, or, in full, those called NAME.

    One of that name that runs comes last, with what it has cost so far.
    """
    from dask_hpc.cluster.report import history

    found = [each for each in history() if name in (None, each["cluster"])]
    found = [*found, *(_running(name) if name else ())][-(last or 0) :]
    if name and not found:
        raise HPCError(
            f"no cluster {name} runs or is in the accounts",
            hint="`dask-hpc report` lists those in the accounts, `dask-hpc ls` those that run",
        )
    if as_json:
        click.echo(json.dumps(found))
    elif name:
        for each in found:
            click.echo(f"{_when(each)}: {each}")
    elif found:
        _table(found)
    else:
        click.echo("no cluster that had jobs has been closed yet")


def _running(name: str) -> list[Report]:
    """The report of the cluster of this name, if it runs."""
    from dask_hpc.cluster import known

    return [
        connect(each).report()
        for each in known.clusters()
        if each.name == name and each.alive is not False
    ]


def _when(found: Report) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(found["opened"]))


def _table(found: Sequence[Report]) -> None:
    from rich.console import Console
    from rich.table import Table

    from dask_hpc.cluster.report import duration

    table = Table()
    for heading in ("opened", "cluster"):
        table.add_column(heading, overflow="fold")
    for heading in ("jobs", "waited", "core-hours", "used", "idle", "lost"):
        table.add_column(heading, justify="right")
    for each in found:
        total = each["total"]
        hours, waits = total["core_hours"], total["wait_seconds"]
        waited = duration(waits["median"]) if waits["jobs"] else "-"
        row = (str(total["jobs"]["submitted"]), waited, *_shares(hours))
        table.add_row(_when(each), each["cluster"], *row)
    if len(found) > 1:
        every = [each["total"]["core_hours"] for each in found]
        hours = {key: sum(one[key] for one in every) for key in every[0]}
        jobs = sum(each["total"]["jobs"]["submitted"] for each in found)
        table.add_section()
        table.add_row("", "all", str(jobs), "", *_shares(hours))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


def _shares(hours: dict[str, float]) -> list[str]:
    allocated = hours["allocated"]
    parts = [hours[name] / allocated if allocated else 0.0 for name in ("used", "idle", "lost")]
    written = f"{allocated:,.2f}" if allocated >= 1 else f"{allocated:.2g}"
    return [written, *(f"{part:.0%}" for part in parts)]
