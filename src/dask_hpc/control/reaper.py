"""Clear away what a cluster left whose head died: its jobs first, then its scheduler file.

Works from the journal alone.  Run as ``python -m dask_hpc.control.reaper DIRECTORY`` it is the
head's guardian: it waits on its standard input, which the kernel closes when the head dies in
whatever way, and then clears away; with ``--restart`` only if no head can be started anew; with
``--no-commands``, where the batch system's may not be used, the scheduler file alone.  A head that
ends in order says so first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dask_hpc.batch.client import BatchClient
from dask_hpc.control import revival
from dask_hpc.control.backoff import IN_DOUBT_SETTLE
from dask_hpc.control.journal import Journal, Recorded, read, submissions
from dask_hpc.drivers.base import Listing
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable
from dask_hpc.model.job import JobId

logger = logging.getLogger("dask_hpc")

JOURNAL = revival.JOURNAL
SCHEDULER_FILE = "scheduler.json"

#: What a head writes to its guardian before it ends in order.
GOODBYE = b"bye"
#: What a head that may be started anew writes to its guardian once it has opened the journal: until
#: then the guardian of the one before it is in charge.
IN_CHARGE = b"up;"

#: Seconds to keep trying when the batch system does not answer: a controller is restarted within
#: minutes; whoever waits longer has an administrator to ask.
PATIENCE = 1800.0
#: Seconds between two tries, and between two looks whether cancelled jobs are gone.
RETRY = 10.0
LOOK = 1.0


async def reap(directory: Path, *, patience: float = PATIENCE) -> bool:
    """Cancel every job that the journal in a cluster directory tells of.

    Parameters
    ----------
    directory
        Of a cluster whose head is dead.
    patience
        Seconds to keep trying while the batch system does not answer.

    Returns
    -------
    bool
        Whether no job is left; then the scheduler file is gone too.
    """
    for name in (SCHEDULER_FILE, revival.RESTART):  # late jobs end at once without the first
        (directory / name).unlink(missing_ok=True)
    events = list(read(directory / JOURNAL))
    batch = next((str(e["batch"]) for e in events if e["event"] == "opened"), None)
    if batch is None or events[-1]["event"] == "closed":  # none ever was the head, or it has ended
        return True
    left = [each for each in submissions(events).values() if not each.over]
    if not await cancel_all(batch, left, patience):
        return False
    journal = Journal(directory / JOURNAL)
    journal.append("closed")
    journal.close()
    return True


async def cancel_all(batch: str, left: Sequence[Recorded], patience: float) -> bool:
    """Cancel submissions, also those of which nobody knows whether they arrived.

    Parameters
    ----------
    batch
        Name of the batch system.
    left
        The submissions.
    patience
        As of :func:`reap`.

    Returns
    -------
    bool
        Whether none of their jobs is left.
    """
    client = BatchClient(driver(batch))
    started = time.monotonic()
    # A submission without an id may still be on its way: the submit command outlives its head.
    settled = started + (IN_DOUBT_SETTLE if any(each.array is None for each in left) else 0.0)
    while left:
        try:
            live = await _cancel_once(client, left)
        except BatchSystemUnavailable as error:
            logger.warning("cannot clear away yet: %s", error)
            live, pause = True, RETRY
        except BatchSystemError as error:
            logger.warning("cannot clear away: %s", error)
            return False
        else:
            pause = LOOK
        if not live and time.monotonic() >= settled:
            break
        if time.monotonic() > started + patience:
            return False
        await asyncio.sleep(pause)
    return True


async def _cancel_once(client: BatchClient, left: Sequence[Recorded]) -> bool:
    listing = await client.query({each.name: each.array for each in left})
    sizes = {
        array: each.count for each in left if (array := each.array or listing.names.get(each.name))
    }
    live = _live(listing, sizes)
    if live:
        await client.cancel(live, sizes)
    return bool(live)


def _live(listing: Listing, sizes: dict[str, int]) -> list[JobId]:
    return [job for job, status in listing.jobs.items() if status.state.live and job.array in sizes]


def guard(directory: Path, *, restarts: bool = False, cancels: bool = True) -> None:
    """Wait until the head is gone; clear away, or start another one, unless it said goodbye.

    Where nothing can be cancelled from here, the jobs are left to end by themselves.
    """
    said = b""
    while chunk := os.read(0, 64):
        said += chunk
    if said.endswith(GOODBYE) or (restarts and not said.startswith(IN_CHARGE)):
        return
    if restarts and revival.revive(directory):
        return
    if not cancels:
        (directory / SCHEDULER_FILE).unlink(missing_ok=True)
        return
    asyncio.run(reap(directory))


def start_guardian(directory: Path, *, restarts: bool, cancels: bool) -> subprocess.Popen[bytes]:
    """Start the guardian of a head in this process; see :func:`guard`."""
    command = [sys.executable, "-P", "-m", "dask_hpc.control.reaper", str(directory)]
    return subprocess.Popen(
        [*command, *["--restart"] * restarts, *["--no-commands"] * (not cancels)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # neither Ctrl-C nor the end of the terminal may take it along
        cwd="/",
    )


if __name__ == "__main__":
    words = sys.argv[2:]
    guard(Path(sys.argv[1]), restarts="--restart" in words, cancels="--no-commands" not in words)
