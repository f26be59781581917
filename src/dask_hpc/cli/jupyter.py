"""``dask-hpc jupyter``: JupyterLab beside the scheduler of a cluster, and the way there.

Asking and printing only: what it is, and where it listens, is the head's business.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.cli.asking import pair
from dask_hpc.cli.render import echo_json
from dask_hpc.cli.waiting import progress
from dask_hpc.cli.which import cluster_argument, connect, find, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_hpc.cluster.head_client import HeadClient
    from dask_hpc.jupyter.reach import Reach


@click.command("jupyter")
@cluster_argument
@click.option(
    "--listen",
    type=click.Choice(["socket", "loopback", "network"]),
    help="at a socket of yours (for ssh), with TLS on this machine, or with TLS on the network",
)
@click.option("--root", type=click.Path(), help="directory that it shows; default: this one")
@click.option("--job", "in_job", is_flag=True, help="in a job of its own, not beside the scheduler")
@click.option(
    "--job-option",
    "job_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="of that job, for example walltime=2h; repeat it",
)
@click.option("--stop", is_flag=True, help="end it and its kernels; the cluster goes on")
@json_option
def jupyter(
    name: str | None,
    *,
    listen: str | None,
    root: str | None,
    in_job: bool,
    job_options: tuple[str, ...],
    stop: bool,
    as_json: bool,
) -> None:
    """Start JupyterLab beside the scheduler of the cluster NAME, or find the one that runs.

    What is printed has the secret link that opens it.  With --job it waits until the job has
    started; Ctrl-C ends the waiting and not the job.
    """
    from dask_hpc.jupyter.reach import is_remote, line, link, tunnel
    from dask_hpc.jupyter.settings import usable_root

    if job_options and not in_job:
        raise click.UsageError("--job-option is about a job: say --job")
    job = dict(pair(text, "--job-option") for text in job_options) if in_job else None
    cluster = find(name)
    head = connect(cluster)
    if stop:
        head.stop_jupyter()
        return
    words = {"listen": listen, "root": str(usable_root(root)), "remote": is_remote(cluster.host)}
    there = _opened(head, cluster.name, {**words, "job": job})
    if as_json:
        echo_json({**there.to_json(), "url": link(there), "tunnel": tunnel(there)})
    else:
        click.echo(line(there))


def _opened(head: HeadClient, name: str, words: Mapping[str, Any]) -> Reach:
    from dask_hpc.cluster.bring_up import pause
    from dask_hpc.jupyter.reach import Reach

    began = time.monotonic()
    try:
        with progress() as show:
            while not isinstance(there := head.jupyter(**words), Reach):
                show(there.told)
                time.sleep(pause(time.monotonic() - began))
    except KeyboardInterrupt:
        click.echo(
            f"its job goes on: the same command waits on, `dask-hpc jupyter {name} --stop` ends it",
            err=True,
        )
        raise
    return there
