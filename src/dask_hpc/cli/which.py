"""Which cluster a command is about: by its name, by completion, or the only one there is.

What clusters there are is :mod:`dask_hpc.cluster.known`'s business.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.errors import HeadUnreachable, UnknownCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.shell_completion import CompletionItem

    from dask_hpc.cluster.head_client import HeadClient
    from dask_hpc.cluster.known import Known

    _Text = click.ParamType[str]
else:
    _Text = click.ParamType  # before click 8.2 it takes no type


class ClusterName(_Text):
    """A name that the shell completes."""

    name = "cluster"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of this user's clusters."""
        del ctx, param
        from click.shell_completion import CompletionItem

        from dask_hpc.cluster import known

        return [
            CompletionItem(each.name, help=f"{each.batch}, {_where(each)}")
            for each in known.clusters()
            if each.name.startswith(incomplete)
        ]


def _where(cluster: Known) -> str:
    return f"waits as job {cluster.head_job}" if cluster.pending else f"on {cluster.host}"


def cluster_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the optional argument ``[NAME]``."""
    return click.argument("name", required=False, type=ClusterName())(function)


json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")


def find(name: str | None) -> Known:
    """Find a cluster; without a name, the only one there is.

    Parameters
    ----------
    name
        Or the path of a scheduler file, or one of the jobs as ``slurm:1234``.

    Raises
    ------
    UnknownCluster
        If there is none of that name, or none at all.
    click.UsageError
        If there are several and none is named.
    """
    from dask_hpc.cluster import known

    if name is not None:
        return known.find(name)
    every = known.clusters()
    living = [each for each in every if each.alive is not False] or every
    if not living:
        raise UnknownCluster("you have no cluster", hint="`dask-hpc up` starts one")
    if len(living) > 1:
        names = ", ".join(each.name for each in living)
        raise click.UsageError(f"you have several clusters; say which: {names}")
    return living[0]


def connect(known: Known, timeout: float = 10.0) -> HeadClient:
    """Speak with the head of a cluster.

    Raises
    ------
    HeadUnreachable
        If it has died, or is not up yet.
    """
    from dask_hpc.cluster import pending
    from dask_hpc.cluster.head_client import HeadClient

    if known.pending:
        raise pending.unreachable(known.directory)
    if known.alive is False:
        hint = f"`dask-hpc down {known.name}` clears away what it left"
        if known.head == "detached":
            again = f"`dask-hpc revive {known.name}`"
            hint = f"its guardian starts it again in a moment; if not, {again} does; {hint}"
        raise HeadUnreachable(
            f"the head of cluster {known.name} has died: it was process {known.pid} on"
            f" {known.host}",
            hint=hint,
        )
    return HeadClient(known, timeout)


def reach(name: str | None) -> HeadClient:
    """Speak with the head of the cluster of this name, or of the only one."""
    return connect(find(name))


@contextmanager
def steer(name: str | None) -> Iterator[HeadClient]:
    """Reach a head to change something; meanwhile it may use this machine's commands."""
    from dask_hpc.cluster.lending import Lending

    cluster = find(name)
    head = connect(cluster)
    with Lending(cluster):
        yield head
