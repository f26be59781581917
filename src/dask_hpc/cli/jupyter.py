"""``dask-hpc jupyter``: JupyterLab beside the scheduler of a cluster, and the way there.

Asking and printing only: what it is, and where it listens, is the head's business.
"""

from __future__ import annotations

import click

from dask_hpc.cli.render import echo_json
from dask_hpc.cli.which import cluster_argument, connect, find, json_option


@click.command("jupyter")
@cluster_argument
@click.option(
    "--listen",
    type=click.Choice(["socket", "loopback", "network"]),
    help="at a socket of yours (for ssh), with TLS on this machine, or with TLS on the network",
)
@click.option("--root", type=click.Path(), help="directory that it shows; default: this one")
@click.option("--stop", is_flag=True, help="end it and its kernels; the cluster goes on")
@json_option
def jupyter(
    name: str | None, *, listen: str | None, root: str | None, stop: bool, as_json: bool
) -> None:
    """Start JupyterLab beside the scheduler of the cluster NAME, or find the one that runs.

    What is printed has the secret link that opens it.
    """
    from dask_hpc.jupyter.reach import is_remote, line, link, tunnel
    from dask_hpc.jupyter.settings import usable_root

    cluster = find(name)
    head = connect(cluster)
    if stop:
        head.stop_jupyter()
        return
    there = head.jupyter(listen=listen, root=str(usable_root(root)), remote=is_remote(cluster.host))
    if as_json:
        echo_json({**there.to_json(), "url": link(there), "tunnel": tunnel(there)})
    else:
        click.echo(line(there))
