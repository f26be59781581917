"""Slurm Workload Manager: sbatch, squeue, sacct, scancel.

Sources: sbatch(1), squeue(1), sacct(1), scancel(1) of Slurm 22.05 to 25.05, and what the real
commands printed (tests/drivers/transcripts/slurm).
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers.base import (
    Command,
    Driver,
    Listing,
    Output,
    log_path,
    parse_ranges,
    targets,
)
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.units import format_walltime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MIB = 1024**2

# Users' defaults that no option overrides: SQUEUE_PARTITION=x hides all other jobs and squeue exits
# 0; SBATCH_WAIT keeps sbatch until the job ends; scancel may ask questions.
_UNSET = ("SQUEUE_*", "SCANCEL_*", "SACCT_*", "SLURM_TIME_FORMAT", "SBATCH_WAIT", "SBATCH_CLUSTERS")
# What a head inside a job would pass on: in the new job srun refuses to start, or all its threads
# are bound to the one core of the head's own step.
_OUTER_JOB = ("SLURM_MEM_PER_*", "SLURM_TRES_PER_TASK", "SLURM_CPU_BIND*")

# A site's wrapper may print anything around sbatch's line: only a line that is an id counts.
_ID = re.compile(
    r"^[ \t]*(?:Submitted batch job )?([1-9]\d*)(?:;\S+| on cluster \S+)?\s*?$", re.MULTILINE
)
_ELEMENT = re.compile(r"(\d+)(?:_(?:\[([\d,:-]+)(?:%\d+)?\]|(\d+)))?")

_TRANSIENT = re.compile(
    r"Unable to contact slurm controller|Socket timed out|slurm_persist_conn_open"
    r"|Problem talking to the database|temporarily una|Zero Bytes were transmitted"
    r"|Connection (?:refused|reset|timed out)|Transport endpoint|create job record, try again"
    r"|Slurm backup controller in standby|If munged is up",
    re.IGNORECASE,
)

_HINTS = {
    r"MaxSubmit|job submit limit": "your account may have fewer jobs at once: ask for fewer",
    r"[Ii]nvalid partition": "`sinfo -s` lists the partitions; name one with queue=",
    r"[Ii]nvalid account": "`sacctmgr show associations user=$USER` lists yours; use account=",
    r"node configuration": "`sinfo -o '%P %c %m %G'` lists the nodes' cores, MB and GPUs",
}

_REASONS = {  # squeue(1), JOB REASON CODES, of jobs that wait
    "Resources": "waiting for free resources",
    "Priority": "jobs of higher priority come first",
    "BeginTime": "its begin time has not come (requeued jobs wait two minutes)",
    "Dependency": "waiting for another job",
    "DependencyNeverSatisfied": "the job it depends on failed",
    "JobHeldUser": "held by its owner: scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "PartitionTimeLimit": "its walltime is over the partition's limit",
    "PartitionNodeLimit": "it asks for more nodes than the partition has",
    "PartitionConfig": "the partition cannot hold what it asks for",
    "PartitionDown": "the partition is down",
    "BadConstraints": "no node has what it asks for",
    "AccountNotAllowed": "the account may not use this partition",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the QOS is not valid",
    "ReqNodeNotAvail": "nodes it needs are down, drained or reserved",
}
# Never starts as requested; a limit per job says so whatever it limits.
_NEVER = re.compile(
    r"DependencyNeverSatisfied|Partition(?:TimeLimit|NodeLimit|Config)|BadConstraints"
    r"|(?:Account|QOS)NotAllowed|Invalid(?:Account|QOS)|(?:Assoc|QOS)Max\w+PerJob\w*"
)
_HELD = re.compile(r"JobHeld|JobHold|.*(?:requeued held|held state)")

_ENDS = {  # the same codes, of jobs that have ended
    "TimeLimit": "its walltime is over",
    "NonZeroExitCode": "its command failed: see its log",
    "OutOfMemory": "a process of it needed more memory than the job has",
    "NodeDown": "its node failed",
    "JobLaunchFailure": "killed by a signal, or its log directory is not there",
    "RaisedSignal": "killed by a signal, or its log directory is not there",
}


class Slurm(Driver):
    """Slurm Workload Manager."""

    name = "slurm"
    programs = ("sbatch", "squeue", "scancel")
    directive_prefix = "#SBATCH"
    worker_prefix = "${SLURM_JOB_NAME}-${SLURM_ARRAY_TASK_ID}"
    version = Command(("sbatch", "--version"))

    STATES: ClassVar[Mapping[str, JobState]] = {  # squeue(1), JOB STATE CODES
        "PENDING": JobState.PENDING,
        "CONFIGURING": JobState.PENDING,  # nodes boot: nothing of ours runs yet
        "RUNNING": JobState.RUNNING,
        "SUSPENDED": JobState.RUNNING,  # frozen by gang scheduling; it goes on where it was
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

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: as options, since SBATCH_* variables beat the script's."""
        literal = Path(str(spec.log_directory).replace("%", "%%"))  # sbatch(1), filename pattern
        argv = (
            "sbatch",
            "--parsable",
            f"--job-name={submission.name}",
            f"--array=0-{submission.count - 1}",
            f"--output={log_path(literal, submission.name, '%a')}",
            "--open-mode=append",  # a requeued job keeps the log of its first life
            str(script),
        )
        return Command(argv, (*_UNSET, *_OUTER_JOB))

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: with several candidates none is taken for the id."""
        if output.returncode != 0:
            hint = next((_HINTS[seen] for seen in _HINTS if re.search(seen, output.text)), "")
            raise SubmitRejected(f"sbatch refused the job: {_words(output.text)}", hint=hint)
        found: set[str] = set(_ID.findall(output.stdout))
        if len(found) == 1:
            return found.pop()
        raise BatchSystemError(
            f"no single job id in what sbatch printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain sbatch --parsable",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`.

        By name, since squeue exits 1 when every id given to ``-j`` is unknown; ``--me`` makes
        the controller send this user's jobs only; ``--all``, or jobs in hidden partitions are left
        out; ``--array``, or indices are cut after 30 characters without a sign of it.
        """
        options = ("--me", "--all", "--array", "--noheader", "--states=all")
        fields = "--format=%i|%T|%N|%S|%e|%j|%r"
        return Command(("squeue", *options, f"--name={','.join(arrays)}", fields), _UNSET)

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for line in output.stdout.splitlines():
            element, *fields = line.strip().split("|", 6)
            match = _ELEMENT.match(element)
            if len(fields) != 6 or match is None:  # noqa: PLR2004  (chatter of a wrapper)
                continue
            if match[0] != element:
                raise BatchSystemUnavailable(f"squeue cut the jobs of an array short: {element}")
            state, node, start, end, name, reason = fields
            names[name] = match[1]  # also of an array without elements: cancelled as it waited
            status = self._status(state, reason, "", node, (start, end))
            jobs.update(dict.fromkeys(_elements(element), status))
        return Listing(jobs, names)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts as ``id_[ranges]``."""
        return [Command(("scancel", "--quiet", *targets(jobs, arrays)), _UNSET)]

    def history(self, arrays: Collection[str]) -> list[Command]:
        """See :meth:`Driver.history`."""
        fields = "--format=JobID,State,ExitCode,NodeList,Start,End"
        which = f"--jobs={','.join(sorted(arrays))}"
        argv = ("sacct", "--noheader", "--allocations", "--parsable2", fields, which)
        return [Command(argv, _UNSET)]

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`: ends only, since sacct shows jobs lost in a crash as running.

        Jobs cancelled as they waited have no record of their own, at best one of their array.
        """
        jobs: dict[JobId, JobStatus] = {}
        for line in output.stdout.splitlines():
            fields = line.strip().split("|")
            if len(fields) != 6:  # noqa: PLR2004  (chatter of a wrapper)
                continue
            element, state, exit_code, node, start, end = fields
            status = self._status(state, "", exit_code, node, (start, end))
            if not status.state.live:
                jobs.update(dict.fromkeys(_elements(element), status))
        return Listing(jobs)

    def limits(self) -> Command:
        """See :meth:`Driver.limits`."""
        return Command(("scontrol", "show", "config"), _UNSET)

    def array_limit(self, output: Output) -> int:
        """See :meth:`Driver.array_limit`: MaxArraySize bounds the highest index, we start at 0."""
        found = re.findall(r"(?:MaxArraySize\s*=\s*|max_array_tasks=)(\d+)", output.stdout)
        return max(1, min(map(int, found))) if found else self.default_array_limit

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return _TRANSIENT.search(output.text) is not None

    def _status(
        self, state: str, reason: str, exit_code: str, node: str, when: tuple[str, str]
    ) -> JobStatus:
        word = state.partition(" ")[0]  # sacct: "CANCELLED by 1001"
        known = self.STATES.get(word, JobState.RUNNING)  # a new state is not an end
        if known is JobState.PENDING and _HELD.match(reason):
            known = JobState.HELD
        code, signal = _exit(exit_code, known)
        return JobStatus(
            state=known,
            reason=state if " by " in state else _explain(reason, known),
            node="" if node in ("(null)", "None assigned") else node,
            exit_code=code,
            signal=signal,
            start=_instant(when[0]),
            end=None if known.live else _instant(when[1]),
            impossible=known.waiting and _NEVER.match(reason) is not None,
        )


