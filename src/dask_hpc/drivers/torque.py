"""TORQUE, alone or under Moab or Maui: qsub, qstat, qselect, qdel.

Sources: qsub(1B), qstat(1B), qdel(1B) of TORQUE, the source of its qstat, and what the real
commands printed (tests/drivers/transcripts/torque).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import ClassVar

from dask_hpc.drivers import pbs_ends
from dask_hpc.drivers.base import Command, Output, ranges
from dask_hpc.drivers.pbs import MIB, PBS, UNSET
from dask_hpc.errors import SubmitRejected
from dask_hpc.model.job import JobSpec, JobState


class Torque(PBS):
    """TORQUE Resource Manager."""

    name = "torque"
    # PBS_JOBNAME is NAME-3 in job 3 of an array, and NAME in one job alone.
    LIMITED = re.compile(r"Maximum number of jobs already in queue")  # from the manual, never seen
    worker_prefix = "${PBS_JOBNAME%-$PBS_ARRAYID}-${PBS_ARRAYID:-1}"
    #: Every job of an array is a whole job of the server, which a large array swamps.
    default_array_limit = 250
    recognised_by = r"^[Vv]ersion:\s*(\S+)"
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "resource_spec": "what to request in place of nodes and mem, e.g. 'nodes=1:ppn=24,mem=9gb'",
    }

    STATES: ClassVar[Mapping[str, JobState]] = {  # qstat(1B), job states
        "Q": JobState.PENDING,
        "T": JobState.PENDING,  # on its way to another queue or server
        "W": JobState.PENDING,  # its begin time has not come
        "H": JobState.HELD,  # also over its array's slot limit
        "R": JobState.RUNNING,
        "S": JobState.RUNNING,  # suspended: it goes on where it was
        "E": JobState.ENDING,
        "C": JobState.GONE,  # listed for keep_completed seconds; the full listing tells how
    }

    _end = staticmethod(pbs_ends.torque)
    _tolerant = "-f"

    def _resources(self, spec: JobSpec) -> tuple[str, ...]:
        nodes = f"nodes={spec.nodes}:ppn={spec.cores}"
        if spec.gpus:
            nodes += f":gpus={spec.gpus}"
        if spec.memory is None:
            return (nodes,)
        return (nodes, f"mem={-(-spec.memory * spec.nodes // MIB)}mb")  # mem is of the whole job

    def _array(self, count: int) -> tuple[str, ...]:
        if count > self.default_array_limit:
            raise SubmitRejected(
                f"an array of {count} jobs could bring TORQUE's server down",
                hint=f"ask for at most {self.default_array_limit} in one array",
            )
        return ("-t", f"1-{count}")

    def _names(self, name: str) -> tuple[str, ...]:
        """Only the jobs of an array have a name, each its own."""
        return (name, f"{name}-{self.first_index}")

    def _check(self, output: Output, listed: set[str]) -> None:
        """Nothing to check: an array whose jobs are forgotten may go on without a row."""

    def _targets(self, array: str, some: set[int], *, whole: bool) -> list[tuple[str, ...]]:
        """Parts of an array are one command: ``-t 0-3,7``."""
        part = () if whole or "[" not in array else ("-t", ranges(some))
        return [(*part, array)]

    def history(self, arrays: Collection[str]) -> list[Command]:
        """See :meth:`Driver.history`: -x is XML here; without -t a listing is of all jobs."""
        return [Command(("qstat", "-t", "-f", array), UNSET) for array in sorted(arrays)]

    def why(self, array: str) -> Command:
        """See :meth:`Driver.why`: the scheduler comments on each job of an array."""
        return Command(("qstat", "-t", "-f", array), UNSET)
