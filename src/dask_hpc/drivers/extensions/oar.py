"""OAR: oarwalltime, and oarstat.

Source: oarwalltime(1) and OAR's Walltime.pm of 2.5.9.  It takes note of what is asked; the
scheduler grants it, at its next pass or later, at once or in steps, where no other job is in the
way.  Neither ``--force`` nor ``--delay-next-jobs``: other users' jobs do not wait for a head.
"""

from __future__ import annotations

from dask_hpc.drivers import oar_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.extensions import Run, clock, run

WHO = (
    "the site decides whether OAR does it, by how much, and how near the job's end:"
    " `oarwalltime JOB` tells"
)


def ask(job: str) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    return Command(("oarstat", "--full", "--json", "--sql", f"job_id = {job}"))


def read(output: Output, now: float) -> Run | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    rows = (row for row in words.rows(output.stdout) if row["state"] == "Running")
    return next((run(row["startTime"] or None, words.over(row)) for row in rows), None)


def extend(job: str, walltime: int) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    return Command(("oarwalltime", job, clock(walltime)))
