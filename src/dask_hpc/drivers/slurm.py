"""Slurm Workload Manager: sbatch, squeue, sacct, scancel.

Sources: sbatch(1), squeue(1), sacct(1), scancel(1) of Slurm 22.05 to 25.05, and what the real
commands printed (tests/drivers/transcripts/slurm).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from dask_hpc.drivers.base import (
    Command,
    Driver,
    Listing,
    Output,
    log_path,
    parse_ranges,
    ranges,
)
from dask_hpc.errors import BatchSystemError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.units import format_walltime

MIB = 1024**2

# A site's wrapper may print anything around sbatch's line: only a line that is an id counts.
_PARSABLE = re.compile(r"^\s*(\d+)(?:;\S+)?\s*$", re.MULTILINE)
_SPOKEN = re.compile(r"Submitted batch job (\d+)")
_ELEMENT = re.compile(r"(\d+)_(?:\[([\d,:-]+)(?:%\d+)?\]|(\d+))")

_TRANSIENT = re.compile(
    r"Unable to contact slurm controller|Socket timed out|slurm_persist_conn_open"
    r"|Problem talking to the database|temporarily unable|Zero Bytes were transmitted"
    r"|Connection (?:refused|reset|timed out)|Transport endpoint|try again|backlog"
    r"|Slurm backup controller in standby",
    re.IGNORECASE,
)

# squeue(1), JOB REASON CODES: in plain words, and whether the job can never start as requested.
_REASONS = {
    "Resources": ("waiting for free resources", False),
    "Priority": ("jobs of higher priority come first", False),
    "JobArrayTaskLimit": ("the array's own limit of running jobs", False),
    "BeginTime": ("its begin time has not come (requeued jobs wait two minutes)", False),
    "Dependency": ("waiting for another job", False),
    "DependencyNeverSatisfied": ("the job it depends on failed: it can never start", True),
    "JobHeldUser": ("held by its owner: scontrol release", False),
    "JobHeldAdmin": ("held by an administrator", False),
    "PartitionTimeLimit": ("its walltime is over the partition's limit", True),
    "PartitionNodeLimit": ("it asks for more nodes than the partition has", True),
    "PartitionConfig": ("the partition cannot hold what it asks for", True),
    "PartitionDown": ("the partition is down", False),
    "PartitionInactive": ("the partition is inactive", False),
    "BadConstraints": ("no node has what it asks for", True),
    "AccountNotAllowed": ("the account may not use this partition", True),
    "QOSNotAllowed": ("the QOS may not use this partition", True),
    "InvalidAccount": ("the account is not valid", True),
    "InvalidQOS": ("the QOS is not valid", True),
    "AssocMaxWallDurationPerJobLimit": ("its walltime is over your account's limit", True),
    "QOSMaxWallDurationPerJobLimit": ("its walltime is over the QOS's limit", True),
    "NodeDown": ("a node it needs is down", False),
    "Licenses": ("waiting for a licence", False),
    "Reservation": ("waiting for its reservation", False),
}


class Slurm(Driver):
    """Slurm Workload Manager."""

    name = "slurm"
    programs = ("sbatch", "squeue", "scancel")
    directive_prefix = "#SBATCH"
    job_name_variable = "SLURM_JOB_NAME"
    index_variable = "SLURM_ARRAY_TASK_ID"

    STATES: ClassVar[Mapping[str, JobState]] = {  # squeue(1), JOB STATE CODES
        "PENDING": JobState.PENDING,
        "CONFIGURING": JobState.PENDING,  # nodes boot: nothing of ours runs yet
        "RUNNING": JobState.RUNNING,
        "SUSPENDED": JobState.RUNNING,  # frozen by gang scheduling; it goes on where it was
        "STOPPED": JobState.RUNNING,
        "SIGNALING": JobState.RUNNING,
        "RESIZING": JobState.RUNNING,
        "COMPLETING": JobState.ENDING,  # epilog may take minutes: its cores are not free yet
        "STAGE_OUT": JobState.ENDING,
        "COMPLETED": JobState.COMPLETED,
        "FAILED": JobState.FAILED,
        "BOOT_FAIL": JobState.NODE_FAIL,
        "NODE_FAIL": JobState.NODE_FAIL,
        "LAUNCH_FAILED": JobState.NODE_FAIL,
        "RECONFIG_FAIL": JobState.NODE_FAIL,
        "TIMEOUT": JobState.TIMEOUT,
        "DEADLINE": JobState.TIMEOUT,
        "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,  # any OOM-killed child sets it, whatever the exit
        "PREEMPTED": JobState.PREEMPTED,  # not the user's fault: never counts as a failure
        "CANCELLED": JobState.CANCELLED,
        "REVOKED": JobState.CANCELLED,
        "REQUEUED": JobState.PENDING,  # comes back under the same identity
        "REQUEUE_FED": JobState.PENDING,
        "REQUEUE_HOLD": JobState.HELD,
        "SPECIAL_EXIT": JobState.HELD,
        "RESV_DEL_HOLD": JobState.HELD,
    }

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: sbatch(1), one task per node with all its cores."""
        lines = [f"--nodes={spec.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={spec.cores}"]
        if spec.memory is not None:  # in MiB, rounded up: never less than the workers will use
            lines.append(f"--mem={-(-spec.memory // MIB)}M")
        if spec.gpus:
            lines.append(f"--gres=gpu:{spec.gpus}")
        if spec.walltime is not None:
            lines.append(f"--time={format_walltime(spec.walltime)}")
        if spec.queue:
            lines.append(f"--partition={spec.queue}")
        if spec.account:
            lines.append(f"--account={spec.account}")
        return tuple(lines)

    def submit(self, submission: Submission, script: Path, logs: Path) -> Command:
        """See :meth:`Driver.submit`."""
        return Command(
            (
                "sbatch",
                "--parsable",
                f"--job-name={submission.name}",
                f"--array=0-{submission.count - 1}",
                f"--output={log_path(logs, submission.name, '%a')}",
                "--open-mode=append",  # a requeued job keeps the log of its first life
                str(script),
            )
        )

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`."""
        match = _SPOKEN.search(output.stdout) or _PARSABLE.search(output.stdout)
        if output.returncode == 0 and match:
            return match[1]
        if output.returncode == 0:
            raise BatchSystemError(
                f"no job id in what sbatch printed:\n{output.text or '(nothing)'}",
                hint="a wrapper of the site may hide it: ask for a plain sbatch --parsable",
            )
        raise SubmitRejected(f"sbatch refused the job: {_sbatch_words(output.text)}")

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`.

        By name, since squeue exits 1 when every id given to ``-j`` is unknown; ``--me`` makes
        the controller send this user's jobs only.
        """
        return Command(
            (
                "squeue",
                "--me",
                "--noheader",
                "--states=all",
                f"--name={','.join(arrays)}",
                "--format=%i|%T|%N|%S|%e|%j|%r",
            )
        )

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for line in output.stdout.splitlines():
            fields = line.strip().split("|", 6)
            if len(fields) != 7:  # noqa: PLR2004  (chatter of a wrapper)
                continue
            element, state, node, start, end, name, reason = fields
            status = self._status(state, reason, node, start, end)
            for job in _elements(element):
                jobs[job] = status
                names[name] = job.array
        return Listing(jobs, names)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> Command:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts as ``id_[ranges]``."""
        indices: dict[str, set[int]] = defaultdict(set)
        for job in jobs:
            indices[job.array].add(job.index)
        targets = [
            array if len(some) == arrays.get(array) else f"{array}_[{ranges(some)}]"
            for array, some in indices.items()
        ]
        return Command(("scancel", "--quiet", *targets))

    def history(self, arrays: Collection[str]) -> Command:
        """See :meth:`Driver.history`."""
        return Command(
            (
                "sacct",
                "--noheader",
                "--allocations",
                "--parsable2",
                "--format=JobID,State,ExitCode,NodeList,Start,End",
                f"--jobs={','.join(sorted(arrays))}",
            )
        )

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`."""
        jobs: dict[JobId, JobStatus] = {}
        for line in output.stdout.splitlines():
            fields = line.strip().split("|")
            if len(fields) != 6:  # noqa: PLR2004  (chatter of a wrapper)
                continue
            element, state, exit_code, node, start, end = fields
            status = self._status(state, "", node, start, end, exit_code)
            for job in _elements(element):
                jobs[job] = status
        return Listing(jobs)

    def limits(self) -> Command:
        """See :meth:`Driver.limits`."""
        return Command(("scontrol", "show", "config"))

    def array_limit(self, output: Output) -> int:
        """See :meth:`Driver.array_limit`: MaxArraySize bounds the highest index, we start at 0."""
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)", output.stdout, re.MULTILINE)
        return max(1, int(match[1])) if match else self.default_array_limit

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return _TRANSIENT.search(output.text) is not None

    def _status(
        self, state: str, reason: str, node: str, start: str, end: str, exit_code: str = ""
    ) -> JobStatus:
        word = state.split()[0] if state else ""  # sacct: "CANCELLED by 1001"
        known = self.STATES.get(word, JobState.RUNNING)  # a new state is not an end
        if known is JobState.PENDING and reason.startswith("JobHeld"):
            known = JobState.HELD
        words, impossible = _explain(reason)
        code, signal = _exit(exit_code, word)
        return JobStatus(
            state=known,
            reason=words or (state if word == "CANCELLED" and word != state else ""),
            node="" if node in ("(null)", "None assigned") else node,
            exit_code=code,
            signal=signal,
            start=_instant(start),
            end=None if known.live else _instant(end),
            impossible=impossible and known.waiting,
        )


def _sbatch_words(text: str) -> str:
    lines = [line.removeprefix("sbatch: error: ") for line in text.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip()) or "(it printed nothing)"


def _elements(text: str) -> Iterable[JobId]:
    match = _ELEMENT.fullmatch(text)
    if match is None:
        return ()
    array, pending, index = match.groups()
    return [JobId(array, i) for i in parse_ranges(pending)] if pending else [JobId(array, int(index))]


def _explain(reason: str) -> tuple[str, bool]:
    first = reason.split(",")[0].strip()
    if not first or first in ("None", "(null)"):
        return "", False
    words, impossible = _REASONS.get(first, (reason, False))
    return (f"{words} ({reason})" if words != reason else reason), impossible


def _exit(text: str, state: str) -> tuple[int | None, int | None]:
    code, _, signal = text.partition(":")
    if not code.isdigit():
        return None, None
    number = int(code)
    # sacct subtracts 128 from exits above 127 (200 shows as 72:0): what it shows for a failure
    # without a signal is either; the log tells.
    if state in ("TIMEOUT", "CANCELLED"):
        return None, None
    return number, int(signal) if signal.isdigit() and signal != "0" else None


def _instant(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()  # local time, as Slurm prints it
    except ValueError:
        return None
