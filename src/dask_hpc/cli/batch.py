"""``dask-hpc batch``: which batch system this machine has, and how we know.

Printing only; looking is :mod:`dask_hpc.batch.detect`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click


@click.command("batch")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def batch(*, as_json: bool) -> None:
    """Show the batch system that this machine has, its version, how we know, and if it answers."""
    from dask_hpc.batch.detect import look

    rows = asdict(look())
    if as_json:
        click.echo(json.dumps(rows))
    elif sys.stdout.isatty():
        _table(rows)
    else:
        for key, value in rows.items():
            click.echo(f"{key}: {value or '-'}")


def _table(rows: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    for key, value in rows.items():
        table.add_row(key, Text(value or "-"))  # a path is no markup
    Console().print(table)
