"""``dask-hpc jobs``: the live jobs of a cluster.  Printing only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dask_hpc.cli.render import clock, echo_json, echo_table, span
from dask_hpc.cli.which import cluster_argument, json_option, reach
from dask_hpc.cluster.view import STATES

if TYPE_CHECKING:
    from dask_hpc.cluster.view import JobRow

_HEADINGS = ("id", "job", "pool", "state", "for", "until", "node", "workers", "why it waits")
#: What a narrow terminal does without.
_SPARE = ("job", "pool", "workers")


@click.command("jobs")
@cluster_argument
@click.option("--pool", help="of this pool alone")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="in this state alone; repeat it",
)
@json_option
def jobs(name: str | None, *, pool: str | None, states: tuple[str, ...], as_json: bool) -> None:
    """List the live jobs of the cluster NAME: their states, nodes, deadlines, why they wait."""
    view = reach(name).view()
    found = [
        job
        for job in view["jobs"]
        if pool in (None, job["pool"]) and (not states or job["state"] in states)
    ]
    if as_json:
        echo_json(found)
    elif found:
        cells = [_cells(job, view["now"]) for job in found]
        echo_table(_HEADINGS, cells, right=("workers",), spare=_SPARE)
    else:
        click.echo(f"no such job; {view['line']}", err=True)


def _cells(job: JobRow, now: float) -> list[str]:
    since = job["started"] or job["submitted"]
    why = job["reason"]
    if job["starts"] is not None:
        why = f"{why}, starts about {clock(job['starts'], now)}".removeprefix(", ")
    return [
        job["id"] or "?",
        job["name"],
        job["pool"],
        job["state"],
        span(now - since),
        clock(job["deadline"], now),
        job["node"],
        str(job["workers"]),
        why,
    ]
