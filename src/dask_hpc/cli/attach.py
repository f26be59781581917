"""``dask-hpc attach``: how to use a cluster from elsewhere, or a Python that does.

Printing only; attaching is :class:`dask_hpc.HPCCluster`'s business.
"""

from __future__ import annotations

import code
import shlex
import socket
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from dask_hpc.cli.render import echo_json
from dask_hpc.cli.which import cluster_argument, connect, find, json_option

if TYPE_CHECKING:
    from dask_hpc.cluster.known import Known


@click.command("attach")
@cluster_argument
@click.option("--python", is_flag=True, help="start a Python with `cluster` and `client`")
@json_option
def attach(name: str | None, *, python: bool, as_json: bool) -> None:
    """Tell how a notebook, a script or a browser uses the cluster NAME.

    What is printed has the secret link of the dashboard.
    """
    cluster = find(name)
    if python:
        _interact(cluster)
        return
    link = connect(cluster).dashboard()
    lines = {
        "python": f'from dask_hpc import HPCCluster\ncluster = HPCCluster.attach("{cluster.name}")'
        "\nclient = cluster.get_client()",
        "client": "from distributed import Client\n"
        f'client = Client(scheduler_file="{cluster.scheduler_file}")',
        "shell": f"export DASK_HPC_SCHEDULER_FILE={shlex.quote(str(cluster.scheduler_file))}",
        "dashboard": _way_to(link, cluster) if link else "",
    }
    if as_json:
        echo_json({"name": cluster.name, "scheduler_file": str(cluster.scheduler_file), **lines})
        return
    for heading, key in (
        ("In a notebook or a script, with all methods of the cluster:", "python"),
        ("The same with the client alone:", "client"),
        ("In a shell, for scripts that call dask_hpc.connect():", "shell"),
        ("The dashboard, in a browser (the link is a secret):", "dashboard"),
    ):
        if lines[key]:
            indented = lines[key].replace("\n", "\n    ")
            click.echo(f"{heading}\n\n    {indented}\n")


def _way_to(link: str, cluster: Known) -> str:
    from dask_hpc.cluster.dashboard import tunnel_line

    if cluster.host == socket.gethostname():
        return tunnel_line(link)
    return tunnel_line(link, host=cluster.host, remote=True)


def _interact(cluster: Known) -> None:
    """Start a Python in which the cluster is at hand; it goes on afterwards."""
    from dask_hpc import HPCCluster

    with HPCCluster.attach(cluster.scheduler_file) as attached, attached.get_client() as client:
        click.echo(f"{attached}\n`cluster` and `client` are here; the cluster goes on after you")
        _python({"cluster": attached, "client": client, "HPCCluster": HPCCluster})


def _python(names: dict[str, object]) -> None:
    if find_spec("IPython") is None:
        code.interact(banner="", exitmsg="", local=names)
    else:
        import_module("IPython").start_ipython(argv=["--no-banner"], user_ns=names)
