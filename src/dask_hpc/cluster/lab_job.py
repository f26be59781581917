"""JupyterLab in a job of its own, as its head sees it: submitted, heard of, seen to end.

What runs in the job is :mod:`.lab_process`; it tells over the control channel how it is reached.
The job is in the journal like those of the workers, so that it is found again whatever dies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.cluster.directory import LAB_WANTED, ClusterDirectory
from dask_hpc.cluster.head_job import spec_of
from dask_hpc.cluster.lone_job import WARNED_AHEAD, LoneJob
from dask_hpc.cluster.request import Request
from dask_hpc.control.journal import Recorded
from dask_hpc.drivers.base import log_path
from dask_hpc.errors import BatchSystemError, BatchSystemMissing, HPCError, JupyterError, from_json
from dask_hpc.errors import SubmitRejected as Refused
from dask_hpc.jupyter.reach import Listen, Reach, Waiting
from dask_hpc.jupyter.server import PLACE
from dask_hpc.launch import rendezvous
from dask_hpc.model.job import JobSpec, JobState

logger = logging.getLogger("dask_hpc")

#: Its pool in the journal; no pool of workers can be called so.
POOL = "(jupyter)"
#: What it is in messages.
_WHAT = "JupyterLab"
#: Seconds for a cancelled job to be gone, and between two looks meanwhile.
_GONE, _LOOK = 30.0, 0.5
#: Bytes of its log that an error shows.
_LOG_END = 2000


def lab_spec(request: Request, job: Mapping[str, Any], directory: ClusterDirectory) -> JobSpec:
    """What the job asks for and runs, but for its name.

    Parameters
    ----------
    request
        Of the cluster: what its jobs ask for holds where nothing else is said.
    job
        As of a pool; one core and 4 GiB unless it says so.
    directory
        Of the cluster.

    Raises
    ------
    ConfigurationError
        If an option is unknown or senseless.
    """
    command = [sys.executable, "-P", "-m", "dask_hpc.cluster.lab_process", str(directory.path)]
    return spec_of(request, job, directory.logs, command, pool="jupyter", word="job")


@dataclass(frozen=True, slots=True)
class LabJobs:
    """How such jobs are submitted and written down.

    Parameters
    ----------
    client
        The batch system.
    record
        Writes an event to the journal.
    """

    client: BatchClient
    record: Callable[..., Awaitable[None]]


class LabJob:
    """One such job.

    Parameters
    ----------
    jobs
        How to submit it.
    cluster, directory
        Name and directory of the cluster.
    warn
        Tells the clients of the cluster something.
    recorded
        What the journal knows of it, if an earlier head submitted it.

    Attributes
    ----------
    reach : Reach or None
        How it is reached, once it has said so.
    over : bool
        Whether the job has ended.
    error : HPCError or None
        Why, if that was before it could be reached.
    """

    def __init__(
        self,
        jobs: LabJobs,
        cluster: str,
        directory: ClusterDirectory,
        *,
        warn: Callable[[str], None],
        recorded: Recorded | None = None,
    ) -> None:
        self.name = recorded.name if recorded else f"{cluster}-jupyter-{secrets.token_hex(4)}"
        self.reach: Reach | None = None
        self.over = False
        self.error: HPCError | None = None
        self._cluster = cluster
        self._directory = directory
        self._record = jobs.record
        self._warn = warn
        self._warned = False
        self._heard = asyncio.Event()
        self._job = LoneJob(jobs.client, self.name, recorded.array if recorded else None)
        self._watch: asyncio.Task[None] | None = None
        if recorded is not None:
            self._begin()

    async def submit(self, spec: JobSpec, listen: Listen, root: Path) -> None:
        """Submit it.

        Raises
        ------
        BatchSystemError
            If the batch system refuses it, when it is over; or does not answer, when it may exist.
        OSError
            If the cluster directory cannot be written.
        """
        self.over = True  # as long as there can be no job
        wanted = {"listen": listen, "root": str(root), "walltime": spec.walltime}
        rendezvous.write_atomically(self._directory.path / LAB_WANTED, json.dumps(wanted))
        spec = replace(spec, command=(*spec.command, self.name))
        await self._record(
            "intended",
            name=self.name,
            pool=POOL,
            count=1,
            walltime=spec.walltime,
            at=time.time(),
        )
        self.over = False
        try:
            await self._job.submit(spec, self._directory.script("jupyter"))
        except (Refused, BatchSystemMissing):
            self.over = True
            await self._record("refused", name=self.name)
            raise
        except BaseException:  # in doubt, whatever it was: looked for by its name
            self._begin()
            raise
        self._begin()
        await self._record("submitted", name=self.name, array=self._job.array, at=time.time())
        logger.info("submitted %s as %s", self.name, self._job.array)

    def _begin(self) -> None:
        self._watch = asyncio.create_task(self._live(), name="dask-hpc jupyter job")

    def told(self, *, reach: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
        """Hear from the job: how it is reached, what keeps it from starting, or that it ends.

        Parameters
        ----------
        reach
            As :meth:`Reach.to_json` gives it.
        error
            As :func:`dask_hpc.errors.to_json` gives it.
        """
        self.reach = None if reach is None else Reach.from_json(dict(reach))
        if error is not None:
            self.error = from_json(error)
        if reach is None:
            self._heard.set()

    def look(self) -> Reach | Waiting:
        """How it is reached, or how it does."""
        return self.reach or Waiting(self._job.told(_WHAT))

    async def _live(self) -> None:
        """See that it is written down when it has ended, and that its user learns why."""
        while not await self._job.look():
            if self._job.status and self._job.status.state.waiting:
                self.reach = None  # it is to run once more: its node has failed, say
            self._warn_ahead()
            pause = _LOOK if self._heard.is_set() else self._job.interval
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await (asyncio.sleep(pause) if self._heard.is_set() else self._heard.wait())
        await self._ended()

    def _warn_ahead(self) -> None:
        if self.reach is None or self.reach.until is None or self._warned:
            return
        left = self.reach.until - time.time()
        if left < WARNED_AHEAD:
            self._warned = True
            self._warn(
                f"the job of JupyterLab of cluster {self._cluster} ends in {left:.0f} s, and its"
                " kernels then"
            )

    async def _ended(self) -> None:
        was_there, self.reach = self.reach is not None, None
        array, status = self._job.array, self._job.status
        if array:
            history = await self._job.client.history([array])
            status = next(iter(history.jobs.values()), status)
        how = f"{status.state}: {status.reason}".rstrip(": ") if status else "gone"
        called = f"job {array}" if array else f"job {self.name}, which nobody knows,"
        message = f"{_WHAT}'s {called} of cluster {self._cluster} has ended ({how})"
        if was_there and not (status and status.state is JobState.COMPLETED):
            logger.warning("%s", message)
        elif self.error is None and not self._heard.is_set():
            said = await asyncio.to_thread(self._said)
            self.error = JupyterError(f"{message} before it could be reached", hint=said)
        await self._over()

    async def _over(self) -> None:
        # Killed, it could not do so itself.
        place = self._directory.path / PLACE
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        await self._record("ended", name=self.name)
        self.over = True

    def _said(self) -> str:
        log = log_path(self._directory.logs, self.name, self._job.submission.first)
        try:
            end = log.read_bytes()[-_LOG_END:].decode(errors="replace").strip()
        except OSError:
            end = ""
        return f"the end of its log:\n{end}" if end else f"it wrote no log ({log})"

    async def close(self) -> list[str]:
        """Cancel it and see it gone; its id, or in words, if it is not known to be."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self.over:
            return []
        self.reach = None
        with suppress(BatchSystemError, TimeoutError):
            await self._job.cancel()
            async with asyncio.timeout(_GONE):
                while not await self._job.look():  # noqa: ASYNC110  (no event tells)
                    await asyncio.sleep(_LOOK)
            await self._over()
            return []
        self._begin()
        return [self._job.array or "(in doubt)"]
