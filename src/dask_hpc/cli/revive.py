"""``dask-hpc revive``: another head for the jobs of one that has died.

Options only; starting it is :mod:`dask_hpc.cluster.bring_up`'s business.
"""

from __future__ import annotations

import click

from dask_hpc.cli.render import echo_json
from dask_hpc.cli.waiting import progress
from dask_hpc.cli.which import cluster_argument, connect, find, json_option


@click.command("revive")
@cluster_argument
@click.option(
    "--force",
    is_flag=True,
    help="its head was on another host, and is dead for good: two would submit every job twice",
)
@json_option
def revive(name: str | None, *, force: bool, as_json: bool) -> None:
    """Start a new head for the cluster NAME, whose detached head has died: its jobs go on.

    Its guardian does so by itself; this is for when both died, as with their machine.
    """
    from dask_hpc.cluster import bring_up

    cluster = find(name)
    with progress() as show:
        cluster = bring_up.revive(cluster, force=force, told=show)
    view = connect(cluster).view()
    if as_json:
        echo_json(view)
        return
    click.echo(f"cluster {cluster.name} has a new head: {view['line']}")
    click.echo("tasks and results of the earlier one are lost: attach and submit again", err=True)
