"""OpenLava, which has LSF's commands: what differs.

Source: OpenLava 4.0.0 (tests/drivers/transcripts/openlava).  A walltime is enforced by SIGUSR2,
then SIGINT and SIGTERM: a job that ignores them runs on.  Memory limits were not enforced.
"""

from __future__ import annotations

import re
from typing import ClassVar

from dask_hpc.drivers.lsf import LSF
from dask_hpc.drivers.lsf_units import in_unit
from dask_hpc.errors import ConfigurationError


class OpenLava(LSF):
    """OpenLava."""

    name = "openlava"
    recognised_by = r"^OpenLava ([\d.]+)"
    # No field tells the index (the name does), the host beside the exit code, or why a job ended.
    FIELDS: ClassVar[str] = "jobid stat exit_code job_name"
    LINE: ClassVar[re.Pattern[str]] = re.compile(
        r"(?P<array>\d+) (?P<state>[A-Z]+) (?P<code>\d*) (?P<name>[A-Za-z][\w.-]*)"
        r"\[(?P<index>[1-9]\d*)\]",
        re.ASCII,
    )

    def _memory(self, size: int, unit: str) -> tuple[str, str]:
        """Write the limit and the reservation: KB and MB, where the site says nothing else."""
        return str(in_unit(size, unit or "KB")), str(in_unit(size, unit or "MB"))

    def _gpus(self, count: int) -> str:
        # It would read -gpu as a group of jobs, and num=1 as the command.
        raise ConfigurationError(
            f"OpenLava has no option for {count} GPUs",
            hint="name the site's resource with job_extra_directives= and leave gpus= out",
        )
