"""How jobs of PBS and TORQUE ended, from the fields of ``qstat -f``.

Sources: the tables of exit codes in PBS Professional's Programmer's Guide and in TORQUE's
Administrator Guide, and what real servers kept (tests/drivers/transcripts/openpbs, torque).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from dask_hpc.model.job import JobState, JobStatus

#: Exit codes that PBS gives itself: PBS Professional Programmer's Guide, exit status of a job.
KILLED: Mapping[int, tuple[JobState, str]] = {
    -4: (JobState.NODE_FAIL, "its node's daemon was started anew"),
    -5: (JobState.NODE_FAIL, "its node's daemon was started anew"),
    -6: (JobState.NODE_FAIL, "its node's daemon was started anew"),
    -24: (JobState.FAILED, "it used more cores than it has"),
    -25: (JobState.FAILED, "it used more cores than it has"),
    -26: (JobState.OUT_OF_MEMORY, "it needed more virtual memory than the job has"),
    -27: (JobState.OUT_OF_MEMORY, "it needed more memory than the job has"),
    -28: (JobState.FAILED, "its CPU time is over"),
    -29: (JobState.TIMEOUT, "its walltime is over"),
}

#: The same of TORQUE: Administrator Guide, job exit status.
TORQUE_KILLED: Mapping[int, tuple[JobState, str]] = {
    **{code: KILLED[code] for code in (-4, -5, -6)},
    -8: (JobState.FAILED, "its node could not start its command"),
    -9: (JobState.FAILED, "its output file could not be opened"),
    -10: (JobState.OUT_OF_MEMORY, "it needed more memory than the job has"),
    -11: (JobState.TIMEOUT, "its walltime is over"),
    -12: (JobState.FAILED, "its CPU time is over"),
}

_BY = re.compile(r"(?:terminated|deleted) by (\S+)|(Job deleted as result of .*)")
_NUMBER = re.compile(r"-?\d+")


def _verdict(
    code: int, killed: Mapping[int, tuple[JobState, str]], *, over: bool = False
) -> tuple[JobState, str, int | None, int | None]:
    """Read an exit status.

    Parameters
    ----------
    code
        Of the script, 256 and a signal's number, or negative: of the batch system itself.
    killed
        What its negative codes mean.
    over
        Whether the job ran as long as it was allowed to.

    Returns
    -------
    tuple
        State, reason, exit code and signal.
    """
    if code == 0:
        return JobState.COMPLETED, "", 0, None
    if code < 0:
        state, words = killed.get(code, (JobState.FAILED, "its node could not start or keep it"))
        return state, f"{words} (exit status {code})", None, None
    if code <= 256:  # noqa: PLR2004  (128 and a signal's number is the shell's own exit code)
        return JobState.FAILED, "", code, None
    if over:  # PBS before 20.0 had no code of its own for it
        return JobState.TIMEOUT, "its walltime is over", None, None
    return JobState.FAILED, "", None, code - 256


def pbs(fields: Mapping[str, str]) -> JobStatus:
    """Read the record of a job that has ended, or of one of an array."""
    comment, exit_status = fields.get("comment", ""), fields.get("Exit_status", "")
    node = fields.get("exec_host", "").partition("/")[0]
    began = fields.get("stime", "")
    state, reason, code, signal = JobState.CANCELLED, _deleted_by(comment), None, None
    if fields.get("substate") == "91" or comment == "Subjob terminated" or not began:
        pass  # deleted, some before they began
    elif not node or not _NUMBER.fullmatch(exit_status):
        # A job of an array that PBS kept no record of: these are its array's fields, and its exit
        # status is the array's, which stays 0 whatever its jobs did.
        failed = comment == "Subjob failed"
        state, reason = (JobState.FAILED if failed else JobState.GONE), "PBS kept no record of it"
    else:
        state, reason, code, signal = _verdict(int(exit_status), KILLED, over=_over(fields))
    end = instant(fields.get("history_timestamp") or fields.get("obittime", ""))
    return JobStatus(state, reason, node, code, signal, instant(began), end)


def torque(fields: Mapping[str, str]) -> JobStatus:
    """Read the record of a job that has ended."""
    began, exit_status = fields.get("start_time", ""), fields.get("exit_status", "")
    node = fields.get("exec_host", "").partition("/")[0]
    state, reason, code, signal = JobState.CANCELLED, "", None, None
    if not began or exit_status == "271":  # 256 + SIGTERM: deleted as it ran
        reason = _deleted_by(fields.get("comment", ""))
    elif _NUMBER.fullmatch(exit_status):
        state, reason, code, signal = _verdict(int(exit_status), TORQUE_KILLED)
    else:
        state, reason = JobState.GONE, "TORQUE kept no exit status of it"
    end = instant(fields.get("comp_time", ""))
    return JobStatus(state, reason, node, code, signal, instant(began), end)


def _deleted_by(comment: str) -> str:
    """Who deleted a job, where its comment tells."""
    match = _BY.search(comment)
    return (match[2] or f"deleted by {match[1]}") if match else ""


def instant(text: str) -> float | None:
    """Read a time: seconds since the epoch, or local time as ctime(3) writes it."""
    try:
        return float(text) if text.isdigit() else time.mktime(time.strptime(text))
    except (ValueError, OverflowError):
        return None


def _over(fields: Mapping[str, str]) -> bool:
    """Whether a job ran as long as it was allowed to."""
    used = _seconds(fields.get("resources_used.walltime", ""))
    limit = _seconds(fields.get("Resource_List.walltime", ""))
    return used is not None and limit is not None and used >= limit


def _seconds(clock: str) -> int | None:
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d)", clock)
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]) if match else None
