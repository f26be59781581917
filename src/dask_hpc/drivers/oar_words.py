"""What OAR prints and what it means, in plain words, for :mod:`dask_hpc.drivers.oar`.

Tables, and look-ups in them.  Sources: OAR 2.5.9's own modules, which raise these events, and
what a real system printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dask_hpc.errors import BatchSystemUnavailable
from dask_hpc.model.job import JobState

#: What passes: the database or the server is down or busy.  A request that the database itself
#: refuses ("DBD::Pg::st execute failed") is not among them.
TRANSIENT = re.compile(
    r"DBI connect\b|DB connection error|Cannot connect to executor"
    r"|Could not connect to the socket|Connection (?:refused|reset|timed out)"
    r"|(?:deadlock detected|Lost connection|server has gone away|Too many connections)",
    re.IGNORECASE,
)

#: A refusal, and what to do next.
_HINTS = {
    r"not enough resources": (
        "no node has so many cores or GPUs, or has that property: `oarnodes` lists what there is"
    ),
    r"queue \S+ does not exist": "leave queue= out for the default, or ask the site for its queues",
    r"column \"?\w+\"? does not exist|Unknown column": (
        "a resource or property that this site does not have: `oarnodes` lists its properties"
    ),
    r"resource description|-- resource": "resource_spec= is a hierarchy such as /nodes=1/core=4",
    r"unknown job type": "the site's documentation lists its job types (-t)",
    r"Cannot open the file": "the head and oarsub see different file systems",
}

#: What happened to a job that ended in state Error; the first that is among its events counts.
_ENDS = {
    "BESTEFFORT_KILL": (JobState.PREEMPTED, "a job of a higher class took its cores"),
    "WALLTIME": (JobState.TIMEOUT, "its walltime is over"),
    "WORKING_DIRECTORY": (JobState.FAILED, "its working directory is not on the node"),
    "OUTPUT_FILES": (JobState.FAILED, "its output files cannot be written on the node"),
    "FRAG_JOB_REQUEST": (JobState.CANCELLED, "cancelled"),
    # OAR submits a job again, under the same array and index, if one of these kept it from starting
    "PING_CHECKER_NODE_SUSPECTED": (JobState.NODE_FAIL, "a node of it does not answer"),
    "CPUSET_ERROR": (JobState.NODE_FAIL, "a node of it could not be set up"),
    "PROLOGUE_ERROR": (JobState.NODE_FAIL, "the site's prologue failed"),
    "SERVER_PROLOGUE_TIMEOUT": (JobState.NODE_FAIL, "the site's prologue took too long"),
    "SERVER_PROLOGUE_EXIT_CODE_ERROR": (JobState.NODE_FAIL, "the site's prologue failed"),
    "SERVER_PROLOGUE_ERROR": (JobState.NODE_FAIL, "the site's prologue failed"),
    "CANNOT_WRITE_NODE_FILE": (JobState.NODE_FAIL, "a disk of its node is full or broken"),
    "CANNOT_WRITE_PID_FILE": (JobState.NODE_FAIL, "a disk of its node is full or broken"),
    "CANNOT_CREATE_TMP_DIRECTORY": (JobState.NODE_FAIL, "a disk of its node is full or broken"),
    "USER_SHELL": (JobState.NODE_FAIL, "its node does not know the user"),
    "LAUNCHING_OAREXEC_TIMEOUT": (JobState.NODE_FAIL, "a node of it does not answer"),
    "SSH_TRANSFER_TIMEOUT": (JobState.NODE_FAIL, "a node of it does not answer"),
    "BAD_HASHTABLE_DUMP": (JobState.NODE_FAIL, "a node of it does not answer"),
    "EXIT_VALUE_OAREXEC": (JobState.NODE_FAIL, "OAR lost the job on its node"),
}

#: The message of a job that the scheduler has placed tells what it asks for, and not why it waits.
_PLACED = re.compile(r"R=\d+,W=")
#: OAR ends such a job by itself.
NEVER = re.compile(r"will never run")
_REASONS = {
    r"No enough matching resources": "no free resources that fit",
    r"Cannot find enough resources": "no free resources that fit",
    r"Cannot determine scheduling time due to dependency": "waiting for another job",
    r"No enough Tokens": "waiting for a licence",
    r"One or several nodes are not responding": "a node of it does not answer",
}
#: What oardel says of a job that it was asked to cancel before.
KILLED = re.compile(r"Cannot frag \d+ ; This job was already killed\.|")
_FIELDS = {"Job_Id", "array_id", "array_index", "name", "state", "message", "events", "exit_code"}
_FIELDS |= {"assigned_network_address", "startTime", "scheduledStart", "stopTime"}
_OBJECT = re.compile(r"^\{.*^\}", re.MULTILINE | re.DOTALL)
#: An event of type WALLTIME too, and no end of the job.
_CHANGED = re.compile(r"\s*walltime changed\b")
_WHO = re.compile(r"User (\S+) requested to frag")


def rows(text: str) -> list[dict[str, Any]]:
    """Read oarstat's JSON, an object by job id; nothing at all where it lists no jobs."""
    if "{" not in text:
        return []
    found = _OBJECT.search(text)
    try:
        listed = json.loads(found[0] if found else text)
    except ValueError as error:
        raise BatchSystemUnavailable(f"oarstat's list of jobs was cut short: {error}") from error
    jobs = list(listed.values()) if isinstance(listed, dict) else [listed]
    if not all(isinstance(job, dict) and job.keys() >= _FIELDS for job in jobs):
        raise BatchSystemUnavailable("oarstat's list of jobs lacks what OAR 2.5 tells of each")
    return jobs


def refusal(stderr: str) -> str:
    """A refusal's lines as one."""
    return "; ".join(line.strip() for line in stderr.splitlines() if line.strip())


def hint(refusal: str) -> str:
    """What to do after a refusal; empty if nobody knows."""
    return next((_HINTS[seen] for seen in _HINTS if re.search(seen, refusal)), "")


def over(job: Mapping[str, Any]) -> float | None:
    """When OAR ends a job that runs: its walltime may have been changed (oarwalltime)."""
    start, walltime = job["startTime"], job.get("walltime")
    return start + walltime if start and walltime else None


def end(events: Iterable[Mapping[str, str | None]], message: str) -> tuple[JobState, str]:
    """How a job ended that OAR calls an error."""
    described = ((event["type"], event["description"] or "") for event in events)
    told = {kind: words for kind, words in described if not _CHANGED.match(words)}
    for kind, (state, words) in _ENDS.items():
        if kind in told:
            who = _WHO.search(told[kind])
            if who and who[1] == "oar":  # the server itself: the node was declared dead
                return JobState.NODE_FAIL, "OAR took its node away"
            return state, f"{words} by {who[1]}" if who else words
    return JobState.FAILED, message


def wait(message: str) -> str:
    """Why a job waits; empty if it waits for its turn."""
    if _PLACED.match(message):
        return ""
    words = next((_REASONS[seen] for seen in _REASONS if re.match(seen, message)), "")
    return f"{words} ({message})" if words else message
