"""``dask-hpc run``: a script on a cluster of its own, which ends with it.

The head runs in this process, and not detached: then there is no way to die, not even by kill -9,
after which the cluster's guardian would not cancel the jobs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.cli.asking import asked, asking
from dask_hpc.cli.entry import INTERRUPTED
from dask_hpc.cli.interrupts import Interrupts
from dask_hpc.cli.waiting import seconds_of, wait_for
from dask_hpc.cli.which import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_hpc.cli.asking import Asked
    from dask_hpc.cluster.hpc_cluster import HPCCluster


@click.command("run", context_settings={"allow_interspersed_args": False})
@asking
@click.option(
    "--wait",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="WORKERS",
    help="start the script once so many workers have joined",
)
@click.option("--timeout", help='longest wait for them, for example "2 h"')
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    *,
    script: str,
    arguments: tuple[str, ...],
    wait: int,
    timeout: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Run the Python SCRIPT on a cluster that is brought up for it and ends with it.

    In the script, dask_hpc.connect() and distributed.Client() are connected to it.  The exit code
    is the script's.  Ctrl-C once ends both in order, twice at once.
    """
    if all(options[size] is None for size in ("jobs", "workers", "adapt")):
        options["jobs"] = 1
    request, seconds = asked(**options), seconds_of(timeout)
    if dry_run:
        from dask_hpc.cli.dry_run import rehearse

        rehearse(request, as_json=False)
        return
    words = arguments[1:] if arguments[:1] == ("--",) else arguments
    command = [sys.executable, script, *words]
    raise SystemExit(_run(request, command, wait, seconds))


def _run(request: Asked, command: list[str], wait: int, timeout: float | None) -> int:
    with Interrupts() as interrupts:
        try:
            with _cluster(request, interrupts) as cluster:
                request.set_size(cluster)
                _wait(cluster, _awaited(request, cluster, wait), timeout)
                code = _script(command, cluster, interrupts)
        except KeyboardInterrupt:
            code = INTERRUPTED
        if interrupts.begun:
            click.echo("the cluster is closed", err=True)
            code = INTERRUPTED
        return code


@contextmanager
def _cluster(request: Asked, interrupts: Interrupts) -> Iterator[HPCCluster]:
    """Have a cluster; an interrupt waits until it has started, so that it can be closed."""
    from dask_hpc import HPCCluster

    with interrupts.held():
        cluster = HPCCluster(**request.keywords)
    try:
        interrupts.raise_if_begun()
        yield cluster
    finally:
        with interrupts.held():
            cluster.close()


def _awaited(request: Asked, cluster: HPCCluster, wait: int) -> int:
    """No more workers than were asked for: others never come."""
    layout = cluster.options.job_layout
    if request.bounds is not None:
        return min(wait, request.bounds["minimum_jobs"] * layout.workers)
    from dask_hpc.cluster.sizes import jobs_wanted

    return min(wait, jobs_wanted(layout, **request.sizes[None]) * layout.workers)


def _wait(cluster: HPCCluster, workers: int, timeout: float | None) -> None:
    from dask_hpc.cluster import known

    head = connect(known.find(cluster.scheduler_file))
    view = wait_for(head, workers, timeout)
    click.echo(f"dask-hpc: cluster {cluster.name} is up: {view['line']}", err=True)


def _script(command: list[str], cluster: HPCCluster, interrupts: Interrupts) -> int:
    environment = {
        **os.environ,
        "DASK_HPC_SCHEDULER_FILE": cluster.scheduler_file,
        "DASK_SCHEDULER_ADDRESS": cluster.scheduler_address,
    }
    sys.stdout.flush()
    with interrupts.passed_to(lambda: subprocess.Popen(command, env=environment)) as script:
        code = script.wait()
    return code if code >= 0 else 128 - code
