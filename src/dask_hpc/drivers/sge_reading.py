"""Read what Grid Engine's commands print: how jobs ended, why they wait, why one was refused.

Pure, a part of the driver :mod:`dask_hpc.drivers.sge`.  Sources: sge_accounting(5), sge_status(5),
sge_submit(1), and what the commands printed (tests/drivers/transcripts/sge).
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from signal import Signals
from typing import TYPE_CHECKING

from dask_hpc.drivers import sge_words as words
from dask_hpc.drivers.base import Why, parse_ranges
from dask_hpc.errors import BatchSystemUnavailable, ConfigurationError, SubmitRejected
from dask_hpc.model.job import JobId, JobState, JobStatus
from dask_hpc.units import parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROW = re.compile(r"<job_list\b[^>]*>(.*?)</job_list>", re.DOTALL)
_FIELD = re.compile(r"<(\w+)>([^<]*)</\1>")
_RECORD = re.compile(r"^={20,}\s*$", re.MULTILINE)
_LINE = re.compile(r"^(\w+)[ \t]+(.*?)[ \t\r]*\n", re.MULTILINE)  # whole: "20" may be 200
_CODE = re.compile(r"(\d+)(?:\s*[:(].*)?")
_NEEDED = ("jobnumber", "taskid", "failed", "exit_status")
#: Exit codes above it are signals, where accounting says that the job died of one.
_SIGNAL = 128


def rows(text: str) -> Iterator[tuple[str, list[int], dict[str, str]]]:
    """Array, indices and fields of each row of ``qstat -xml`` that stands for jobs of an array.

    Not by an XML parser: Grid Engine lets odd names of a user's other jobs break the document
    (seen: ``%lt;``), and a row of ours has nothing that needs one.

    Raises
    ------
    BatchSystemUnavailable
        If the document was cut short, or says which jobs in a way that cannot be read.
    """
    if not 0 < text.count("<job_info") == text.count("</job_info>"):
        raise BatchSystemUnavailable("qstat's answer was cut short")
    for row in _ROW.findall(text):
        fields = dict(_FIELD.findall(row))
        array, tasks = fields.get("JB_job_number", ""), fields.get("tasks", "")
        if not array.isdigit() or not tasks:  # not an array: none of ours
            continue
        try:
            yield array, parse_ranges(tasks), fields
        except ValueError:
            raise BatchSystemUnavailable(f"qstat wrote jobs of {array} as {tasks}") from None


def ends(text: str) -> dict[JobId, JobStatus]:
    """How each job in the output of ``qacct -j`` ended.

    A job that was requeued has a record for each of its lives: the last counts, and if that says
    that the job goes on, it has no end here.
    """
    jobs: dict[JobId, JobStatus | None] = {}
    records = [dict(_LINE.findall(record)) for record in _RECORD.split(text)[1:]]
    for fields in records:
        codes = [_CODE.fullmatch(fields.get(name, "")) for name in _NEEDED]
        if None in codes:  # cut off, or a job that is no array: none of ours
            continue
        if len(fields) < len(records[0]) or "maxvmem" not in fields:  # cut off further down
            continue
        array, index, failed, exit_status = (int(code[1]) for code in codes if code)
        over = failed not in words.NO_END
        jobs[JobId(str(array), index)] = _end(fields, failed, exit_status) if over else None
    return {job: status for job, status in jobs.items() if status is not None}


def instant(text: str) -> float | None:
    """Seconds since the epoch of a local time as Grid Engine writes it; None if it is none."""
    with suppress(ValueError):
        return datetime.fromisoformat(text).timestamp()  # qstat -xml
    for form in ("%a %b %d %H:%M:%S %Y", "%m/%d/%Y %H:%M:%S.%f"):  # qacct; Univa's
        with suppress(ValueError):
            return datetime.strptime(text, form).timestamp()  # noqa: DTZ007  (local time)
    return None


def refusal(text: str) -> SubmitRejected:
    """The error for what qsub said when it refused, with what to do next."""
    lines = [line.removeprefix("Unable to run job: ").strip() for line in text.splitlines()]
    said = "; ".join(line for line in lines if line not in ("", "Exiting."))
    hints = (hint for seen, hint in words.HINTS.items() if re.search(seen, text))
    return SubmitRejected(f"qsub refused the job: {said}", hint=next(hints, ""))


def all_gone(text: str) -> bool:
    """Whether all that a failed qdel complains of is jobs that are no longer there."""
    lines = text.splitlines()
    gone = [line for line in lines if words.GONE.search(line)]
    return bool(gone) and not any(words.REFUSED.search(line) for line in lines if line not in gone)


def status(fields: Mapping[str, str], states: Mapping[str, JobState]) -> JobStatus:
    """Status in a row of :func:`rows`; ``states`` is the table of letters."""
    letters = fields.get("state", "")
    known = next((states[each] for each in states if each in letters), None)
    state = known or JobState.RUNNING  # a new state is not an end
    return JobStatus(
        state=state,
        reason=_reason(state, letters, fields["JB_job_number"]),
        node=fields.get("queue_name", "").partition("@")[2],
        start=instant(fields.get("JAT_start_time", "")),
        impossible="E" in letters and state is JobState.HELD,
    )


def _reason(state: JobState, letters: str, array: str) -> str:
    if state is JobState.HELD:
        held = words.IN_ERROR if "E" in letters else words.HELD
        return f"{held.format(array)} ({letters})"
    if state is JobState.PENDING and "R" in letters:
        return f"{words.REQUEUED} ({letters})"
    return (
        f"suspended ({letters})" if state is JobState.RUNNING and set(letters) & set("sST") else ""
    )


def verdict(text: str) -> Why:
    """Why jobs wait, from ``qalter -w v``: Grid Engine's words, each once whatever the host."""
    found = re.search(r"^verification: (.*)$", text, re.MULTILINE)
    if found is None:
        return Why()
    if "no suitable queues" not in found[1]:
        return Why(words.WAITING)
    lines = re.findall(r"^Job \d+ (.*?)\s*$", text, re.MULTILINE)
    telling = [line for line in lines if not words.NOISE.search(line)] or lines
    why = "; ".join(dict.fromkeys(words.PLACE.sub("", line) for line in telling)) or found[1]
    if any(words.LOAD_VALUE.search(line) for line in telling):
        return Why(words.UNSURE.format(why))
    return Why(why, impossible=True)


