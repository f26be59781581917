"""PBS and TORQUE: qalter, and qstat.

Source: qalter(1B) of both: of a running job's limits "a user may only lower" those that can be
altered at all.  Some sites have a command of their own.
"""

from __future__ import annotations

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.extensions import Run, clock
from dask_hpc.drivers.pbs import UNSET
from dask_hpc.drivers.pbs_ends import instant
from dask_hpc.drivers.pbs_listing import records
from dask_hpc.drivers.queues.words import seconds

WHO = "PBS lets its managers and operators alone raise the limit of a job that runs"


def ask(job: str) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    return Command(("qstat", "-f", _number(job)), UNSET)


def read(output: Output, now: float) -> Run | None:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    for _, fields in records(output.stdout):
        began = instant(fields.get("stime") or fields.get("start_time", ""))  # PBS, TORQUE
        limit = seconds(fields.get("Resource_List.walltime", ""))
        if fields.get("job_state") == "R" and began is not None and limit is not None:
            return Run(began, began + limit)
    return None


def extend(job: str, walltime: int) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    return Command(("qalter", "-l", f"walltime={clock(walltime)}", _number(job)), UNSET)


def _number(job: str) -> str:
    """Without its server, which is the default one: commands of the driver name none either."""
    return job.partition(".")[0]
