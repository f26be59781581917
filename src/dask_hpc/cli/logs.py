"""``dask-hpc logs``: what the jobs of a cluster have written.

Read by the head; of a cluster that has none any more, from what is left in its directory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_hpc.cli.render import echo_json
from dask_hpc.cli.which import cluster_argument, connect, find, json_option
from dask_hpc.errors import HPCError, UnknownCluster

if TYPE_CHECKING:
    from dask_hpc.cluster.known import Known


@click.command("logs")
@cluster_argument
@click.argument("job", required=False)
@click.option("--pool", help="of the jobs of this pool alone")
@click.option("--tail", type=click.IntRange(1), metavar="N", help="the last N lines of each")
@click.option("--paths", is_flag=True, help="print where the logs are, not what is in them")
@click.option("--head", "of_head", is_flag=True, help="what its head has written, if detached")
@click.option("--follow", "-f", is_flag=True, help="go on with what they write, until Ctrl-C")
@json_option
def logs(
    name: str | None,
    job: str | None,
    *,
    pool: str | None,
    tail: int | None,
    paths: bool,
    of_head: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the logs of the cluster NAME's jobs, or of one JOB: its name or its id."""
    cluster = _found(name)
    texts = _of_head(cluster) if of_head else _read(cluster, pool)
    if job is not None:
        texts = _of_job(cluster, job, texts)
    if follow:
        _follow(list(texts), tail)
    if tail is not None:
        texts = {path: _last_lines(text, tail) for path, text in texts.items()}
    if as_json:
        echo_json(
            [{"path": path, **({} if paths else {"text": text})} for path, text in texts.items()]
        )
    elif paths:
        for path in texts:
            click.echo(path)
    else:
        _echo(texts)
    if not texts:
        click.echo(f"nobody has written a log of cluster {cluster.name} yet", err=True)


def _found(name: str | None) -> Known:
    """Find a cluster, or what one has left that ended with a failure: logs are kept then."""
    try:
        return find(name)
    except UnknownCluster:
        left = _left(name) if name and name[0].isalpha() and "/" not in name else None
        if left is None:
            raise
        return left


def _left(name: str) -> Known | None:
    from dask_hpc.cluster.known import Known
    from dask_hpc.cluster.security import home

    directory = home() / name
    if not (directory / "logs").is_dir():
        return None
    return Known(
        name=name,
        directory=directory,
        batch="",
        head="",
        host="",
        pid=0,
        opened=0.0,
        scheduler_file=directory / "scheduler.json",
        alive=False,
    )


def _read(cluster: Known, pool: str | None) -> dict[str, str]:
    if cluster.alive is not False:
        return connect(cluster).logs(pool)
    if pool is not None:
        raise HPCError(
            f"cluster {cluster.name} has no head: nobody knows the pools of its logs",
            hint="leave --pool out",
        )
    found = sorted((cluster.directory / "logs").glob("*.log"))
    return {str(path): path.read_text(errors="replace") for path in found}


def _of_head(cluster: Known) -> dict[str, str]:
    from dask_hpc.cluster.directory import HEAD_LOG

    path = cluster.directory / HEAD_LOG
    if not path.exists():
        raise HPCError(
            f"the head of cluster {cluster.name} has no log: a head that is not detached says what"
            " it has to say where it was started"
        )
    return {str(path): path.read_text(errors="replace")}


def _of_job(cluster: Known, job: str, texts: dict[str, str]) -> dict[str, str]:
    """Logs of one job, called by its name, its number, or the batch system's id."""
    names = {job}
    if cluster.alive is not False:
        rows = connect(cluster).view()["jobs"]
        names |= {Path(row["log"]).stem for row in rows if job in (row["id"], row["name"])}
    found = {path: text for path, text in texts.items() if _job_of(path) in names}
    if not found:
        raise HPCError(
            f"no log of a job {job} of cluster {cluster.name}",
            hint=f"`dask-hpc logs {cluster.name} --paths` lists them, `dask-hpc jobs"
            f" {cluster.name}` the jobs",
        )
    return found


def _job_of(path: str) -> str:
    """Name of the job; of several nodes each has a log ``JOB.NODE.log``."""
    stem = Path(path).stem
    array, dash, rest = stem.rpartition("-")
    return f"{array}{dash}{rest.partition('.')[0]}"


def _last_lines(text: str, count: int) -> str:
    return "".join(text.splitlines(keepends=True)[-count:])


def _echo(texts: dict[str, str]) -> None:
    for at, (path, text) in enumerate(texts.items()):
        if len(texts) > 1:
            click.echo(f"{'' if at == 0 else chr(10)}==> {path} <==")
        click.echo(text, nl=bool(text) and not text.endswith("\n"))


def _follow(paths: list[str], tail: int | None) -> None:
    """Become `tail`: it waits on the files without asking again and again."""
    if not paths:
        return
    sys.stdout.flush()
    lines = "+1" if tail is None else str(tail)
    os.execvp("tail", ["tail", "-n", lines, "-F", "--", *paths])  # noqa: S606, S607
