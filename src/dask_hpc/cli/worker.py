"""``dask-hpc worker``: the workers of one node; job scripts call it, and people by hand.

Only options and their text live here.  It must import nothing large: the process may start itself
again with another environment before it imports the engine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job_environment import position
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import environment
from dask_hpc.node.options import (
    DEATH_TIMEOUT,
    Bind,
    WorkerOptions,
    parse_bind,
    parse_gpus,
    parse_nworkers,
    parse_resources,
    parse_seconds,
)
from dask_hpc.node.storage import AUTO, check_policy
from dask_hpc.units import parse_memory

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("worker", context_settings={"ignore_unknown_options": True})
@click.argument("scheduler", required=False)
@click.argument("preload_argv", nargs=-1, type=click.UNPROCESSED, metavar="[PRELOAD_ARGS]...")
@click.option("--scheduler-file", type=_FILE, help="Written by the head; waited for.")
@click.option("--nworkers", metavar="N|auto", help="Workers (processes); default: 1.")
@click.option("--nthreads", type=int, help="Threads per worker; default: divide the cores.")
@click.option(
    "--memory-limit",
    default="auto",
    show_default=True,
    help='Per worker: "auto" divides the job\'s memory, 0 is no limit, a fraction, or "4 GiB".',
)
@click.option(
    "--interface", help="Network interface: a name, candidates (hsn0,ib0), a pattern (ib*) or auto."
)
@click.option("--host", help="Address to listen on, instead of an interface.")
@click.option("--protocol", help="Of the workers; default: the head's.")
@click.option("--local-directory", help="Scratch directory of the workers.")
@click.option("--scratch", help="Directory of the site to look at, if it is good for scratch.")
@click.option(
    "--spill",
    default=AUTO,
    show_default=True,
    metavar="auto|never|DIR",
    help="Where full workers put data: auto takes a disk of the node, if there is one.",
)
@click.option("--name", help="Of the worker; with --nworkers, NAME-0, NAME-1, ...")
@click.option("--node", help="Of several in a job: workers are NAME-NODE.0, NAME-NODE.1, ...")
@click.option(
    "--death-timeout",
    default=f"{DEATH_TIMEOUT:g}",
    show_default=True,
    help="Seconds to wait for the head.",
)
@click.option("--await-head", help="Seconds to wait for a new head once it is lost; default: 0.")
@click.option("--resources", help='Of each worker, for example "GPU=2 MEM=10e9".')
@click.option("--preload", multiple=True, help="Module or file loaded by each worker.")
@click.option("--preload-nanny", multiple=True, help="Module or file loaded by each nanny.")
@click.option("--fork-preload", multiple=True, help="Module imported once and shared by all.")
@click.option("--worker-class", help="Import path of a subclass of distributed.Worker.")
@click.option("--worker-port", help="Port or range first:last; default: any.")
@click.option("--nanny-port", help="Port or range first:last; default: any.")
@click.option("--lifetime", help="Retire the worker after this time.")
@click.option("--lifetime-stagger", help="Random amount by which lifetimes differ.")
@click.option(
    "--lifetime-restart/--no-lifetime-restart", default=None, help="Start again after a lifetime."
)
@click.option("--grace", help="Seconds from SIGTERM to the kill, if not the usual ones.")
@click.option("--nanny/--no-nanny", default=True, help="Always with: it restarts its worker.")
@click.option("--dashboard/--no-dashboard", default=False, help="Never: it has no password.")
@click.option("--tls-ca-file", type=_FILE, help="With a plain address: the authority (PEM).")
@click.option("--tls-cert", type=_FILE, help="With a plain address: the certificate (PEM).")
@click.option("--tls-key", type=_FILE, help="With a plain address: the private key (PEM).")
@click.option("--job-cores", type=int, help="Cores of the job, if its batch system is silent.")
@click.option("--job-memory", help="Memory of the job, if its batch system is silent.")
@click.option("--gpus", metavar="N|auto", help="GPUs of the job: one worker for each, GPU=1.")
@click.option(
    "--bind",
    type=click.Choice([each.value for each in Bind]),
    help="Bind each worker to cores of its own, or to a NUMA domain; default: none.",
)
@click.option("--insecure", is_flag=True, help="Accept a cluster without TLS.")
def worker(**given: Any) -> None:
    """Run dask workers for the head at SCHEDULER, or named in --scheduler-file."""
    options = read_options(**given)
    environment.ensure(options)
    from dask_hpc.node.supervisor import run

    code = run(options)
    sys.stdout.flush()
    sys.stderr.flush()
    _end(code)


def _end(code: int) -> None:
    """Exit without taking the interpreter apart, which costs as much as a worker's start.

    What matters at exit is done before: workers closed, directories removed.
    """
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001  (semaphores are unlinked there)
    os._exit(code)


def read_options(
    *,
    nanny: bool,
    dashboard: bool,
    tls_ca_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    preload_argv: tuple[str, ...],
    scheduler: str | None,
    **given: Any,
) -> WorkerOptions:
    """Read the command line.

    Raises
    ------
    ConfigurationError
        If it asks for what cannot be.
    """
    if not nanny:
        raise ConfigurationError(
            "--no-nanny is not offered: without one, no worker comes back after it was killed",
            hint="leave it out; a nanny costs no process of its own here",
        )
    if dashboard:
        raise ConfigurationError(
            "--dashboard is not offered: the engine serves a worker's dashboard without"
            " encryption or password, to everyone who reaches the node",
            hint="leave it out; the scheduler's dashboard shows all workers",
        )
    scheduler, argv = _split_arguments(scheduler, preload_argv, given)
    readers: dict[str, Callable[[str], Any]] = {
        "nworkers": parse_nworkers,
        "resources": parse_resources,
        "death_timeout": parse_seconds,
        "await_head": parse_seconds,
        "lifetime": parse_seconds,
        "lifetime_stagger": parse_seconds,
        "grace": parse_seconds,
        "job_memory": parse_memory,
        "gpus": parse_gpus,
        "bind": parse_bind,
        "spill": check_policy,
    }
    read: dict[str, Any] = {
        name: readers[name](value) if name in readers else value
        for name, value in given.items()
        if value is not None
    }
    return WorkerOptions(
        scheduler=scheduler,
        preload_argv=argv,
        tls=_tls(tls_ca_file, tls_cert, tls_key),
        position=position(os.environ, given["node"]),
        **read,
    )


def _split_arguments(
    scheduler: str | None, argv: tuple[str, ...], given: dict[str, Any]
) -> tuple[str | None, tuple[str, ...]]:
    """Tell the scheduler's address from the first argument of a preload module."""
    if scheduler is not None and (given["scheduler_file"] or scheduler.startswith("-")):
        argv = (scheduler, *argv)
        scheduler = None
    if argv and not given["preload"]:
        raise click.UsageError(
            f"no such option or argument: {argv[0]} (arguments of a --preload module come after it)"
        )
    return scheduler, argv


def _tls(ca_file: Path | None, cert: Path | None, key: Path | None) -> TLSFiles | None:
    if ca_file is None and cert is None and key is None:
        return None
    if ca_file is None or cert is None or key is None:
        raise ConfigurationError(
            "TLS needs all three of --tls-ca-file, --tls-cert and --tls-key",
            hint="or a --scheduler-file of dask-hpc, which names them",
        )
    return TLSFiles(str(ca_file.absolute()), str(cert.absolute()), str(key.absolute()))
