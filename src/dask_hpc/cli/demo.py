"""``dask-hpc demo``: a cluster through the queue, a real analysis on it, and what it cost.

Only the telling lives here; the analysis is :mod:`dask_hpc.demo.flights`.
"""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console

    from dask_hpc.demo.flights import Answer

#: Memory of a worker, in MiB: the analysis needs about 200.
WORKER_MEMORY = 512
#: Where nothing redraws, progress is a line every so many percent.
PLAIN_STEP = 25


@dataclass(frozen=True, slots=True)
class Spent:
    """Wall seconds of each stage; the first two count from the request for jobs."""

    first_worker: float
    all_workers: float
    computation: float


@click.command("demo")
@click.option("--batch", metavar="NAME", help="local, slurm, ...; default: what the machine has")
@click.option("--site", metavar="NAME", help="a machine that `dask-hpc site list` shows")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="jobs to run")
@click.option(
    "--workers-per-job", type=click.IntRange(1), default=4, show_default=True, help="one core each"
)
@click.option("--queue", help="queue (partition) to wait in")
@click.option("--account", help="who is charged")
@click.option("--walltime", default="10 min", show_default=True, help="limit of each job")
@click.option("--interface", help="network interface of the nodes, for example ib0")
def demo(jobs: int, workers_per_job: int, **request: str | None) -> None:
    """Analyse 336,776 real flights on a cluster of jobs; leave no job, process or file of it."""
    from rich.console import Console

    console = Console(highlight=False)
    for hangup in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(hangup, signal.default_int_handler)  # all end the cluster as Ctrl-C does
    try:
        with _own_local_state():
            _run(console, jobs, workers_per_job, request)
    except KeyboardInterrupt:
        click.echo("interrupted: the cluster is closed", err=True)
        raise SystemExit(130) from None


@contextmanager
def _own_local_state() -> Iterator[None]:
    """Give the `local` batch system a directory of the demo's own, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="dask-hpc-demo-", ignore_cleanup_errors=True) as path:
        os.environ.setdefault("DASK_HPC_LOCAL", path)
        yield


def _run(console: Console, jobs: int, per_job: int, request: Mapping[str, Any]) -> None:
    from dask_hpc.demo import flights

    flights.data_directory()  # whatever is missing here is said before a job is asked for
    from dask_hpc import HPCCluster

    workers = jobs * per_job
    console.print(f"How late do {flights.FLIGHTS:,} flights arrive?")
    cluster = HPCCluster(
        name=f"demo-{secrets.token_hex(3)}",
        cores=per_job,
        processes=per_job,
        memory=f"{per_job * WORKER_MEMORY} MiB",
        **request,
    )
    with cluster, cluster.get_client() as client:
        console.print(cluster.dashboard_help, soft_wrap=True)
        first, everyone = _bring_up(console, cluster, jobs, workers)
        start = time.monotonic()
        with _progress(console) as progress:
            answer = flights.analyse(client, progress=progress)
        spent = Spent(first, everyone, time.monotonic() - start)
    _tell(console, answer)
    _tell_cost(console, workers, spent, cluster.report())
    console.print("The cluster is closed and its dashboard is gone.")


def _bring_up(console: Console, cluster: Any, jobs: int, workers: int) -> tuple[float, float]:
    """Ask for the jobs; return the seconds until the first worker and until all had joined."""
    start = time.monotonic()
    cluster.scale(jobs=jobs)
    with console.status(f"{jobs} jobs asked for, waiting for {workers} workers"):
        cluster.wait_for_workers(1)
        first = time.monotonic() - start
        cluster.wait_for_workers(workers)
    everyone = time.monotonic() - start
    console.print(f"{workers} workers in {jobs} jobs after {everyone:.1f} s")
    return first, everyone


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show tasks done: a bar on a terminal, a few plain lines elsewhere."""
    if not console.is_terminal:
        yield _PlainProgress()
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="computing")

        yield show


class _PlainProgress:
    """Prints a line each time another quarter of all tasks is done."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, done: int, total: int) -> None:
        from dask_hpc.demo.flights import BLOCKS

        if done == total == BLOCKS:
            click.echo(f"{BLOCKS} blocks of flights read")
        percent = 100 * done // total
        if total > BLOCKS and percent // PLAIN_STEP > self._said:
            self._said = percent // PLAIN_STEP
            click.echo(f"{done} of {total} tasks done ({percent} %)")


def _tell(console: Console, answer: Answer) -> None:
    from rich.table import Table

    for kind in ("carrier", "weather"):
        table = Table(title=f"Minutes late at arrival, by {kind}", title_justify="left")
        table.add_column(kind)
        for column in ("flights", "mean", "95 % interval"):
            table.add_column(column, justify="right")
        for one in answer.estimates:
            if one.kind == kind:
                interval = f"{one.low:6.1f} to {one.high:5.1f}"
                table.add_row(one.name, f"{one.flights:,}", f"{one.mean:.1f}", interval)
        console.print(table)
    console.print(
        f"{answer.arrived:,} of {answer.flights:,} flights arrived, {answer.mean:.6f} min late"
        " on average (the known totals)",
        soft_wrap=True,
    )


def _tell_cost(console: Console, workers: int, spent: Spent, report: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="What it cost", title_justify="left", show_header=False)
    table.add_row("workers", str(workers))
    table.add_row("seconds to the first worker", f"{spent.first_worker:.1f}")
    table.add_row("seconds to all workers", f"{spent.all_workers:.1f}")
    table.add_row("seconds of computation", f"{spent.computation:.1f}")
    table.add_row("jobs submitted", str(report["jobs_submitted"]))
    table.add_row("core-seconds allocated", f"{report['core_seconds']:.0f}")
    calls = ", ".join(f"{count} {name}" for name, count in report["commands"].items())
    table.add_row("commands of the batch system", calls)
    console.print(table)
