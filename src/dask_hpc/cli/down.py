"""``dask-hpc down``: end clusters, and clear away what those left whose head has died.

A head ends itself, the job of one that is not up is cancelled; clearing away after a dead one is
:mod:`dask_hpc.control.reaper`'s business.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from dask_hpc.cli.which import ClusterName, connect, find
from dask_hpc.errors import HeadUnreachable, HPCError, UnknownCluster

if TYPE_CHECKING:
    from dask_hpc.cluster.known import Known

#: Seconds to see the jobs of a dead head gone.
_REAPING = 60.0
#: Clusters ended at a time.
_AT_ONCE = 8


@click.command("down")
@click.argument("names", nargs=-1, type=ClusterName(), metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="all your clusters, of notebooks too")
@click.option(
    "--force",
    is_flag=True,
    help="also of a head on another host that does not answer: cancel its jobs from here",
)
def down(names: tuple[str, ...], *, every: bool, force: bool) -> None:
    """End the clusters called NAME: their tasks, workers, jobs and heads."""
    if every and names:
        raise click.UsageError("say names or --all")
    clusters = _all() if every else [_found(name) for name in names or (None,)]
    if not clusters:
        click.echo("you have no cluster", err=True)
        return
    errors = _end_all(clusters, force=force)
    if errors:
        for error in errors[:-1]:
            click.echo(f"Error: {error}", err=True)
        raise errors[-1]


def _all() -> list[Known]:
    from dask_hpc.cluster import known

    return known.clusters()


def _found(name: str | None) -> Known:
    """Find a cluster, or what one has left that could not cancel its jobs."""
    from dask_hpc.cluster import known

    try:
        return find(name)
    except UnknownCluster:
        left = known.remains(name) if name else None
        if left is None:
            raise
        return left


def _end_all(clusters: list[Known], *, force: bool) -> list[HPCError]:
    from concurrent.futures import ThreadPoolExecutor, as_completed

    errors = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for ended in as_completed([threads.submit(_end, each, force) for each in clusters]):
            try:
                click.echo(ended.result())
            except HPCError as error:
                errors.append(error)
    return errors


def _end(cluster: Known, force: bool) -> str:  # noqa: FBT001  (a callback)
    """End one cluster; what to say of it."""
    if cluster.pending:
        return _call_off(cluster)
    if cluster.alive is False:
        _clear_away(cluster)
        return f"what cluster {cluster.name} left is cleared away: its head had died"
    from dask_hpc.cluster.lending import Lending

    try:
        with Lending(cluster):
            connect(cluster).shutdown()
    except HeadUnreachable as error:
        if cluster.alive is None and force:
            _clear_away(cluster)
            return f"the jobs of cluster {cluster.name} are cancelled; its head did not answer"
        if cluster.alive is None:
            raise HeadUnreachable(
                str(error.args[0]),
                hint=f"if {cluster.host} is dead for good: dask-hpc down --force {cluster.name}",
            ) from error
        raise
    return f"cluster {cluster.name} is closed{_cost(cluster)}"


def _call_off(cluster: Known) -> str:
    """Cancel the job of a head that is not up, and remove what it was to start from."""
    from dask_hpc.cluster import pending
    from dask_hpc.cluster.bring_up import clear

    if not asyncio.run(pending.cancel(cluster.directory, _REAPING)):
        raise HPCError(
            f"the job {cluster.head_job} of cluster {cluster.name}'s head could not be cancelled",
            hint="see the batch system's queue, and try again",
        )
    clear(cluster.directory)
    return f"cluster {cluster.name} is called off: the job of its head is cancelled"


def _clear_away(cluster: Known) -> None:
    """Cancel the jobs of a dead head by its journal, and remove its directory."""
    from dask_hpc.cluster.directory import ClusterDirectory
    from dask_hpc.control.reaper import reap

    if not asyncio.run(reap(cluster.directory, patience=_REAPING)):
        raise HPCError(
            f"jobs of cluster {cluster.name} are left and could not be cancelled",
            hint="see the batch system's queue, and try again",
        )
    ClusterDirectory(cluster.directory, cluster.directory / "logs").clear(keep_logs=False)


def _cost(cluster: Known) -> str:
    """What it has cost, if it had jobs: its account is kept when it closes."""
    from dask_hpc.cluster.report import history, summary

    for each in reversed(history()):
        if each["cluster"] == cluster.name and each["opened"] + each["seconds"] >= cluster.opened:
            return f": {summary(each['total'])}"
    return ""
