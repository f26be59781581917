"""Slurm's words and what they mean: variables, refusals, pending reasons, ends, exit codes.

Tables and their lookups only; commands, states and what a line of output is are the driver's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from dask_hpc.drivers.base import parse_ranges
from dask_hpc.model.job import JobId, JobState

STATES: Mapping[str, JobState] = {  # squeue(1), JOB STATE CODES
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

#: Users' defaults that no option overrides: SQUEUE_PARTITION=x hides other jobs and squeue exits
#: 0; SBATCH_WAIT keeps sbatch until the job ends; scancel may ask questions.
UNSET = ("SQUEUE_*", "SCANCEL_*", "SACCT_*", "SLURM_TIME_FORMAT", "SBATCH_WAIT", "SBATCH_CLUSTERS")
#: What a head inside a job would pass on: in the new job srun refuses to start, or all its threads
#: are bound to the one core of the head's own step.
OUTER_JOB = ("SLURM_MEM_PER_*", "SLURM_TRES_PER_TASK", "SLURM_CPU_BIND*")

#: A job as squeue and sacct write it: ``80_3``, ``80_[3-9%3]``, or ``80`` for a whole array.
ELEMENT = re.compile(r"(\d+)(?:_(?:\[([\d,:-]+)(?:%\d+)?\]|(\d+)))?")

_EXCLUDE = re.compile(r"\s*(?:--exclude[= ]|-x)\s*(\S+)")

#: What goes away by itself: the controller or its database is down, busy or starting.
TRANSIENT = re.compile(
    r"Unable to contact slurm controller|Socket timed out|slurm_persist_conn_open"
    r"|Problem talking to the database|temporarily una|Zero Bytes were transmitted"
    r"|Connection (?:refused|reset|timed out)|Transport endpoint|create job record, try again"
    r"|Slurm backup controller in standby|If munged is up",
    re.IGNORECASE,
)

#: What to do about a refusal.
HINTS = {
    r"MaxSubmit|job submit limit": "your account may have fewer jobs at once: ask for fewer",
    r"[Ii]nvalid partition": "`sinfo -s` lists the partitions; name one with queue=",
    r"[Ii]nvalid account": "`sacctmgr show associations user=$USER` lists yours; use account=",
    r"node configuration": "`sinfo -o '%P %c %m %G'` lists the nodes' cores, MB and GPUs",
}

REASONS = {  # squeue(1), JOB REASON CODES, of jobs that wait
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
#: Never starts as requested; a limit per job says so whatever it limits.
NEVER = re.compile(
    r"DependencyNeverSatisfied|Partition(?:TimeLimit|NodeLimit|Config)|BadConstraints"
    r"|(?:Account|QOS)NotAllowed|Invalid(?:Account|QOS)|(?:Assoc|QOS)Max\w+PerJob\w*"
)
HELD = re.compile(r"JobHeld|JobHold|.*(?:requeued held|held state)")

ENDS = {  # the same codes, of jobs that have ended
    "TimeLimit": "its walltime is over",
    "NonZeroExitCode": "its command failed: see its log",
    "OutOfMemory": "a process of it needed more memory than the job has",
    "NodeDown": "its node failed",
    "JobLaunchFailure": "killed by a signal, or its log directory is not there",
    "RaisedSignal": "killed by a signal, or its log directory is not there",
}


def elements(text: str) -> list[JobId]:
    """Jobs that one line of a listing is about; none where it is an array without elements."""
    match = ELEMENT.fullmatch(text)
    if match is None or match.lastindex == 1:
        return []
    array, several, index = match.groups()
    return [JobId(array, i) for i in (parse_ranges(several) if several else [int(index)])]


def explain(reason: str, state: JobState) -> str:
    """Say in plain words why a job waits, or how it ended."""
    codes = [code for code in re.split(r"[,:]\s*", reason) if code not in ("", "None", "(null)")]
    if not codes or state is JobState.CANCELLED:  # a cancelled job keeps the reason it waited for
        return ""
    words = (REASONS if state.live else ENDS).get(codes[0], "")
    if not words and codes[0].startswith(("Assoc", "QOS")):
        words = "a limit of your account or QOS"
    return f"{words} ({reason})" if words else reason


def exclusion(nodes: Sequence[str], directives: Iterable[str]) -> tuple[str, ...]:
    """Option that keeps jobs off nodes; it beats the script's, so it repeats the user's own."""
    own = (found[1] for line in directives if (found := _EXCLUDE.match(line)))
    return (f"--exclude={','.join((*own, *nodes))}",) if nodes else ()


def refusal(text: str) -> tuple[str, str]:
    """What sbatch said, on one line, and what to do about it."""
    lines = [line.removeprefix("sbatch: error: ").strip() for line in text.splitlines()]
    hint = next((HINTS[seen] for seen in HINTS if re.search(seen, text)), "")
    return "; ".join(line for line in lines if line) or "(it printed nothing)", hint


def exit_status(text: str, state: JobState) -> tuple[int | None, int | None]:
    """Read ``code:signal`` of sacct, which subtracts 128 from codes above 127 (200 is ``72:0``)."""
    code, _, signal = text.partition(":")
    if state not in (JobState.COMPLETED, JobState.FAILED) or not (code + signal).isdigit():
        return None, None  # sacct says 0:0 of a timeout, 0:125 of OUT_OF_MEMORY: Slurm's own codes
    return (None, int(signal)) if int(signal or 0) else (int(code), None)


def instant(text: str) -> float | None:
    """Read a time, in seconds since the epoch; None for "N/A" and "Unknown"."""
    try:
        return datetime.fromisoformat(text).timestamp()  # local time, as Slurm prints it
    except ValueError:
        return None
