"""A head in a job of its own: submitted here, waited for, and what it finds there.

The job runs :mod:`.head_process`; that submits the workers' jobs from its node.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.cluster.known import Known
from dask_hpc.cluster.lone_job import LoneJob
from dask_hpc.cluster.pools import python_words
from dask_hpc.cluster.request import Request, understand
from dask_hpc.cluster.view import HeadPlace
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobSpec
from dask_hpc.model.job_environment import job_of

#: What such a job asks for unless it is told otherwise: a head computes nothing.
DEFAULTS = {"cores": 1, "memory": "4 GiB"}
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
        As of a pool; one core and 4 GiB unless it says so.
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
    try:
        options = request.pool(pool, {**DEFAULTS, **asked})
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
        self.spec = spec_of(request, head_options, directory, command)
        self._job = LoneJob(BatchClient(request.driver), f"{name}-head-{secrets.token_hex(4)}")
        self._script = directory / "job-head.sh"
        self._next = time.monotonic() + self._job.interval

    def submit(self) -> None:
        """Submit it.

        Raises
        ------
        BatchSystemError
            If the batch system refuses it, or does not answer.
        """
        asyncio.run(self._job.submit(self.spec, self._script))

    def is_it(self, known: Known) -> bool:
        """Whether this is its cluster; nobody else writes into the directory."""
        return known.head == "job"

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


def place_of_this_job(walltime: float | None) -> HeadPlace:
    """Where a head in a job runs.

    Parameters
    ----------
    walltime
        Seconds, as asked for: where the batch system tells no deadline.
    """
    row = job_of(os.environ)
    job = re.split(r"[_\[]", os.environ.get(row.job_id, "") if row else "")[0]  # of the array
    told = os.environ.get(row.end, "") if row and row.end else ""
    if told.isdecimal():
        return HeadPlace("job", job, float(told))
    return HeadPlace("job", job, time.time() + walltime if walltime else None)
