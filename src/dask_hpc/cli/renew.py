"""``dask-hpc renew``: more time for a head in a job.  Options only; the head asks for it."""

from __future__ import annotations

import click

from dask_hpc.cli.render import clock, echo_json, span
from dask_hpc.cli.which import ClusterName, json_option, steer


@click.command("renew")
@click.argument("words", nargs=-1, required=True, type=ClusterName(), metavar="[NAME] TIME")
@json_option
def renew(words: tuple[str, ...], *, as_json: bool) -> None:
    """Have the job of the head of the cluster NAME run for TIME more, for example 2h."""
    if len(words) > 2:  # noqa: PLR2004
        raise click.UsageError(f"say NAME and TIME, as in `renew {words[0]} '2 h'`")
    with steer(words[0] if words[1:] else None) as head:
        view = head.renew(words[-1])
    if as_json:
        echo_json(view)
        return
    end, now = view["head_deadline"], view["now"]
    left = span((end or now) - now)
    click.echo(f"the job of {view['name']}'s head ends at {clock(end, now)}, in {left}")
