"""Flux: flux update, and flux jobs.

Source: flux-update(1) and flux-jobs(1), and the plugin update-duration of flux-core: "duration
update of running job requires instance owner privileges".
"""

from __future__ import annotations

import json
from typing import Any

from dask_hpc.drivers import flux_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.extensions import Run

WHO = "Flux lets the owner of its instance alone change the duration of a job that runs"


def ask(job: str) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    return Command(("flux", "jobs", "--json", job), words.UNSET)


def read(output: Output, now: float) -> Run | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.extensions.Extension`: of one job, alone or in a list."""
    try:
        told = json.JSONDecoder().raw_decode(output.stdout, output.stdout.index("{"))[0]
    except ValueError:
        return None
    job: dict[str, Any] = next(iter(told.get("jobs", [told])), {})
    start, end = job.get("t_run"), job.get("expiration")
    if job.get("status") != "RUN" or not start or not end:
        return None
    return Run(float(start), float(end))


def extend(job: str, walltime: int) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    return Command(("flux", "update", job, f"duration={walltime}s"), words.UNSET)
