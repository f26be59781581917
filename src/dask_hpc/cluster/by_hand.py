"""A scheduler without a batch system: started by hand, ended by a signal."""

from __future__ import annotations

import asyncio
import getpass
import signal
import sys
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path

from distributed import Security

from dask_hpc.cluster.dashboard import tunnel_line
from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.joining import HeadScheduler
from dask_hpc.cluster.listening import listening
from dask_hpc.cluster.options import warn_insecure
from dask_hpc.cluster.security import engine_security, ensure_identity
from dask_hpc.cluster.workers import SchedulerWorkers
from dask_hpc.launch import rendezvous
from dask_hpc.node.protocol import scheme


async def run_scheduler(
    path: Path,
    *,
    name: str,
    interface: str | None,
    host: str | None,
    port: int,
    dashboard_port: int | None,
    insecure: bool,
    protocol: str | None = None,
) -> None:
    """Run a scheduler until SIGINT or SIGTERM.

    Parameters
    ----------
    path
        Of the scheduler file; written once the scheduler listens, removed at the end if it is
        still ours.
    name
        Of the cluster, for messages.
    interface, host, port
        Where to listen.
    dashboard_port
        On localhost, or None for no dashboard.
    insecure
        No encryption, no authentication.
    protocol
        None is tls, or tcp if `insecure`.

    Raises
    ------
    ConfigurationError
        If this machine has no such interface, or no such protocol.
    """
    protocol = scheme(protocol, insecure=insecure)
    place = listening(interface, host)
    tls = None
    if insecure:
        warn_insecure()
    else:
        tls = ensure_identity()
        name_in_dask_config(tls)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with HeadScheduler(
        protocol=protocol,
        security=engine_security(tls) if tls else Security(require_encryption=False),
        host=place.host,
        port=port,
        dashboard=dashboard_port is not None,
        dashboard_address=f"127.0.0.1:{dashboard_port or 0}",
    ) as scheduler:
        _see_off(scheduler)
        rendezvous.write(
            path,
            scheduler.identity(),
            cluster=name,
            owner=getpass.getuser(),
            tls=tls,
            others=place.other_addresses(scheduler),
        )
        ours = rendezvous.read(path)
        _say(f"scheduler at {scheduler.address}, scheduler file {path}")
        if dashboard_port is not None:
            _say(tunnel_line(scheduler.dashboard_url(token=True)))
        finished = asyncio.ensure_future(scheduler.finished())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait((finished, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if path.exists() and rendezvous.read(path) == ours:  # another scheduler may have come
            path.unlink()
    await finished


def _see_off(scheduler: HeadScheduler) -> None:
    """Have workers that must go finish what they can, and hand over the rest."""
    workers = SchedulerWorkers(scheduler)

    def leaving(names: Collection[str], grace: float) -> None:
        retire = partial(workers.retire, force=False)
        load, busy = workers.load(), workers.busy()
        idle = {name for name in names if not load[name] and name not in busy}
        # With a deadline the last worker stays until then: others may come, and take what it has.
        scheduler.loop.add_callback(retire, idle)
        scheduler.loop.add_callback(retire, {*names} - idle, deadline=time.time() + grace)

    scheduler.on_leaving = leaving


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
