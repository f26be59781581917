"""Judge the trial jobs themselves: were they taken, did they start, what does their log say.

Pure: what happened in, findings out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask_hpc.errors import HPCError, SubmitRejected
from dask_hpc.model.job import JobState, JobStatus
from dask_hpc.site.doctor.finding import Finding, ok, problem, warning

#: The probe's first line: what stands before it, the job's prologue has printed.
STARTS = "dask-hpc doctor: probe "
#: What module systems and shells say of a line that did not work (Lmod, Tcl modules, bash).
_FAILED = re.compile(
    r"command not found|: not found$|No such file or directory"
    r"|Lmod has detected the following error|following module\(s\) are unknown"
    r"|Unable to locate a modulefile|ModuleCmd_Load|\bmodule\b.*\b(?:error|unknown|cannot)\b"
    r"|EnvironmentNameNotFound|CondaError",
    re.IGNORECASE,
)
_NO_PROBE = re.compile(
    r"(?:can't open file|can't find|No such file|Permission denied).*", re.IGNORECASE
)
_TAIL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the trial jobs.

    Parameters
    ----------
    directory
        That all share.
    program
        Words that start Python in the job.
    expected
        Probes that were to report.
    refused
        Why nothing was submitted.
    statuses
        Of the jobs, as last seen.
    waited
        Seconds until the last report, or until we gave up.
    reports
        By the probe's name.
    logs
        Text of each job's log.
    """

    directory: str
    program: str
    expected: int
    refused: HPCError | None = None
    statuses: Sequence[JobStatus] = ()
    waited: float = 0.0
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    logs: Sequence[str] = ()


def jobs(outcome: Outcome) -> list[Finding]:
    """Judge whether jobs were taken, started, and could run a program of the shared directory."""
    if outcome.refused is not None:
        return [_refused(outcome.refused)]
    hosts = sorted({str(report["host"]) for report in outcome.reports.values()})
    took = f"after {outcome.waited:.0f} s"
    if len(outcome.reports) >= outcome.expected:
        said = f"{len(outcome.reports)} probes reported {took}: {', '.join(hosts)}"
        if len(hosts) < outcome.expected:
            advice = "routes between nodes were not seen: ask for whole nodes (--cores), or --nodes"
            return [warning("jobs", f"{said}: both jobs were on one node", advice)]
        return [ok("jobs", said)]
    if outcome.reports:
        said = f"{len(outcome.reports)} of {outcome.expected} probes reported {took}"
        lines = [line for log in outcome.logs for line in log.splitlines()]
        tail = " / ".join([line for line in lines if not line.startswith(STARTS)][-_TAIL:])
        seen = f"{said}: {', '.join(hosts)}{_ends(outcome)}: {tail or 'no log says why'}"
        advice = "the launcher does not reach every node: see launcher=, or whether a firewall is"
        return [problem("jobs", seen, f"{advice} between them; --nodes 1 looks at one")]
    return [_nothing(outcome, took)]


def _refused(error: HPCError) -> Finding:
    said = error.args[0]
    if isinstance(error, SubmitRejected):
        return problem("submission", said, error.hint or "ask for what the queue takes")
    return problem(
        "submission",
        f"{said}",
        error.hint or "without a job id nothing can be followed or cancelled",
    )


def _nothing(outcome: Outcome, took: str) -> Finding:
    states = [status.state for status in outcome.statuses]
    log = "\n".join(outcome.logs).strip()
    reasons = "; ".join(sorted({each.reason for each in outcome.statuses if each.reason}))
    if any(_names_directory(each.reason, outcome) for each in outcome.statuses):
        return _unseen(outcome, f"the job could not use it: {reasons}")
    if states and all(state.waiting for state in states):
        never = any(each.impossible or each.state is JobState.HELD for each in outcome.statuses)
        if never:
            return problem("jobs", f"can never start: {reasons or states[0]}", "ask for less")
        return warning(
            "jobs",
            f"still waiting {took}: {reasons or 'the batch system gives no reason'}",
            "time in a queue is no failure: --wait longer, or another --queue",
        )
    if any(state.live for state in states):
        tail = " / ".join(log.splitlines()[-_TAIL:]) or "its log is empty"
        return problem(
            "jobs",
            f"a job runs, and no probe has reported {took}: {tail}",
            "its launcher may not reach the nodes: see launcher=, or whether a firewall is between"
            " them; --nodes 1 looks at one",
        )
    if not log:
        return _unseen(
            outcome, f"a job ended and left neither report nor log there{_ends(outcome)}"
        )
    if outcome.directory in log and (match := _NO_PROBE.search(log)):
        return _unseen(outcome, f"in a job: {match[0].strip()}")
    tail = " / ".join(log.splitlines()[-_TAIL:])
    return problem(
        "jobs",
        f"the job ended before {outcome.program} could look{_ends(outcome)}: {tail}",
        "see python= and job_script_prologue=",
    )


def _names_directory(reason: str, outcome: Outcome) -> bool:
    """Whether a job waits because of the directory: by its name, or in our drivers' words."""
    return outcome.directory in reason or "log directory" in reason


def _unseen(outcome: Outcome, why: str) -> Finding:
    return problem(
        "shared directory",
        f"nodes cannot use {outcome.directory}: {why}",
        "name a directory that all nodes see: export DASK_HPC_HOME=DIR",
    )


def _ends(outcome: Outcome) -> str:
    words = sorted({f"{each.state}: {each.reason}" for each in outcome.statuses if each.reason})
    return f" ({'; '.join(words)})" if words else ""


def prologue(logs: Sequence[str]) -> list[Finding]:
    """Judge what the job printed before its program started: lines of the prologue that failed."""
    failed: dict[str, None] = {}
    for log in logs:
        before = log.partition(STARTS)[0]
        failed |= dict.fromkeys(
            line.strip() for line in before.splitlines() if _FAILED.search(line)
        )
    if not failed:
        return []
    return [
        problem(
            "prologue",
            f"a line of the job script failed: {'; '.join(list(failed)[:_TAIL])}",
            "correct job_script_prologue=; `module avail` on a node shows what there is",
        )
    ]
