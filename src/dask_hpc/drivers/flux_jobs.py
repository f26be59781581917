"""Read what ``flux jobs --json`` prints: one object per job, a missing key is not known yet.

Source: flux-jobs(1), --json and OUTPUT FORMAT.  No command is built here: see
:mod:`dask_hpc.drivers.flux`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from dask_hpc.drivers.flux_words import EXCEPTIONS
from dask_hpc.errors import BatchSystemUnavailable
from dask_hpc.model.job import JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIGNALS = range(129, 129 + 64)  # flux-submit(1), EXIT STATUS: 128 and the signal


def status(job: Mapping[str, Any], states: Mapping[str, JobState]) -> JobStatus:
    """Status of one job.

    Parameters
    ----------
    job
        Its object; ``status`` is a text.
    states
        The driver's table.
    """
    state = states.get(job["status"], JobState.RUNNING)  # a new one is not an end
    if state is JobState.PENDING:
        return _waiting(job)
    state, reason = _explained(state, _dict(job.get("exception")))
    code, signal = _exit(job.get("returncode")) if state is JobState.FAILED else (None, None)
    return JobStatus(
        state,
        "" if state.live else reason,
        node=_first(job.get("nodelist")),
        exit_code=code,
        signal=signal,
        start=_number(job.get("t_run")),
        end=_number(job.get("expiration" if state is JobState.RUNNING else "t_inactive")),
    )


def decoded(text: str) -> Iterator[Mapping[str, Any]]:
    """Object of each job in what the command printed.

    Raises
    ------
    BatchSystemUnavailable
        If that is cut off, or something else.
    """
    start = text.find('{"jobs"')  # a wrapper may print before it, and after
    try:
        listed: list[Any] = list(json.JSONDecoder().raw_decode(text, max(start, 0))[0]["jobs"])
    except (ValueError, TypeError, KeyError):
        raise BatchSystemUnavailable(
            f"flux jobs printed no list of jobs: {text[:200] or '(nothing)'}"
        ) from None
    return (job for job in listed if isinstance(job, dict))


def _waiting(job: Mapping[str, Any]) -> JobStatus:
    sched = _dict(_dict(job.get("annotations")).get("sched"))
    dependencies = job.get("dependencies")
    reason = str(sched.get("reason_pending") or "")
    if dependencies and isinstance(dependencies, list):
        reason = f"waits for {', '.join(map(str, dependencies))}"
    elif job["status"] == "PRIORITY":
        reason = "waits for its priority: the bank's limits, perhaps"
    if job.get("urgency") == 0:
        return JobStatus(JobState.HELD, f"held: flux job urgency {job.get('jobid', 'ID')} default")
    return JobStatus(JobState.PENDING, reason, start=_number(sched.get("t_estimate")))


def _explained(state: JobState, exception: Mapping[str, Any]) -> tuple[JobState, str]:
    """Tell a failure's kind by its exception, whose note is in words already."""
    if not exception.get("occurred"):
        return state, ""
    kind, note = str(exception.get("type")), str(exception.get("note") or "")
    told, reason = EXCEPTIONS.get(kind, (state, f"exception {kind}"))
    text = f"{reason} ({note})" if reason and note else reason or note
    return told if state is JobState.FAILED else state, text


def _exit(code: object) -> tuple[int | None, int | None]:
    if not isinstance(code, int):
        return None, None
    if code < 0:  # the job's shell itself was killed
        return None, -code
    return (None, code - 128) if code in _SIGNALS else (code, None)


def _first(nodes: object) -> str:
    """First node of a list such as ``fn[0-2,7]``."""
    match = re.match(r"([^\[,]*)(?:\[(\d+))?", nodes) if isinstance(nodes, str) else None
    return match[1] + (match[2] or "") if match else ""


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value else None
