"""``dask-hpc up``: a cluster that outlives this shell.

Options and progress; starting a head is :mod:`dask_hpc.cluster.bring_up`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dask_hpc.cli.asking import asked, asking, pair
from dask_hpc.cli.render import echo_json
from dask_hpc.cli.waiting import progress, seconds_of, wait_for
from dask_hpc.cli.which import connect, json_option
from dask_hpc.errors import HPCError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_hpc.cli.asking import Asked
    from dask_hpc.cluster.known import Known

#: Workers that are waited for: those that were asked for.
_ALL = "all"


@click.command("up")
@asking
@click.option(
    "--head",
    "place",
    type=click.Choice(["detached", "job"]),
    default="detached",
    show_default=True,
    help="where the scheduler runs: a process on this machine, or a job of its own",
)
@click.option(
    "--head-option",
    "head_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="of the head's job, for example walltime=12h; repeat it",
)
@click.option(
    "--wait",
    is_flag=False,
    flag_value=_ALL,
    default=_ALL,
    metavar="[WORKERS]",
    help="wait for so many workers; default: for all that were asked for",
)
@click.option("--no-wait", is_flag=True, help="do not wait for workers")
@click.option(
    "--timeout", help='longest wait for the head\'s job, and for workers, for example "10 min"'
)
@json_option
def up(
    *,
    place: str,
    head_options: tuple[str, ...],
    wait: str,
    no_wait: bool,
    timeout: str | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Start a cluster that goes on when you log out; `dask-hpc down` ends it.

    While it waits for workers, Ctrl-C ends the waiting and not the cluster.
    """
    request, seconds, workers = asked(**options), seconds_of(timeout), _count(wait)
    if head_options and place != "job":
        raise click.UsageError("--head-option is about the head's job: say --head job")
    of_head = dict(pair(text, "--head-option") for text in head_options) if place == "job" else None
    if dry_run:
        from dask_hpc.cli.dry_run import rehearse

        rehearse(request, place, of_head, as_json=as_json)
        return
    from dask_hpc.cluster.lending import Lending

    cluster = _started(request, place, of_head or {}, seconds)
    head = connect(cluster)
    with Lending(cluster):
        click.echo(f"cluster {cluster.name} is up", err=True)
        try:
            view = head.view() if no_wait else wait_for(head, workers, seconds)
        except (KeyboardInterrupt, HPCError):
            click.echo(f"the cluster goes on; `dask-hpc down {cluster.name}` ends it", err=True)
            raise
    if as_json:
        echo_json(view)
        return
    click.echo(f"{cluster.name}: {view['line']}")
    if not request.sizes and request.bounds is None:
        click.echo(f"it has no jobs yet: `dask-hpc scale {cluster.name} WORKERS`", err=True)
    click.echo(f"`dask-hpc attach {cluster.name}` tells how to use it", err=True)


def _count(wait: str) -> int | None:
    """Read how many are waited for; None is all."""
    if wait != _ALL and not wait.isdecimal():
        raise click.BadParameter(f"{wait!r} is no number of workers", param_hint="--wait")
    return None if wait == _ALL else int(wait)


def _started(
    request: Asked, place: str, head_options: Mapping[str, Any], timeout: float | None
) -> Known:
    from dask_hpc.cluster.bring_up import bring_up

    keywords = dict(request.keywords)
    name = keywords.pop("name", None)
    with progress() as show:
        return bring_up(
            keywords,
            name=name,
            orders=request.orders,
            head=place,
            head_options=head_options,
            timeout=timeout,
            told=show,
        )
