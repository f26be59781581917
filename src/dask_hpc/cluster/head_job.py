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
from dask_hpc.cluster.lone_job import LoneJob
from dask_hpc.cluster.pools import python_words
from dask_hpc.cluster.request import Request, understand
from dask_hpc.cluster.view import HeadPlace
from dask_hpc.control.reaper import reap
from dask_hpc.errors import ClusterDirectoryError, ConfigurationError
from dask_hpc.model.job import JobSpec
from dask_hpc.model.job_environment import job_of

#: What such a job asks for unless it is told otherwise: a head computes nothing.
DEFAULTS = {"cores": 1, "memory": "4 GiB"}
#: Of head_options, what is not about its job: whether its node may submit jobs.
SUBMITS = "submits"

#: Seconds to see jobs gone that were cancelled.
_REAP = 60.0

#: Of the environment, what the head must have as it is here: not all batch systems carry it over.
_CARRIED = ("PATH", "PYTHONPATH", "DASK_CONFIG")
_CARRIED_GROUPS = ("DASK_HPC_", "DASK_DASK_HPC__", "DASK_DISTRIBUTED__")


def spec_of(
    request: Request,
    asked: Mapping[str, Any],
    logs: Path,
    command: list[str],
    *,
    pool: str = "head",
    word: str = "head_options",
) -> JobSpec:
    """What a head's job, or another one beside the workers', asks for and runs.

    Parameters
    ----------
    request
        Of the cluster: what its jobs ask for holds where nothing else is said.
    asked
        As of a pool, but for :data:`SUBMITS`; one core and 4 GiB unless it says so.
    logs
        Directory of its log.
    command
        To run.
    pool, word
        What it is called; by which keyword `asked` was given.

    Raises
    ------
    ConfigurationError
        If an option is unknown or senseless.
    """
    sized = {name: value for name, value in asked.items() if name != SUBMITS}
    try:
        options = request.pool(pool, {**DEFAULTS, **sized})
    except ConfigurationError as error:
        told = str(error.args[0]).replace(f"pool {pool}:", f"{word}:")
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
        log_directory=logs,
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
    batch
        Name of the batch system.
    wanted
        What its head is to be told beyond what any is.
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
        self._lending: Lending | None = None
        self.spec = spec_of(request, head_options, directory, command)
        self._job = LoneJob(BatchClient(request.driver), f"{name}-head-{secrets.token_hex(4)}")
        self._script = directory / "job-head.sh"
        self._next = time.monotonic() + self._job.interval
        self.batch = request.driver.name
        self.wanted: dict[str, Any] = {
            # Its node may lack the commands by which the batch system is known here.
            "keywords": {**words, "batch": self.batch},
            "walltime": self.spec.walltime,
            "submits": self.submits,
        }

    def submit(self) -> None:
        """Submit it.

        Raises
        ------
        BatchSystemError
            If the batch system refuses it, or does not answer.
        """
        note = pending.Note(self.batch, self._job.submission.name, time.time())
        pending.write(self._script.parent, note)
        asyncio.run(self._job.submit(self.spec, self._script))
        pending.write(self._script.parent, replace(note, array=self._job.array))

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
        return self._job.told("the head")

    def over(self) -> bool:
        """Ask now and then how it does; whether it has ended."""
        if time.monotonic() < self._next or not self._job.array:
            return False
        over = asyncio.run(self._job.look())
        self._next = time.monotonic() + self._job.interval
        return over

    def cancel(self) -> None:
        """Cancel it: nobody waits for it any more."""
        asyncio.run(self._job.cancel())


def place_of_this_job(walltime: float | None, *, submits: bool = True) -> HeadPlace:
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
