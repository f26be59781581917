"""``dask-hpc status``: one cluster in full, once or for as long as it lives.

Printing only; what there is to say is the head's :class:`~dask_hpc.cluster.view.View`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from dask_hpc.cli.render import (
    clock,
    echo_facts,
    echo_json,
    echo_table,
    facts_grid,
    on_terminal,
    span,
)
from dask_hpc.cli.which import cluster_argument, connect, find, json_option
from dask_hpc.errors import HeadUnreachable, UnknownCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dask_hpc.cluster.head_client import HeadClient
    from dask_hpc.cluster.known import Known
    from dask_hpc.cluster.view import PoolRow, View

#: Seconds after which a picture is drawn anew although nothing has changed: times go on.
_REDRAW = 10.0
#: The same where a line is printed for each change alone: as long as a head keeps a call.
_PLAIN_REDRAW = 30.0


@click.command("status")
@cluster_argument
@click.option("--watch", is_flag=True, help="go on until the cluster ends, or Ctrl-C")
@json_option
def status(name: str | None, *, watch: bool, as_json: bool) -> None:
    """Show the cluster NAME: its head, jobs, workers, failures and cost."""
    cluster = find(name)
    head = connect(cluster)
    if watch:
        _watch(cluster, head, as_json=as_json)
        return
    view = head.view(jobs=as_json)
    if as_json:
        echo_json(view)
        return
    echo_facts(facts(view))
    if len(view["pools"]) > 1:
        click.echo()
        _echo_pools(view)


# -- what is said ---------------------------------------------------------------------------------


def facts(view: View) -> dict[str, str]:
    """Say how a cluster is, in words by name; empty where there is nothing to say."""
    now = view["now"]
    joined = sum(pool["workers"] for pool in view["pools"].values())
    return {
        "cluster": view["name"],
        "status": view["status"],
        "batch system": view["batch"],
        "head": _head(view),
        "open": f"since {clock(view['opened'], now)} ({span(now - view['opened'])})",
        "jobs": view["line"],
        "next start": _next_start(view),
        "workers": f"{joined} of {asked_for(view)}",
        "adapting": _adapting(view),
        "cost": view["cost"],
        "scheduler file": view["scheduler_file"],
        "logs": view["log_directory"],
        "dashboard": view["dashboard"] and f"{view['dashboard']} (`dask-hpc attach` opens it)",
        "failures": "\n".join(f"{clock(when, now)} {what}" for when, what in view["failures"]),
        "problem": view["problem"],
    }


def _head(view: View) -> str:
    where = f"process {view['pid']} on {view['host']}"
    if view["head_job"]:
        where = f"job {view['head_job']}, {where}"
    end = view["head_deadline"]
    until = f", until {clock(end, view['now'])}" if end is not None else ""
    return f"{view['head']}: {where}{until}"


def asked_for(view: View) -> int:
    """Workers that all the wanted jobs have."""
    return sum(pool["wanted"] * pool["workers_per_job"] for pool in view["pools"].values())


def first_start(view: View) -> float | None:
    """When the first of the jobs that wait starts, if the batch system has an estimate."""
    starts = (pool["starts"] for pool in view["pools"].values())
    return min((moment for moment in starts if moment is not None), default=None)


def _next_start(view: View) -> str:
    moment = first_start(view)
    if moment is None:
        return ""
    return f"about {clock(moment, view['now'])}, says the batch system"


def _adapting(view: View) -> str:
    words = {name: _bounds(pool) for name, pool in view["pools"].items() if pool["adapting"]}
    if len(view["pools"]) == 1:
        return "".join(words.values())
    return "; ".join(f"{name} {each}" for name, each in words.items())


def _bounds(pool: PoolRow) -> str:
    bounds = pool["adapting"]
    if bounds is None:
        return ""
    if bounds["maximum"] is None:
        return f"{bounds['minimum']} jobs or more"
    return f"{bounds['minimum']} to {bounds['maximum']} jobs"


def _echo_pools(view: View) -> None:
    rows = [
        [
            name,
            str(pool["wanted"]),
            str(pool["jobs"].get("running", 0)),
            str(pool["workers"]),
            _bounds(pool),
            "; ".join(pool["reasons"]),
        ]
        for name, pool in view["pools"].items()
    ]
    headings = ("pool", "jobs wanted", "running", "workers", "adapting", "why jobs wait")
    echo_table(headings, rows, right=headings[1:4])


# -- watching -------------------------------------------------------------------------------------


def _watch(cluster: Known, head: HeadClient, *, as_json: bool) -> None:
    if as_json:
        for view in _views(cluster, head, _PLAIN_REDRAW):
            echo_json(view)
    elif on_terminal():
        _watch_live(cluster, head)
    else:
        said = ""
        for view in _views(cluster, head, _PLAIN_REDRAW):
            line = (
                f"{sum(pool['workers'] for pool in view['pools'].values())} workers; {view['line']}"
            )
            if line != said:
                click.echo(f"{time.strftime('%H:%M:%S', time.localtime(view['now']))} {line}")
                said = line
    click.echo(f"cluster {cluster.name} has been ended", err=True)


def _watch_live(cluster: Known, head: HeadClient) -> None:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        for view in _views(cluster, head, _REDRAW):
            live.update(facts_grid(facts(view)), refresh=True)


def _views(cluster: Known, head: HeadClient, seconds: float) -> Iterator[View]:
    """Picture after picture, at each change, until the cluster has ended."""
    view = head.view()
    while True:
        yield view
        if view["status"] != "running":  # it ends: what waits for more would hold it up
            return
        try:
            view = head.wait(view["changes"], seconds)
        except HeadUnreachable:
            if _ended(cluster, find):
                return
            raise


def _ended(cluster: Known, look: Callable[[str], Known]) -> bool:
    """Whether a head that does not answer has been closed in order: then nothing is left of it."""
    try:
        return look(cluster.name).opened != cluster.opened
    except UnknownCluster:
        return True
