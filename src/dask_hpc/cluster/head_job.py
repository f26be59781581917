"""A head in a job of its own: submitted here, waited for, and what it finds there.

The job runs :mod:`.head_process`; that submits the workers' jobs from its node, or has that done
here, where nodes may not (:mod:`.lending`).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.cluster import pending
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.known import Known
from dask_hpc.cluster.lending import Lending
from dask_hpc.cluster.pools import python_words
from dask_hpc.cluster.request import Request, understand
from dask_hpc.cluster.view import HeadPlace
from dask_hpc.control.reaper import reap
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import BatchSystemError, ClusterDirectoryError, ConfigurationError
from dask_hpc.launch import rendezvous
from dask_hpc.model.job import JobId, JobSpec, JobStatus, Submission
from dask_hpc.model.job_environment import job_of

#: What a head's job asks for unless it is told otherwise: it computes nothing.
DEFAULTS = {"cores": 1, "memory": "4 GiB"}
#: Of head_options, what is not about its job: whether its node may submit jobs.
SUBMITS = "submits"
#: Seconds between two questions how the job does; each is longer than the last.
_FIRST_LOOK, _LONGEST_LOOK, _GROWTH = 2.0, 30.0, 1.5

#: Seconds to see jobs gone that were cancelled.
_REAP = 60.0

#: Of the environment, what the head must have as it is here: not all batch systems carry it over.
_CARRIED = ("PATH", "PYTHONPATH", "DASK_CONFIG")
_CARRIED_GROUPS = ("DASK_HPC_", "DASK_DASK_HPC__", "DASK_DISTRIBUTED__")


def spec_of(
    request: Request, head_options: Mapping[str, Any], directory: Path, command: list[str]
) -> JobSpec:
    """What a head's job asks for and runs.

    Parameters
    ----------
    request
        Of the cluster: what its jobs ask for holds where nothing else is said.
    head_options
        As those of a pool, but for :data:`SUBMITS`; one core and 4 GiB unless they say so.
    directory
        Of the cluster.
    command
        That is the head.

    Raises
    ------
    ConfigurationError
        If an option is unknown or senseless.
    """
    asked = {name: value for name, value in head_options.items() if name != SUBMITS}
    try:
        options = request.pool("head", {**DEFAULTS, **asked})
    except ConfigurationError as error:
        told = str(error.args[0]).replace("pool head:", "head_options:")
        raise ConfigurationError(told, hint=error.hint) from None
    return JobSpec(
        command=(*python_words(options.python), *command[1:]),
        cores=options.cores,
        memory=options.memory,
        walltime=options.walltime,
        queue=options.queue,
        account=options.account,
        directives=options.job_extra_directives,
        directives_skip=options.job_directives_skip,
        prologue=options.job_script_prologue,
        epilogue=options.job_script_epilogue,
        environment=tuple(_carried(os.environ).items()),
        shebang=options.shebang,
        log_directory=directory,
        directory=Path.cwd(),
        options=options.own,
    )


def submits(request: Request, head_options: Mapping[str, Any]) -> bool:
    """Whether a head in a job submits from its node: unless its options, or the site, say no.

    Raises
    ------
    ConfigurationError
        If they say neither yes nor no.
    """
    machine = request.machine
    default = machine is None or machine.nodes_submit is None or bool(machine.nodes_submit.value)
    said = head_options.get(SUBMITS, default)
    if not isinstance(said, bool):
        raise ConfigurationError(f"head_options: {SUBMITS}={said!r} is neither true nor false")
    return said


def _carried(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if (name in _CARRIED or name.startswith(_CARRIED_GROUPS)) and "\n" not in value
    }


class HeadJob:
    """The job of a head.

    Parameters
    ----------
    words
        Keywords of the cluster.
    head_options
        What the head's job asks for.
    name, directory
        Of the cluster.
    command
        That is the head.

    Raises
    ------
    ConfigurationError
        If something of that can never work.

    Attributes
    ----------
    submits
        Whether the head submits from its node.
    """

    def __init__(
        self,
        words: Mapping[str, Any],
        head_options: Mapping[str, Any],
        *,
        name: str,
        directory: Path,
        command: list[str],
    ) -> None:
        given = {word: each for word, each in words.items() if word not in ("site", "shapes")}
        request = understand(given, batch=given.pop("batch", None), site=words.get("site"))
        self.submits = submits(request, head_options)
        if not self.submits and words.get("shapes"):
            raise ConfigurationError(
                "a head whose node cannot ask the batch system cannot choose among shapes",
                hint="leave shapes= out, or have the head here: head='detached'",
            )
        self.client = BatchClient(request.driver)
        self._lending: Lending | None = None
        self.spec = spec_of(request, head_options, directory, command)
        first = request.driver.first_index
        self._submission = Submission(f"{name}-head-{secrets.token_hex(4)}", 1, first)
        self._script = directory / "job-head.sh"
        self._id: JobId | None = None
        self._interval, self._next = _FIRST_LOOK, time.monotonic() + _FIRST_LOOK
        self.status: JobStatus | None = None

    def submit(self) -> None:
        """Submit it.

        Raises
        ------
        BatchSystemError
            If the batch system refuses it, or does not answer.
        """
        text = job_script(self.spec, self.client.driver)
        rendezvous.write_atomically(self._script, text)
        note = pending.Note(self.client.driver.name, self._submission.name, time.time())
        pending.write(self._script.parent, note)
        array = asyncio.run(self.client.submit(self._submission, self.spec, self._script))
        pending.write(self._script.parent, replace(note, array=array))
        self._id = JobId(array, self._submission.first)

    def is_it(self, known: Known) -> bool:
        """Whether this is its cluster; nobody else writes into the directory."""
        return known.head == "job" and not known.pending

    def serve(self, known: Known) -> None:
        """Run commands for it from now on, if it cannot itself.

        Raises
        ------
        RendezvousError
            If it does not answer.
        """
        if self._lending is None:
            self._lending = Lending(known)

    def leave(self) -> None:
        """Run no more of them."""
        if self._lending is not None:
            self._lending.close()

    def clear_away(self, *, keep_logs: bool) -> None:
        """Cancel from here what is left in the cluster's directory, unless its node can.

        Parameters
        ----------
        keep_logs
            Whether the jobs' logs stay: a failure may need them.

        Raises
        ------
        ClusterDirectoryError
            If it cannot be cancelled.
        """
        if self.submits:
            return
        path = self._script.parent
        if not asyncio.run(reap(path, patience=_REAP)):
            raise ClusterDirectoryError(
                f"jobs of cluster {path.name} are left and could not be cancelled",
                hint="see the batch system's queue, or take another name=",
            )
        ClusterDirectory(path, path / "logs").clear(keep_logs=keep_logs)

    def told(self) -> str:
        """How it does."""
        if self.status is None:
            return f"the head waits in the queue as job {self._id and self._id.array}"
        why = f" ({self.status.reason})" if self.status.reason else ""
        return f"the head's job {self._id and self._id.array} is {self.status.state}{why}"

    def over(self) -> bool:
        """Ask now and then how it does; whether it has ended."""
        if time.monotonic() < self._next or self._id is None:
            return False
        self._interval = min(self._interval * _GROWTH, _LONGEST_LOOK)
        self._next = time.monotonic() + self._interval
        arrays: dict[str, str | None] = {self._submission.name: self._id.array}
        try:
            listing = asyncio.run(self.client.query(arrays))
        except BatchSystemError:
            return False  # not observed
        self.status = listing.jobs.get(self._id, self.status)
        return self._id not in listing.jobs or not listing.jobs[self._id].state.live

    def cancel(self) -> None:
        """Cancel it: nobody waits for it any more."""
        if self._id is not None:
            asyncio.run(self.client.cancel([self._id], {self._id.array: 1}))


def place_of_this_job(walltime: float | None, *, submits: bool) -> HeadPlace:
    """Where a head in a job runs.

    Parameters
    ----------
    walltime
        Seconds, as asked for: where the batch system tells no deadline.
    submits
        Whether it may submit there.
    """
    row = job_of(os.environ)
    job = _array(os.environ.get(row.job_id, "") if row else "")
    told = os.environ.get(row.end, "") if row and row.end else ""
    if told.isdecimal():
        return HeadPlace("job", job, float(told), submits)
    return HeadPlace("job", job, time.time() + walltime if walltime else None, submits)


def _array(told: str) -> str:
    """Id of the array of this job, as its variable tells it; HTCondor's names a file."""
    if "/" not in told:
        return re.split(r"[_\[]", told)[0]
    try:
        described = Path(told).read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^ClusterId = (\d+)$", described, re.MULTILINE)
    return found[1] if found else ""
