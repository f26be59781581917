"""The process of a head that runs by itself: ``python -m dask_hpc.cluster.head_process DIRECTORY``.

It starts what the cluster directory says is wanted (:mod:`.bring_up`), and ends with a signal or
when the cluster is shut down.  With ``--resume`` it takes over the jobs of one that died before it,
with ``--force`` also of one on a host of which nobody can tell whether it lives.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dask_hpc.cluster import pending
from dask_hpc.cluster.directory import ERROR, WANTED
from dask_hpc.cluster.head_job import place_of_this_job
from dask_hpc.cluster.hpc_cluster import HPCCluster
from dask_hpc.cluster.lone_job import TOPIC, WARNED_AHEAD
from dask_hpc.cluster.planning import settled
from dask_hpc.cluster.view import HeadPlace
from dask_hpc.control.journal import read, remembered
from dask_hpc.control.reaper import JOURNAL
from dask_hpc.errors import HPCError, to_json
from dask_hpc.launch import rendezvous

logger = logging.getLogger("dask_hpc")

#: That end a head in order: those of a batch system before it kills, too.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
#: Seconds before its job ends at which a head closes.
CLOSED_AHEAD = 45.0


class LoneCluster(HPCCluster):
    """A cluster whose head is all there is in its process.

    Parameters
    ----------
    where
        The process runs.
    orders
        To carry out before it counts as running; see :func:`dask_hpc.cluster.bring_up.bring_up`.
    resume, force
        See :func:`dask_hpc.cluster.directory.claim`.
    **keywords
        Of HPCCluster.
    """

    def __init__(
        self,
        where: HeadPlace,
        *,
        orders: Sequence[tuple[str, Mapping[str, Any]]] = (),
        resume: bool = False,
        force: bool = False,
        **keywords: Any,
    ) -> None:
        self.where, self.resume, self.force = where, resume, force
        self._orders = () if resume else orders
        super().__init__(asynchronous=True, silence_logs=logging.INFO, **keywords)

    async def _begun(self) -> None:
        verbs = {"scale": self.steering.scale, "adapt": self.steering.adapt}
        for verb, words in self._orders:
            await verbs[verb](**words)
        await super()._begun()


async def live(directory: Path, *, resume: bool, force: bool) -> None:
    """Be the head of a cluster until it ends.

    Raises
    ------
    HPCError
        What keeps it from starting.
    """
    wanted = json.loads((directory / WANTED).read_text(encoding="utf-8"))
    keywords = wanted["keywords"]
    if resume and (added := remembered(read(directory / JOURNAL)).pools):
        keywords["pools"] = {**keywords.get("pools", {}), **added}
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may go
    in_job = wanted["head"] == "job"
    where = HeadPlace(wanted["head"])
    if in_job:
        where = place_of_this_job(wanted.get("walltime"), submits=wanted.get("submits", True))
    cluster = LoneCluster(
        where,
        name=wanted["name"],
        n_workers=wanted["n_workers"],
        orders=wanted["orders"],
        resume=resume,
        force=force,
        **keywords,
    )
    await cluster
    pending.forget(directory)
    if cluster.shape_plan is not None:  # the next head goes on with jobs of this shape
        wanted["keywords"] = settled(keywords, cluster.options)
        rendezvous.write_atomically(directory / WANTED, json.dumps(wanted, indent=1))
    waits = [
        asyncio.ensure_future(each)
        for each in (
            stop.wait(),
            cluster.over.wait(),
            cluster.head.scheduler.finished(),
            _deadline(cluster),
        )
    ]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()
    await cluster.finish()
    await cluster.answered()


async def _deadline(cluster: LoneCluster) -> None:
    """Return a little before the job of this head ends; its clients are told ahead."""
    deadline = cluster.head.deadline
    warned = None  # of which end
    while True:
        ahead = CLOSED_AHEAD if warned and warned == deadline.instant else WARNED_AHEAD
        if not await deadline.left(ahead):
            continue
        line = _ends_soon(cluster)
        logger.warning("%s", line)
        cluster.head.scheduler.log_event(TOPIC, {"action": "deadline", "msg": line})
        if ahead == CLOSED_AHEAD:
            return
        warned = deadline.instant


def _ends_soon(cluster: LoneCluster) -> str:
    deadline = cluster.head.deadline
    left = (deadline.instant or 0.0) - time.time()
    line = f"the job of cluster {cluster.name}'s head ends in {left:.0f} s, and the cluster then"
    if deadline.movable and left > CLOSED_AHEAD:
        line += f"; `dask-hpc renew {cluster.name} TIME` asks for more"
    return line


def main(directory: Path, *, resume: bool = False, force: bool = False) -> int:
    """Run; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(live(directory, resume=resume, force=force))
    except HPCError as error:
        directory.mkdir(mode=0o700, exist_ok=True)  # a cluster that fails leaves none
        rendezvous.write_atomically(directory / ERROR, json.dumps(to_json(error)))
        logger.error("%s", error)  # noqa: TRY400  (our errors say what to do, not where)
        return 1
    return 0


if __name__ == "__main__":
    words = sys.argv[2:]
    sys.exit(main(Path(sys.argv[1]), resume="--resume" in words, force="--force" in words))
