"""``dask-mpi`` and ``dask-hpc mpi``: a cluster from the ranks of an MPI launch.

Options and their text only; `cli.mpi_front` calls this in the leading rank of each node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dask_hpc.cluster.mpi.options import LaunchOptions, parse_worker_options
from dask_hpc.errors import ConfigurationError
from dask_hpc.node.options import DEATH_TIMEOUT, parse_resources, parse_seconds
from dask_hpc.node.storage import AUTO, check_policy

_FILE = click.Path(dir_okay=False, path_type=Path)
_WORKERS = (
    "nthreads",
    "memory_limit",
    "local_directory",
    "scratch",
    "worker_class",
    "preload",
    "preload_nanny",
    "fork_preload",
)


@click.command("mpi")
@click.argument("scheduler_address", required=False)
@click.option("--scheduler-file", type=_FILE, help="Written once the scheduler listens.")
@click.option("--scheduler-port", type=int, default=0, help="Default: any.")
@click.option("--scheduler-rank", type=int, default=0, show_default=True, help="Of the scheduler.")
@click.option(
    "--interface", help="Network interface: a name, candidates (hsn0,ib0), a pattern (ib*) or auto."
)
@click.option("--protocol", help="Default: tls; another one needs --insecure.")
@click.option("--nthreads", type=int, help="Per worker; default: its rank's part of the cores.")
@click.option(
    "--memory-limit",
    default="auto",
    show_default=True,
    help='Per worker: "auto" is its rank\'s part of the memory; 0, a fraction, or "4 GiB".',
)
@click.option("--local-directory", help="Scratch directory of the workers.")
@click.option("--scratch", help="Directory of the site to look at, if it is good for scratch.")
@click.option(
    "--spill",
    default=AUTO,
    show_default=True,
    metavar="auto|never|DIR",
    help="Where full workers put data: auto takes a disk of the node, if there is one.",
)
@click.option(
    "--scheduler/--no-scheduler", default=True, help="Without: join the one that runs already."
)
@click.option("--nanny/--no-nanny", default=True, help="Always with: it costs no process here.")
@click.option(
    "--exclusive-workers/--inclusive-workers",
    default=True,
    help="Whether the scheduler's rank runs no worker.",
)
@click.option(
    "--worker-class",
    default="distributed.Nanny",
    show_default=True,
    help="Import path of a subclass of distributed.Worker or distributed.Nanny.",
)
@click.option("--worker-options", help="JSON object: more keywords of the nanny and worker.")
@click.option("--dashboard/--no-dashboard", default=True, help="Of the scheduler; localhost only.")
@click.option("--dashboard-address", help="Its port, for example :8787.")
@click.option("--name", default="dask_mpi", show_default=True, help="Workers are NAME-RANK.")
@click.option("--resources", help='Of each worker, for example "GPU=2 MEM=10e9".')
@click.option("--preload", multiple=True, help="Module or file loaded by each worker.")
@click.option("--preload-nanny", multiple=True, help="Module or file loaded by each nanny.")
@click.option("--fork-preload", multiple=True, help="Module imported once for a node's workers.")
@click.option(
    "--death-timeout",
    help=f"Seconds in which the scheduler must answer; default: {DEATH_TIMEOUT:g}, and more for"
    " many ranks.",
)
@click.option("--mpi/--no-mpi", default=True, help="Without: go by the launcher's environment.")
@click.option("--insecure", is_flag=True, help="No encryption, no authentication.")
def mpi(**given: Any) -> LaunchOptions:
    """Turn the ranks of an MPI launch into a scheduler and workers.

    mpirun -np 4 dask-mpi --scheduler-file FILE, or srun, mpiexec, flux run; then
    dask.distributed.Client(scheduler_file=FILE) anywhere on the machine.
    """
    return read_options(**given)


def read_options(
    *,
    scheduler: bool,
    scheduler_address: str | None,
    scheduler_file: Path | None,
    worker_options: str | None,
    resources: str | None,
    death_timeout: str | None,
    **given: Any,
) -> LaunchOptions:
    """Read the command line.

    Raises
    ------
    ConfigurationError
        If it asks for what cannot be.
    """
    file = None if scheduler_file is None else str(scheduler_file.absolute())
    _check_address(scheduler_address, file, scheduler=scheduler)
    workers: dict[str, Any] = {name: given[name] for name in _WORKERS}
    workers["worker_options"] = parse_worker_options(worker_options)
    workers["spill"] = check_policy(given["spill"])
    if death_timeout is not None:
        workers["death_timeout"] = parse_seconds(death_timeout)
    if resources:
        workers["resources"] = parse_resources(resources)
    if not scheduler:
        where = "scheduler" if scheduler_address else "scheduler_file"
        workers[where] = scheduler_address or file
    return LaunchOptions(
        scheduler_rank=given["scheduler_rank"] if scheduler else None,
        exclusive_workers=given["exclusive_workers"],
        name=given["name"],
        scheduler_file=file,
        scheduler_port=given["scheduler_port"],
        interface=given["interface"],
        protocol=given["protocol"],
        dashboard=given["dashboard"],
        dashboard_address=given["dashboard_address"],
        insecure=given["insecure"],
        workers=workers,
    )


def _check_address(address: str | None, file: str | None, *, scheduler: bool) -> None:
    if scheduler and address:
        raise ConfigurationError(
            f"{address} is a scheduler's address, and this launch starts one of its own",
            hint="--no-scheduler joins the one that runs there",
        )
    if not scheduler and bool(address) == bool(file):
        raise ConfigurationError(
            "--no-scheduler needs the address of a scheduler or its --scheduler-file, one of them",
            hint="dask-mpi --no-scheduler --scheduler-file FILE",
        )
