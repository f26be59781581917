"""What Flux says, in patterns and plain words: refusals, failures that pass, jobs that are gone.

Data of :mod:`dask_hpc.drivers.flux`; no logic may live here.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from dask_hpc.model.job import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A user's own formats, and tracing of every message, would spoil what the commands print.
UNSET = ("FLUX_JOBS_*", "FLUX_PGREP_*", "FLUX_HANDLE_TRACE")

#: The broker is down, starts or stops; nothing of the request itself is wrong.
TRANSIENT = re.compile(
    r"Unable to connect to Flux|Function not implemented|No route to host|Host is unreachable"
    r"|Connection (?:refused|reset|timed out)|(?:Operation|Request) timed out|Broken pipe"
    r"|Resource temporarily unavailable|Transport endpoint",
    re.IGNORECASE,
)

#: What cancelling says of jobs that are gone, and of those it cancelled.
CANCELLED = re.compile(r"job is inactive|unknown job id|INFO: Cancel+ed \d+ job")

#: Pattern in a refusal, and what to do next.
HINTS: Mapping[str, str] = MappingProxyType({
    r"unsatisfiable|Invalid argument.*resource": (
        "`flux resource list` shows the cores and GPUs of the nodes"
    ),
    r"[Ii]nvalid queue|no default queue": "`flux queue list` lists the queues; use queue=",
    r"exceeds policy limit": "`flux queue list` shows the queues' limits",
    r"is disabled": "the site takes no jobs for this queue now: wait, or name another with queue=",
    r"\bbank\b": "`flux account view-user $USER` lists your banks; name one with account=",
    r"[Rr]eplacement|format string": (
        "Flux takes braces for its own: none may be in the paths and options of the job"
    ),
})  # fmt: skip

#: Fatal exceptions of a job that has failed, by type: what became of it, in which words.
EXCEPTIONS: Mapping[str, tuple[JobState, str]] = MappingProxyType({
    "node-failure": (JobState.NODE_FAIL, "its node failed"),
    "dependency": (JobState.FAILED, "the job it depends on failed"),
    "alloc": (JobState.FAILED, "it can never get what it asks for"),
    "exec": (JobState.FAILED, "it could not be started"),
    "timeout": (JobState.TIMEOUT, "its walltime is over"),
    "cancel": (JobState.CANCELLED, ""),
})  # fmt: skip
