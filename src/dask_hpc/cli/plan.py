"""``dask-hpc plan``: when jobs of which shape would start, and which a cluster would take.

Options and printing only; what is asked is :mod:`dask_hpc.cluster.planning`'s business.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dask_hpc.control.shapes import Plan


@click.command("plan")
@click.option("--cores", type=click.IntRange(1), help="of a job, per node")
@click.option("--memory", help='of a job, per node, for example "4 GiB"')
@click.option("--walltime", help='of a job, for example "4 h"')
@click.option("--queue", help="queue (partition) to wait in")
@click.option("--account", help="who is charged")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="what else jobs may be, for example cores=8,walltime=30min,queue=short; repeat it",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    help="that are wanted; default: as many as one job of the largest shape has",
)
@click.option("--batch", metavar="NAME", help="slurm, pbs, ...; default: what the machine has")
@click.option("--site", metavar="NAME", help="a machine that `dask-hpc site list` shows")
@click.option("--set", "more", multiple=True, metavar="KEY=VALUE", help="any keyword, as YAML")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def plan(
    *,
    shapes: tuple[str, ...],
    workers: int,
    batch: str | None,
    site: str | None,
    more: tuple[str, ...],
    as_json: bool,
    **keywords: Any,
) -> None:
    """Ask when jobs of which shape would start; submit nothing. Exit code 1 if none can run."""
    from dask_hpc.cli.doctor import keyword
    from dask_hpc.cluster import planning

    given = {name: value for name, value in keywords.items() if value is not None}
    found = planning.plan(
        site,
        shapes=[_shape(text) for text in shapes],
        workers=workers,
        batch=batch,
        **{**given, **dict(map(keyword, more))},
    )
    if as_json:
        click.echo(json.dumps(_facts(found)))
    else:
        _table(found)
    raise SystemExit(1 if found.best.forecast.refused else 0)


def _shape(text: str) -> dict[str, str]:
    shape = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not value.strip():
            raise click.BadParameter(f"{part!r} is not KEY=VALUE", param_hint="--shape")
        shape[name.strip()] = value.strip()
    return shape


def _facts(found: Plan) -> dict[str, Any]:
    return {
        "chosen": found.chosen,
        "why": found.why,
        "workers": found.workers,
        "horizon": found.horizon,
        "shapes": [
            {
                "cores": row.shape.cores,
                "memory": row.shape.memory,
                "nodes": row.shape.nodes,
                "walltime": row.shape.walltime,
                "queue": row.shape.queue,
                "account": row.shape.account,
                "workers_per_job": row.shape.workers,
                "jobs": row.jobs,
                "starts": [
                    {"jobs": start.jobs, "seconds": round(start.seconds, 1)}
                    for start in row.forecast.starts
                ],
                "refused": row.forecast.refused,
                "said": row.forecast.said,
                "worker_hours": round(row.hours, 3),
            }
            for row in found.rows
        ],
    }


def _table(found: Plan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dask_hpc.control.shapes import HEADINGS, cells, span

    count = f"{found.workers} worker{'' if found.workers == 1 else 's'}"
    title = f"{count}, worker-hours within {span(found.horizon)}"
    table = Table(title=title, title_justify="left")
    for heading in HEADINGS:
        right = heading in ("jobs", "worker-hours")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for at, row in enumerate(cells(found)):
        table.add_row(*map(Text, row), style="bold" if at == found.chosen else None)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    console.print(Text(f"{found.best.shape}: {found.why}"))
