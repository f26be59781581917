"""`dask-scheduler`: a scheduler by hand, with our security and our scheduler file."""

from __future__ import annotations

import click


@click.command()
@click.option("--scheduler-file", required=True, type=click.Path(dir_okay=False), metavar="FILE")
@click.option(
    "--interface", help="Network interface: a name, candidates (hsn0,ib0), a pattern (ib*) or auto."
)
@click.option("--host", help="Address to listen on, instead of an interface.")
@click.option("--port", type=int, default=0, help="Port; default: a free one.")
@click.option("--protocol", help="Default: tls; another one, such as ucxx, needs --insecure.")
@click.option("--dashboard/--no-dashboard", default=True, help="Serve the dashboard on localhost.")
@click.option("--dashboard-port", type=int, default=8787, help="Port on localhost.")
@click.option("--name", default="by-hand", help="Name of the cluster.")
@click.option("--insecure", is_flag=True, help="No encryption, no authentication.")
def scheduler(
    scheduler_file: str,
    interface: str | None,
    host: str | None,
    port: int,
    protocol: str | None,
    dashboard: bool,  # noqa: FBT001  (click passes flags so)
    dashboard_port: int,
    name: str,
    insecure: bool,  # noqa: FBT001
) -> None:
    """Run a scheduler that workers and clients find through a scheduler file."""
    import asyncio
    from pathlib import Path

    from dask_hpc.cluster.by_hand import run_scheduler

    asyncio.run(
        run_scheduler(
            Path(scheduler_file).absolute(),
            name=name,
            interface=interface,
            host=host,
            port=port,
            protocol=protocol,
            dashboard_port=dashboard_port if dashboard else None,
            insecure=insecure,
        )
    )
