"""A job beside the workers': submitted, asked for ever more rarely, cancelled.

A head in a job is one, and JupyterLab in a job.  What it runs, and what its end means, is known
there; no file but its script is written here.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from dask_hpc.batch.client import BatchClient
from dask_hpc.control.backoff import IN_DOUBT_SETTLE
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import BatchSystemError
from dask_hpc.launch import rendezvous
from dask_hpc.model.job import JobId, JobSpec, JobStatus, Submission

#: Seconds between two questions how the job does; each is longer than the last.
_FIRST_LOOK, _LONGEST_LOOK, _GROWTH = 2.0, 30.0, 1.5

#: Of what runs in a job of its own the cluster's clients are told so many seconds before the job
#: ends, as an event of the engine's: ``client.subscribe_topic("dask-hpc", print)``.
WARNED_AHEAD, TOPIC = 600.0, "dask-hpc"


class LoneJob:
    """One job.

    Parameters
    ----------
    client
        The batch system.
    name
        Of the submission; no other one was ever called so.
    array
        Its id, of a job that was submitted by somebody else before; None while that is in doubt.

    Attributes
    ----------
    status : JobStatus or None
        The last that was seen.
    """

    def __init__(self, client: BatchClient, name: str, array: str | None = None) -> None:
        self.client = client
        self.submission = Submission(name, 1, client.driver.first_index)
        self.status: JobStatus | None = None
        self._id = self._as_id(array)
        self._settled = time.monotonic() + IN_DOUBT_SETTLE
        self._missed = False
        self.interval = _FIRST_LOOK

    def _as_id(self, array: str | None) -> JobId | None:
        return None if array is None else JobId(array, self.submission.first)

    @property
    def array(self) -> str:
        """Its id; empty while it is in doubt."""
        return "" if self._id is None else self._id.array

    async def submit(self, spec: JobSpec, script: Path) -> None:
        """Submit it.

        Raises
        ------
        BatchSystemError
            If the batch system refuses it, or does not answer: then it is in doubt.
        OSError
            If the script cannot be written.
        """
        rendezvous.write_atomically(script, job_script(spec, self.client.driver))
        self._id = self._as_id(await self.client.submit(self.submission, spec, script))
        self._settled = time.monotonic() + IN_DOUBT_SETTLE

    async def look(self) -> bool:
        """Ask how it does: whether it has ended.  No answer is none."""
        self.interval = min(self.interval * _GROWTH, _LONGEST_LOOK)
        try:
            listing = await self.client.query({self.submission.name: self.array or None})
        except BatchSystemError:
            return False
        if self._id is None:
            self._id = self._as_id(listing.names.get(self.submission.name))
        if self._id is None:
            return time.monotonic() > self._settled
        if (status := listing.jobs.get(self._id)) is None:
            # Some batch systems list a job a moment after they have taken it.
            missed, self._missed = self._missed, True
            return missed
        self.status, self._missed = status, False
        if status.state.waiting and not status.reason and self.client.tells_why:
            why = await self.client.why(self.array)
            self.status = replace(status, reason=why.reason)
        return not status.state.live

    async def cancel(self) -> None:
        """Cancel it.

        Raises
        ------
        BatchSystemError
            If the batch system does not.
        """
        if self._id is not None:
            await self.client.cancel([self._id], {self._id.array: 1})

    def told(self, what: str) -> str:
        """How it does, in a line about what runs in it."""
        if self._id is None:
            return f"{what} waits: the batch system has not said yet whether it took its job"
        if self.status is None:
            return f"{what} waits in the queue as job {self._id.array}"
        why = f" ({self.status.reason})" if self.status.reason else ""
        return f"{what}'s job {self._id.array} is {self.status.state}{why}"
