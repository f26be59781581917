"""How HTCondor lists jobs: the attributes that are asked for, and what they say of each job.

For :mod:`dask_hpc.drivers.htcondor`, of the queue and of the history alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dask_hpc.drivers import htcondor_words as words
from dask_hpc.drivers.base import Command, Listing
from dask_hpc.errors import BatchSystemUnavailable
from dask_hpc.model.job import JobId, JobState, JobStatus

_ATTRIBUTES = (
    "ClusterId,ProcId,JobBatchName,JobStatus,HoldReason,HoldReasonCode,LastHoldReason"
    ",LastHoldReasonCode,RemoveReason,ExitBySignal,ExitCode,ExitSignal,RemoteHost,LastRemoteHost"
    ",JobCurrentStartDate,EnteredCurrentStatus"
)
_LIST = re.compile(r"^\[\s*$.*^\]", re.MULTILINE | re.DOTALL)
_BY_HAND = re.compile(r"via condor_rm \(by user (\S+)\)")
_REMOVED, _COMPLETED = "3", "4"


def listing(program: str, where: str, *more: str) -> Command:
    """Command that lists the jobs that a condition holds for."""
    return Command((program, "-json", "-attributes", _ATTRIBUTES, "-constraint", where, *more))


def read(text: str, states: Mapping[str, JobState]) -> Listing:
    """Read a list of jobs.

    Parameters
    ----------
    text
        What the command printed.
    states
        State of a job in the queue by its JobStatus; empty for the history, where all have ended.

    Raises
    ------
    BatchSystemUnavailable
        If the list was cut.
    """
    jobs: dict[JobId, JobStatus] = {}
    names: dict[str, str] = {}
    for job in _rows(text):
        array = str(job["ClusterId"])
        jobs[JobId(array, job["ProcId"])] = _status(job, states)
        if name := job.get("JobBatchName"):
            names[name] = array
    return Listing(jobs, names)


def _rows(text: str) -> list[dict[str, Any]]:
    if "{" not in text:  # the queue prints nothing for none, the history an empty list
        return []
    found = _LIST.search(text)
    try:
        listed = json.loads(found[0] if found else text)
    except ValueError as error:
        raise BatchSystemUnavailable(f"HTCondor's list of jobs was cut: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(job, dict) for job in listed):
        raise BatchSystemUnavailable(f"not HTCondor's list of jobs: {text[:80]!r}")
    return [job for job in listed if {"ClusterId", "ProcId", "JobStatus"} <= job.keys()]


def _status(job: Mapping[str, Any], states: Mapping[str, JobState]) -> JobStatus:
    word, reason = str(job["JobStatus"]), ""
    state = states.get(word, JobState.RUNNING)  # a new state is not an end
    if state is JobState.HELD:
        state, reason = words.held(job.get("HoldReasonCode"), job.get("HoldReason") or "")
    elif word == _REMOVED and not states:
        state, reason = _removed(job)
    code = signal = None
    if word == _COMPLETED:
        if job.get("ExitBySignal"):  # the other one may be left from a life before
            signal = job.get("ExitSignal")
        else:
            code = job.get("ExitCode")
        state = JobState.FAILED if code or signal else JobState.COMPLETED
    host = job.get("RemoteHost") or job.get("LastRemoteHost") or ""
    return JobStatus(
        state=state,
        reason=reason,
        node="" if state.waiting else host.partition("@")[2],  # slot1_2@node
        exit_code=code,
        signal=signal,
        start=None if state.waiting else job.get("JobCurrentStartDate"),
        end=None if state.live else job.get("EnteredCurrentStatus"),
    )


def _removed(job: Mapping[str, Any]) -> tuple[JobState, str]:
    """How a job ended that was removed: by a person, or as HTCondor held it."""
    reason = job.get("RemoveReason") or ""
    if by := _BY_HAND.search(reason):
        return JobState.CANCELLED, f"cancelled by {by[1]}"
    state, why = words.held(job.get("LastHoldReasonCode"), job.get("LastHoldReason") or "")
    return (JobState.CANCELLED, reason) if state is JobState.HELD else (state, why)
