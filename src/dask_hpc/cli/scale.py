"""``dask-hpc scale``: want so many workers or jobs.  Options only; the head does it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.cli.render import echo_json
from dask_hpc.cli.waiting import seconds_of, wait_for
from dask_hpc.cli.which import ClusterName, json_option, steer

if TYPE_CHECKING:
    from dask_hpc.cluster.view import View

_OF_A_POOL = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(\d+)")


@click.command("scale")
@click.argument("words", nargs=-1, type=ClusterName(), metavar="[NAME] [WORKERS | POOL=WORKERS...]")
@click.option("--jobs", type=click.IntRange(0), help="jobs, instead of workers")
@click.option("--cores", type=click.IntRange(0), help="threads in all, instead of workers")
@click.option("--memory", help='of the workers in all, for example "256 GiB"')
@click.option("--pool", help="whose size is meant; default: the cluster's own")
@click.option("--wait", is_flag=True, help="until they have joined")
@click.option("--timeout", help='longest wait, for example "10 min"')
@json_option
def scale(
    words: tuple[str, ...],
    *,
    jobs: int | None,
    cores: int | None,
    memory: str | None,
    pool: str | None,
    wait: bool,
    timeout: str | None,
    as_json: bool,
) -> None:
    """Want so many WORKERS (or jobs, cores, memory) of the cluster NAME, from now on."""
    name, n = understood(words)
    given = {"n": n, "jobs": jobs, "cores": cores, "memory": memory}
    size: dict[str, Any] = {word: value for word, value in given.items() if value is not None}
    if len(size) != 1:
        raise click.UsageError("say one of: a number of workers, --jobs, --cores, --memory")
    if isinstance(n, dict) and pool is not None:
        raise click.UsageError("POOL=WORKERS says the pool already: leave --pool out")
    with steer(name) as head:
        view: View = head.scale(**size, pool=pool)
        if wait:
            view = wait_for(head, None, seconds_of(timeout))
    if as_json:
        echo_json(view)
    else:
        click.echo(view["line"])


def understood(words: tuple[str, ...]) -> tuple[str | None, int | dict[str, int] | None]:
    """Tell the name from the size: names start with a letter.

    Parameters
    ----------
    words
        As typed.

    Returns
    -------
    name
        None if it was left out.
    n
        Workers; by pool, if so said; None if it was left out.

    Raises
    ------
    click.UsageError
        If a word is neither.
    """
    name: str | None = None
    workers: int | None = None
    pools: dict[str, int] = {}
    for at, word in enumerate(words):
        if word.isdecimal() and workers is None:
            workers = int(word)
        elif match := _OF_A_POOL.fullmatch(word):
            pools[match[1]] = int(match[2])
        elif at == 0 and not word.lstrip("-").isdecimal():
            name = word
        else:
            raise click.UsageError(f"{word!r} is no number of workers")
    if workers is not None and pools:
        raise click.UsageError("say the workers of each pool, or a number of workers")
    return name, pools or workers
