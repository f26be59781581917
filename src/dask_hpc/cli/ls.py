"""``dask-hpc ls``: this user's clusters, on a line each.

Printing only; what clusters there are is :mod:`dask_hpc.cluster.known`'s business, how each is
doing its head's.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.cli.render import echo_json, echo_table, span
from dask_hpc.cli.which import connect, json_option
from dask_hpc.errors import HeadUnreachable, HPCError

if TYPE_CHECKING:
    from dask_hpc.cluster.known import Known
    from dask_hpc.cluster.pending import Seen
    from dask_hpc.cluster.view import View

#: Seconds for a head to answer: one that hangs must not keep the list from the others.
PATIENCE = 5.0
#: Heads asked at a time.
_AT_ONCE = 16
_HEADINGS = ("name", "batch", "status", "workers", "open", "head", "jobs")


@click.command("ls")
@json_option
def ls(*, as_json: bool) -> None:
    """List your clusters: also those whose head waits in the queue, or died and left something."""
    from dask_hpc.cluster import known

    rows = _asked(known.clusters())
    if as_json:
        echo_json(rows)
    elif rows:
        cells = [_cells(row) for row in rows]
        echo_table(_HEADINGS, cells, right=("workers",), spare=("head", "open"))
    else:
        click.echo("you have no cluster; `dask-hpc up` starts one", err=True)


def _asked(clusters: list[Known]) -> list[dict[str, Any]]:
    """Ask all heads at once how they are; of those that wait in the queue, the batch system."""
    waiting = [each.directory for each in clusters if each.pending]
    if len(clusters) < 2 and not waiting:  # noqa: PLR2004  (nobody to wait for beside it)
        return [_row(each) for each in clusters]
    from concurrent.futures import ThreadPoolExecutor

    from dask_hpc.cluster import pending

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        queue = threads.submit(asyncio.run, pending.look(waiting, PATIENCE)) if waiting else None
        rows = threads.map(_row, clusters)
        seen = queue.result() if queue else {}
        return [
            row | _from_queue(seen.get(each.directory), each.name) if each.pending else row
            for each, row in zip(clusters, rows, strict=True)
        ]


def _from_queue(seen: Seen | None, name: str) -> dict[str, Any]:
    if seen is None:
        return {"line": "the head came up this moment"}
    if seen.live is False:
        return {"status": "dead", "line": f"{seen.line}; `dask-hpc down {name}` clears it away"}
    return {"line": seen.line}


def _row(cluster: Known) -> dict[str, Any]:
    row = _blank(cluster)
    if cluster.pending:
        return row | {"status": "pending"}
    if cluster.alive is False:
        row["line"] = f"`dask-hpc down {cluster.name}` clears away what it left"
        return row
    try:
        view = connect(cluster, PATIENCE).view(jobs=False)
    except HeadUnreachable as error:
        return row | {"line": str(error.args[0])}
    except HPCError as error:
        return row | {"line": str(error.args[0]), "problem": str(error)}
    return row | _from_head(view)


def _blank(cluster: Known) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "batch": cluster.batch,
        "status": "dead" if cluster.alive is False else "no answer",
        "head": cluster.head,
        "host": cluster.host,
        "pid": cluster.pid,
        "head_job": cluster.head_job,
        "opened": cluster.opened,
        "directory": str(cluster.directory),
        "scheduler_file": str(cluster.scheduler_file),
        "workers": None,
        "jobs": {},
        "line": "",
        "problem": "",
    }


def _from_head(view: View) -> dict[str, Any]:
    jobs: dict[str, int] = {}
    for pool in view["pools"].values():
        for state, count in pool["jobs"].items():
            jobs[state] = jobs.get(state, 0) + count
    return {
        "status": view["status"],
        "workers": sum(pool["workers"] for pool in view["pools"].values()),
        "jobs": jobs,
        "line": view["line"],
        "problem": view["problem"],
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["batch"],
        row["status"],
        "" if row["workers"] is None else str(row["workers"]),
        span(time.time() - row["opened"]),
        f"{row['head']}, {row['head_job'] or row['host']}",
        row["line"],
    ]