def _end(fields: Mapping[str, str], failed: int, exit_status: int) -> JobStatus:
    start, end = instant(fields.get("start_time", "")), instant(fields.get("end_time", ""))
    state, reason = _how(fields, failed, exit_status, end - start if start and end else None)
    signalled = failed in words.SIGNALLED and exit_status > _SIGNAL
    plain = failed == 0
    return JobStatus(
        state=state,
        reason=reason,
        node=fields.get("hostname", ""),
        exit_code=exit_status if plain else None,
        signal=exit_status - _SIGNAL if signalled else None,
        start=start,
        end=end,
    )


def _how(
    fields: Mapping[str, str], failed: int, exit_status: int, lasted: float | None
) -> tuple[JobState, str]:
    if failed == 0:
        return (JobState.FAILED if exit_status else JobState.COMPLETED), ""
    if failed == words.LIMIT:
        if _over_memory(fields, lasted):
            return JobState.OUT_OF_MEMORY, words.OVER_MEMORY
        return JobState.TIMEOUT, words.OVER_TIME
    if failed == words.NODE_LOST:
        return JobState.NODE_FAIL, words.NODE_WENT
    if failed in words.SIGNALLED and exit_status > _SIGNAL:
        number = exit_status - _SIGNAL
        if number == Signals.SIGUSR1:
            return JobState.TIMEOUT, words.OVER_SOFT_TIME
        return JobState.FAILED, words.KILLED.format(_signal_name(number))
    return JobState.FAILED, f"Grid Engine says: {fields['failed']}"


def _over_memory(fields: Mapping[str, str], lasted: float | None) -> bool:
    """Whether a job that the batch system killed for a limit ended for h_vmem, not for h_rt.

    Accounting has one code for both; what the job asked for is in its category.
    """
    asked = dict(re.findall(r"\b(h_rt|h_cpu|h_vmem)=([\w.:]+)", fields.get("category", "")))
    with suppress(ConfigurationError, KeyError, ValueError):
        limit = parse_memory(asked["h_vmem"]) * int(fields.get("slots", "1"))
        return parse_memory(fields["maxvmem"]) >= limit
    walltime = asked.get("h_rt", "")
    if not walltime.isdigit() or "h_cpu" in asked or lasted is None:
        return False
    return lasted < int(walltime)


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
