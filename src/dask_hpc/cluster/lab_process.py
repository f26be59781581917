"""The process of a JupyterLab in a job: ``python -m dask_hpc.cluster.lab_process DIRECTORY NAME``.

It starts the server, tells the head how it is reached, and ends when it is told to, with the server
or with the cluster.  A head that comes back is told again.  No engine is imported here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_hpc.cluster.bridge import Bridge
from dask_hpc.cluster.directory import LAB_WANTED
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.head_job import place_of_this_job
from dask_hpc.cluster.known import find
from dask_hpc.cluster.lab_settings import lab_settings
from dask_hpc.control.reaper import SCHEDULER_FILE
from dask_hpc.errors import HPCError, JupyterError, RendezvousError, UnknownCluster, to_json
from dask_hpc.jupyter.reach import Listen
from dask_hpc.jupyter.server import JupyterServer, check_installed, make_place
from dask_hpc.jupyter.settings import DASHBOARD_SOCKET, Settings
from dask_hpc.launch import rendezvous
from dask_hpc.node.interface import routed

logger = logging.getLogger("dask_hpc")

#: That end it: those of a batch system before it kills, too.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
#: Seconds between two looks whether all is as it was; the head is told again so often; and without
#: a head it goes on so long, as workers do for one that may come back.
_LOOK, _AGAIN, _ALONE = 2.0, 30.0, 300.0
#: Looks at which the scheduler file is missing before that is believed.
_MISSING = 2


class Teller:
    """Tells whatever head the cluster has.

    Parameters
    ----------
    file
        The scheduler file.
    name
        Of this job.
    """

    def __init__(self, file: Path, name: str) -> None:
        self._file = file
        self._name = name
        self._whom: tuple[str, int] | None = None
        self._heard = time.monotonic()
        self._missed = 0

    async def tell(self, **words: Any) -> bool:
        """Tell it something now; whether it wants this job.

        Raises
        ------
        RendezvousError, UnknownCluster
            If nobody answers.
        """
        wanted = await asyncio.to_thread(self._tell, words)
        self._heard = time.monotonic()
        return wanted

    def _tell(self, words: Mapping[str, Any]) -> bool:
        return HeadClient(find(self._file)).jupyter_told(self._name, **words)

    async def keep(self, **words: Any) -> bool:
        """Tell a head that is new, and each now and then; whether this job is wanted still."""
        if not self._file.exists():
            self._missed += 1
            return self._missed < _MISSING
        self._missed = 0
        silent = time.monotonic() - self._heard
        with suppress(RendezvousError, UnknownCluster, OSError):
            found = await asyncio.to_thread(rendezvous.read, self._file)
            whom = found.address, found.pid
            if whom != self._whom or silent > _AGAIN:
                wanted = await self.tell(**words)
                self._whom = whom
                return wanted
        return silent < _ALONE


async def live(directory: Path, name: str) -> None:
    """Serve until it is over.

    Raises
    ------
    HPCError
        What keeps it from starting, or ended it.
    """
    stop = asyncio.Event()
    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    teller = Teller(directory / SCHEDULER_FILE, name)
    error: dict[str, str] | None = None
    try:
        await _serve(directory, teller, stop)
    except HPCError as found:
        error = to_json(found)
        raise
    finally:
        with suppress(HPCError, OSError):  # it has ended, or sees the job go
            await teller.tell(error=error)


async def _serve(directory: Path, teller: Teller, stop: asyncio.Event) -> None:
    check_installed()
    wanted = json.loads((directory / LAB_WANTED).read_text(encoding="utf-8"))
    trouble: list[HPCError] = []
    place = await asyncio.to_thread(make_place, directory)
    bridge = Bridge(directory / SCHEDULER_FILE)
    await bridge.listen(place / DASHBOARD_SOCKET)
    settings = await asyncio.to_thread(_settings, place, directory, wanted)
    server = JupyterServer(directory.name, settings, died=trouble.append)
    try:
        reach = await server.start()
        here = place_of_this_job(wanted["walltime"])
        reach = replace(reach, job=here.job or "", until=here.deadline)
        while server.running and await teller.keep(reach=reach.to_json()):
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await stop.wait()
            if stop.is_set():
                return
    finally:
        await server.stop()
        bridge.close()
    if trouble:
        raise trouble[0]


def _settings(place: Path, directory: Path, wanted: Mapping[str, Any]) -> Settings:
    file = directory / SCHEDULER_FILE
    host = urlsplit(rendezvous.read(file).address).hostname
    if (address := routed(host)) is None:
        raise JupyterError(f"no way leads from here to the head at {host}")
    return lab_settings(
        place,
        listen=Listen(wanted["listen"]),
        root=Path(wanted["root"]),
        scheduler_file=file,
        address=address,
    )


def main(directory: Path, name: str) -> int:
    """Run; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(live(directory, name))
    except HPCError as error:
        logger.error("%s", error)  # noqa: TRY400  (our errors say what to do, not where)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