def _words(text: str) -> str:
    lines = [line.removeprefix("sbatch: error: ").strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or "(it printed nothing)"


def _elements(text: str) -> Iterable[JobId]:
    match = _ELEMENT.fullmatch(text)
    if match is None or match.lastindex == 1:  # no index: an array that has no elements
        return ()
    array, several, index = match.groups()
    return [JobId(array, i) for i in (parse_ranges(several) if several else [int(index)])]


def _explain(reason: str, state: JobState) -> str:
    codes = [code for code in re.split(r"[,:]\s*", reason) if code not in ("", "None", "(null)")]
    if not codes or state is JobState.CANCELLED:  # a cancelled job keeps the reason it waited for
        return ""
    words = (_REASONS if state.live else _ENDS).get(codes[0], "")
    if not words and codes[0].startswith(("Assoc", "QOS")):
        words = "a limit of your account or QOS"
    return f"{words} ({reason})" if words else reason


def _exit(text: str, state: JobState) -> tuple[int | None, int | None]:
    """Read ``code:signal`` of sacct, which subtracts 128 from codes above 127 (200 is ``72:0``)."""
    code, _, signal = text.partition(":")
    if state not in (JobState.COMPLETED, JobState.FAILED) or not (code + signal).isdigit():
        return None, None  # sacct says 0:0 of a timeout, 0:125 of OUT_OF_MEMORY: Slurm's own codes
    return (None, int(signal)) if int(signal or 0) else (int(code), None)


def _instant(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()  # local time, as Slurm prints it
    except ValueError:
        return None
