"""Read what bjobs of LSF and OpenLava tells of a job: how it ended, why it waits.

No command is built here: see :mod:`dask_hpc.drivers.lsf`.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from dask_hpc.drivers.base import Why
from dask_hpc.drivers.lsf_words import NEVER, REASONS, TERMS
from dask_hpc.model.job import JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

# Exit codes: 128 and the signal, first of all those that LSF itself sends.
_BY_BKILL, _BY_RUNLIMIT = 130, 140  # SIGINT, SIGUSR2
_SIGNALS = range(129, 129 + 64)


def status(fields: Mapping[str, str | None], states: Mapping[str, JobState]) -> JobStatus:
    """Status of one job.

    Parameters
    ----------
    fields
        ``state`` and ``code``; ``host`` and ``reason`` where the dialect has them.
    states
        The driver's table.
    """
    host = (fields.get("host") or "").split(":")[0].rpartition("*")[2].strip()  # "4*node1:4*node2"
    node = "" if host == "-" else host
    state = states.get(fields["state"] or "", JobState.RUNNING)  # a new one is not an end
    if state is JobState.FAILED:
        return _ended(fields["code"] or "", fields.get("reason") or "", node)
    return JobStatus(state, node=node, exit_code=0 if state is JobState.COMPLETED else None)


def _ended(code: str, reason: str, node: str) -> JobStatus:
    word = reason.partition(":")[0].strip()
    if word in TERMS:
        state, plain = TERMS[word]
        return JobStatus(state, f"{plain} ({word})" if plain else word, node)
    if not code:  # OpenLava gives none to jobs that are killed as they wait
        return JobStatus(JobState.CANCELLED, "killed before it had started", node)
    number = int(code)
    if number == _BY_RUNLIMIT:
        return JobStatus(JobState.TIMEOUT, "its walltime is over (SIGUSR2)", node)
    if number == _BY_BKILL:
        return JobStatus(JobState.CANCELLED, "killed by bkill (SIGINT)", node)
    known = reason.strip().strip("-")
    if number in _SIGNALS:
        return JobStatus(JobState.FAILED, known, node, signal=number - 128)
    return JobStatus(JobState.FAILED, known, node, exit_code=number)


def reason_to_wait(text: str) -> Why:
    """Tell the reason that most jobs have in what ``bjobs -p`` printed."""
    said = Counter(
        line.strip().rstrip(";")
        for line in text.splitlines()
        if line.startswith((" ", "\t")) and line.rstrip().endswith(";")
    )
    if not said:
        return Why()
    ((reason, _),) = said.most_common(1)
    plain = next((REASONS[p] for p in REASONS if re.search(p, reason)), "")
    never = NEVER.search(reason) is not None
    return Why(f"{plain} ({reason})" if plain else reason, impossible=never)
