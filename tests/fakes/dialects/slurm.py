"""Slurm 22.05.8: sbatch, squeue, sacct, scancel, scontrol.

Recorded in tests/drivers/transcripts/slurm/22.05.8; busy: slurm_strerror's texts of EAGAIN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import (
    Dialect,
    NotRecorded,
    directives,
    options,
    read,
    seconds,
    spans,
    stamp,
)
from tests.fakes.front import Answer

STATE = {
    c.PENDING: "PENDING",
    c.HELD: "PENDING",
    c.RUNNING: "RUNNING",
    c.ENDING: "COMPLETING",
    c.COMPLETED: "COMPLETED",
    c.FAILED: "FAILED",
    c.TIMEOUT: "TIMEOUT",
    c.MEMORY: "OUT_OF_MEMORY",
    c.CANCELLED: "CANCELLED",
    c.NODE: "NODE_FAIL",
    c.PREEMPTED: "PREEMPTED",
}
ENDED_BY = {  # ends.txt, timeout.txt, node-failed.txt
    c.FAILED: "NonZeroExitCode",
    c.TIMEOUT: "TimeLimit",
    c.MEMORY: "OutOfMemory",
    c.NODE: "NodeDown",
}
WAITS = {c.BUSY: "Resources", c.REQUEUED: "BeginTime"}
YEAR = 365 * 86400  # the limit of a job without one, in a partition without one
NEVER = {"walltime": "PartitionTimeLimit", "nodes": "PartitionNodeLimit"}  # pending-reasons.txt
REFUSED = {  # submit-refused.txt
    "queue": (
        "invalid partition specified: {}",
        "Batch job submission failed: Invalid partition name specified",
    ),
    "account": (
        "Batch job submission failed: Invalid account or account/partition combination specified",
    ),
    "limit": (  # limit-refused.txt
        "AssocMaxSubmitJobLimit",
        (
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit,"
            " user's size and/or time limits)"
        ),
    ),
    "too many": ("Batch job submission failed: Invalid job array specification",),
    "cores": (
        "CPU count per node can not be satisfied",
        "Batch job submission failed: Requested node configuration is not available",
    ),
    "memory": (
        "Memory specification can not be satisfied",
        "Batch job submission failed: Requested node configuration is not available",
    ),
    "gpus": ("Batch job submission failed: Requested node configuration is not available",),
}
DOWN = "Unable to contact slurm controller (connect failure)"
BUSY = "Socket timed out on send/recv operation"
ISO = "%Y-%m-%dT%H:%M:%S"
VALUED = (
    "--job-name",
    "--exclude",
    "--array",
    "--output",
    "--open-mode",
    "--nodes",
    "--ntasks-per-node",
    "--cpus-per-task",
    "--mem",
    "--gres",
    "--time",
    "--signal",  # sbatch(1)
    "--partition",
    "--account",
)


class Slurm(Dialect):
    """Slurm."""

    name = "slurm"
    programs = ("sbatch", "squeue", "scancel", "sacct", "scontrol")
    submits = "sbatch"
    no_queue = "Invalid partition name specified"
    documented = (r"\|COMPLETING\|", r"\|Resources$")  # squeue(1), JOB STATE and JOB REASON CODES
    hostile = {"SQUEUE_PARTITION": "short", "SQUEUE_FORMAT": "%i", "SBATCH_WAIT": "1"}  # noqa: RUF012

    def tells_code(self, core: Core) -> bool:
        """ends.txt: squeue has no field for it."""
        return core.forget

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        return "slurm-wlm 22.05.8\n" if list(argv) == ["--version"] else None

    def down(self, program: str, argv: Sequence[str]) -> Answer:
        """controller-down.txt, accounting-down.txt."""
        return self._silent(program, argv, DOWN)

    def busy(self, program: str, argv: Sequence[str]) -> Answer:
        return self._silent(program, argv, BUSY)

    def _silent(self, program: str, argv: Sequence[str], words: str) -> Answer:
        if program == "scancel":
            return Answer(8, "", f"scancel: error: Kill job error on job id {argv[-1]}: {words}\n")
        said = {
            "squeue": "slurm_load_jobs error: ",
            "scontrol": "slurm_load_ctl_conf error: ",
            "sacct": "sacct: error: Problem talking to the database: Connection refused\n",
        }
        begin = said.get(program, "sbatch: error: Batch job submission failed: ")
        return Answer(1, "", begin if begin.endswith("\n") else f"{begin}{words}\n")

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        return {
            "SLURM_JOB_NAME": array.name,
            "SLURM_JOB_ID": str(job.number),
            "SLURM_ARRAY_JOB_ID": str(array.number),
            "SLURM_ARRAY_TASK_ID": str(job.index),
        }

    def log(self, array: Array, job: Job) -> str:
        known = {"%": "%", "a": str(job.index), "A": str(array.number), "j": str(job.number)}
        return re.sub("%(.)", lambda m: known[m[1]], array.extra["output"])

    def _sbatch(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        if "SBATCH_WAIT" in environ:
            return Answer(0, fate="hangs")
        given, rest = options(argv, ("--parsable",), VALUED)
        script = read(rest[0])
        if script is None:
            return Answer(1, "", f"sbatch: error: Unable to open file {rest[0]}\n")
        # --no-kill: sbatch(1)
        in_script, _ = options(directives(script, "#SBATCH"), ("--no-kill",), VALUED)
        option = dict([*in_script, *given])
        request = Request()
        request.cores = int(option.get("--cpus-per-task", 1))
        request.nodes = int(option.get("--nodes", 1))
        request.queue = option.get("--partition", "")
        request.account = option.get("--account", "")
        if "--time" in option:
            request.walltime = seconds(option["--time"])
        request.exclude = frozenset(filter(None, option.get("--exclude", "").split(",")))
        if "--mem" in option:
            request.memory = _bytes(option["--mem"])
        if "--gres" in option:
            request.gpus = int(option["--gres"].rpartition(":")[2])
        indices = spans(option["--array"])
        try:
            if max(indices) >= core.max_array:  # limits.txt: MaxArraySize bounds the index
                raise Refused("too many")  # noqa: TRY301
            request.check()
            never = request.fits()
            if never in REFUSED:
                raise Refused(never)  # noqa: TRY301
            array = core.submit(
                option["--job-name"], indices, request, script, output=option["--output"]
            )
        except Refused as error:
            lines = [f"sbatch: error: {line}\n" for line in REFUSED[error.why]]
            return Answer(1, "", "".join(lines).format(error.value))
        said = "{}\n" if ("--parsable", "") in given else "Submitted batch job {}\n"
        return Answer(0, said.format(array.number))

    def _squeue(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        flags = ("--me", "--all", "--array", "--noheader")
        given, _ = options(argv, flags, ("--states", "--name", "--format"))
        option = dict(given)
        form = environ.get("SQUEUE_FORMAT", option["--format"])
        if form != "%i|%T|%N|%S|%e|%j|%r" or "--array" not in option:
            raise NotRecorded(argv)
        names = option["--name"].split(",")
        queue = environ.get("SQUEUE_PARTITION")
        rows = [
            row
            for array in core.arrays.values()
            if array.name in names and queue in (None, array.request.queue)
            for row in self._rows(core, array)
        ]
        return Answer(0, "".join(rows))

    def _rows(self, core: Core, array: Array) -> Iterator[str]:
        for job in array.jobs.values():
            if not core.listed(job):
                continue
            reason = self._reason(array, job)
            started = job.started or job.expected if job.live else job.started or job.ended
            limit = array.request.walltime or YEAR
            ended = job.ended if not job.live else job.deadline or (started and started + limit)
            start, end = stamp(started, ISO) or "N/A", stamp(ended, ISO) or "N/A"
            node = job.node
            head = f"{array.number}_{job.index}|{STATE[job.state]}|{node}"
            yield f"{head}|{start}|{end}|{array.name}|{reason}\n"

    def _reason(self, array: Array, job: Job) -> str:
        if job.state == c.HELD:
            return "JobHeldUser"
        if job.state == c.PENDING or job.started is None:  # array-cancelled.txt: it is kept
            return WAITS.get(job.why) or NEVER.get(array.request.fits(), "PartitionConfig")
        if job.state == c.FAILED and job.signal:
            return "JobLaunchFailure"
        return ENDED_BY.get(job.state, "None")

    def _sacct(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        flags = ("--noheader", "--allocations", "--parsable2")
        given, _ = options(argv, flags, ("--format", "--jobs"))
        option = dict(given)
        if option["--format"] != "JobID,State,ExitCode,NodeList,Start,End":
            raise NotRecorded(argv)
        if not core.accounting:
            return Answer(1, "", "Slurm accounting storage is disabled\n")
        rows = [
            self._record(array, job)
            for number in option["--jobs"].split(",")
            if (array := core.arrays.get(int(number)))
            for job in array.jobs.values()
            if core.recorded(job)
        ]
        return Answer(0, "".join(rows))

    def _record(self, array: Array, job: Job) -> str:
        code = "0:125" if job.state == c.MEMORY else "0:0"
        if job.state in (c.COMPLETED, c.FAILED):  # ends.txt: 200 is shown as 72
            shown = job.code - 128 if job.code > 127 else job.code
            code = f"{shown}:{job.signal}"
        state = STATE[job.state] + (" by 1001" if job.state == c.CANCELLED else "")
        node = job.node or "None assigned"
        when = f"{stamp(job.started, ISO) or 'Unknown'}|{stamp(job.ended, ISO) or 'Unknown'}"
        return f"{array.number}_{job.index}|{state}|{code}|{node}|{when}\n"

    def _scancel(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        _, targets = options(argv, ("--quiet",), ())
        ended = 0
        for target in targets:  # cancel.txt: unknown and ended ones in silence
            match = re.fullmatch(r"(\d+)(?:_(?:\[([\d,-]+)\]|(\d+)))?", target)
            if match is None:
                return Answer(1, "", f"scancel: error: Invalid job id {target}\n")
            array = core.arrays.get(int(match[1]))
            some = match[2] or match[3]
            if array is not None:
                ended += len(core.cancel(array, spans(some) if some else None))
        core.cancels.append(ended)
        return Answer(0)

    def _scontrol(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        if argv != ["show", "config"]:
            raise NotRecorded(argv)
        text = "Configuration data as of 2026-11-22T20:49:08\n"
        return Answer(0, f"{text}MaxArraySize            = {core.max_array}\n")


def _bytes(text: str) -> int:
    return int(text[:-1]) * {"K": 1024, "M": 1024**2, "G": 1024**3}[text[-1]]


DIALECT = Slurm()
