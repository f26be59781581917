"""Slurm: scontrol update, and squeue.

Source: scontrol(1), TimeLimit: "Only the Slurm administrator or root can increase job's TimeLimit";
in whole minutes, rounded up.
"""

from __future__ import annotations

from dask_hpc.drivers import slurm_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.extensions import Run, clock, run

WHO = "Slurm lets its operators alone raise the limit of a job that runs"


def ask(job: str) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    options = ("--me", "--all", "--noheader", "--states=running", "--format=%S|%e")
    return Command(("squeue", *options, f"--jobs={job}"), words.UNSET)


def read(output: Output, now: float) -> Run | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    rows = (line.strip().partition("|") for line in output.stdout.splitlines())
    found = (run(words.instant(start), words.instant(end)) for start, _, end in rows)
    return next(filter(None, found), None)


def extend(job: str, walltime: int) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    asked = (f"JobId={job}", f"TimeLimit={clock(walltime)}")
    return Command(("scontrol", "update", *asked), words.UNSET)
