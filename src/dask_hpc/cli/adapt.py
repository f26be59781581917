"""``dask-hpc adapt``: as many jobs as the tasks can use.  Options only; the head does it."""

from __future__ import annotations

from typing import Any

import click

from dask_hpc.cli.render import echo_json
from dask_hpc.cli.which import cluster_argument, json_option, steer

_COUNT = click.IntRange(0)


@click.command("adapt")
@cluster_argument
@click.option("--minimum", type=_COUNT, help="workers, at least")
@click.option("--maximum", type=_COUNT, help="workers, at most")
@click.option("--minimum-jobs", type=_COUNT, help="the same in jobs")
@click.option("--maximum-jobs", type=_COUNT)
@click.option("--minimum-cores", type=_COUNT, help="the same in threads")
@click.option("--maximum-cores", type=_COUNT)
@click.option("--minimum-memory", help="the same in memory of the workers")
@click.option("--maximum-memory")
@click.option("--target-duration", help="how soon the work at hand should be done")
@click.option("--patience", help="for how long fewer jobs must be enough before any goes")
@click.option("--pool", help="whose size is meant; default: the cluster's own")
@json_option
def adapt(name: str | None, *, as_json: bool, **bounds: Any) -> None:
    """Have as many jobs of the cluster NAME as the tasks can use, until the next `scale`."""
    given = {word: value for word, value in bounds.items() if value is not None}
    with steer(name) as head:
        view = head.adapt(**given)
    if as_json:
        echo_json(view)
    else:
        click.echo(view["line"])
