"""Son of Grid Engine 8.1.9: qsub, qstat, qdel, qacct, qalter.

Recorded in tests/drivers/transcripts/sge.  Not recorded: `qalter -w v` (what `qsub -w v` and
`qalter -w p` print, together), and busy (the words of sge_gdi's receive timeout).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import Dialect, NotRecorded, directives, options, read, spans, stamp
from tests.fakes.front import Answer

STATE = {c.PENDING: "qw", c.HELD: "hqw", c.RUNNING: "r", c.ENDING: "dr"}
SCHEMA = "http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd"
FAILED = {  # 06-final-states, 11-qmaster-and-host-down
    c.TIMEOUT: ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137", "(Killed)"),
    c.CANCELLED: ("100 : assumedly after job", "137", "(Killed)"),
    c.NODE: ("19  : before writing exit_status", "0", ""),
}
REFUSED = {  # 03-submit-errors
    "queue": 'Job was rejected because job requests unknown queue "{}"',
    "account": 'job rejected: the requested project "{}" does not exist',
    "too many": "job rejected: you tried to submit a job with more than 75000 tasks",
}
NO_ROUTE = 'unable to send message to qmaster using port 6444 on host "head": got send error\n'
REFUSES = "error: commlib error: got select error (Connection refused)\n"
BUSY = (
    "failed receiving gdi request response for mid=1 (got syncron message receive timeout error).\n"
)
ENDED = "%a %b %d %H:%M:%S %Y"
VALUED = ("-sync", "-now", "-b", "-N", "-t", "-j", "-o", "-S", "-pe", "-l", "-q", "-P", "-w", "-r")
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


class GridEngine(Dialect):
    """Grid Engine."""

    name = "sge"
    programs = ("qsub", "qstat", "qdel", "qacct", "qalter")
    submits = "qsub"
    first = 1
    forgets = True
    no_queue = 'job requests unknown queue "nosuch"'
    # 06: MemoryError is exit code 1 with h_vmem.  A preempted job is requeued: see test_dialects.
    forgotten = {c.MEMORY: "FAILED", c.CANCELLED: "FAILED"}  # noqa: RUF012
    absent = frozenset({c.PREEMPTED})
    unasked = frozenset({"nodes"})  # slots alone; how they lie on nodes is the environment's
    asks = {"parallel_environment": "mpi", "memory_resource": "h_vmem"}  # noqa: RUF012
    hostile = {"SGE_SINGLE_LINE": "1"}  # noqa: RUF012

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        """01-cluster."""
        if list(argv) != ["-help"]:
            return None
        return f"SGE 8.1.9\nusage: {program} [options]\n"

    def down(self, program: str, argv: Sequence[str]) -> Answer | None:
        """11-qmaster-and-host-down; accounting is a file."""
        if program == "qacct":
            return None
        if program == "qdel":
            return Answer(1, NO_ROUTE, REFUSES)
        if program == "qsub":
            return Answer(1, "", f"{REFUSES}Unable to run job: {NO_ROUTE}Exiting.\n")
        return Answer(1, "", f"{REFUSES}error: {NO_ROUTE}")

    def busy(self, program: str, argv: Sequence[str]) -> Answer:
        if program == "qsub":
            return Answer(1, "", f"Unable to run job: {BUSY}Exiting.\n")
        return Answer(1, "", f"error: {BUSY}")

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """07-arrays, 09-parallel."""
        return {
            "JOB_ID": str(array.number),
            "JOB_NAME": array.name,
            "SGE_TASK_ID": str(job.index),
            "SGE_TASK_FIRST": "1",
            "QUEUE": "all.q",
        }

    def log(self, array: Array, job: Job) -> str:
        """submit(1), -o: ``[[hostname]:]path`` with pseudo environment variables."""
        path = array.extra["output"].partition(":")[2] or array.extra["output"]
        known = {
            "TASK_ID": str(job.index),
            "JOB_ID": str(array.number),
            "JOB_NAME": array.name,
            "USER": "alice",
            "HOME": "/home/alice",
            "HOSTNAME": "node01",
        }
        return re.sub(r"\$(" + "|".join(known) + ")", lambda match: known[match[1]], path)

    def _qsub(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        given, rest = options(_joined(argv), ("-terse", "-V", "-cwd", "-notify"), VALUED)
        text = read(rest[0])
        if text is None:
            where = f"error opening {rest[0]}: No such file or directory"
            return Answer(14, "", f"Unable to read script file because of error: {where}\n")
        lines = [word for line in directives(text, "#$") for word in _words(line)]
        inside, _ = options(_joined(lines), ("-notify",), VALUED)
        request = _request([*inside, *given])
        option = dict([*inside, *given])
        if option.get("-sync") == "y" or option.get("-b") == "y":
            raise NotRecorded(argv)
        try:
            array = core.submit(
                option["-N"], spans(option["-t"]), request, text, output=option["-o"]
            )
        except Refused as error:
            why = REFUSED[error.why].format(error.value)
            return Answer(1, "", f"Unable to run job: {why}\nExiting.\n")
        last = list(array.jobs)[-1]
        if "-terse" in option:
            return Answer(0, f"{array.number}.1-{last}:1\n")
        said = f'Your job-array {array.number}.1-{last}:1 ("{array.name}") has been submitted\n'
        return Answer(0, said)

    def _qstat(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        given, rest = options(argv, ("-xml",), ("-u", "-s", "-g"))
        if rest or ("-xml", "") not in given or dict(given).get("-s", "a") != "a":
            raise NotRecorded(argv)
        running, pending = [], []
        for array in core.arrays.values():
            waits: dict[str, list[Job]] = {}
            for job in array.jobs.values():
                if not job.live or job.vanished:
                    continue
                state = "Rq" if job.why == c.REQUEUED else STATE[job.state]
                if "q" in state:
                    waits.setdefault(state, []).append(job)
                else:
                    running.append(_row(array, job, state, str(job.index)))
            for state, jobs in waits.items():
                pending.append(_row(array, jobs[0], state, _tasks([job.index for job in jobs])))
        head = f"<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"{SCHEMA}\">\n"
        queue = f"  <queue_info>\n{''.join(running)}  </queue_info>\n"
        waiting = f"  <job_info>\n{''.join(pending)}  </job_info>\n"
        return Answer(0, f"{head}{queue}{waiting}</job_info>\n")

    def _qacct(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        if argv[:1] != ["-j"] or len(argv) != 2:
            raise NotRecorded(argv)
        array = core.arrays.get(int(argv[1]))
        jobs = array.jobs.values() if array else ()
        records = [
            _record(array, job)
            for job in jobs
            # deleted as it waited: no record (08-qdel and facts of 06-final-states)
            if array and core.recorded(job) and not job.live and job.started is not None
        ]
        if not records:
            return Answer(1, "", f"error: job id {argv[1]} not found\n")
        return Answer(0, "".join(records))

    def _qalter(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        if argv[:2] not in (["-w", "v"], ["-w", "p"]) or len(argv) != 3:
            raise NotRecorded(argv)
        array = core.arrays.get(int(argv[2]))
        if array is None:
            return Answer(1, f'denied: job "{argv[2]}" does not exist\n')
        if array.request.fits():
            why = f'Job {argv[2]} cannot run in PE "smp" because it only offers 0 slots\n'
            return Answer(1, f"{why}verification: no suitable queues\n")
        return Answer(0, "verification: found suitable queue(s)\n")

    def _qdel(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        """08-qdel, 07-arrays."""
        out, code, ended = [], 0, 0
        for target in argv:
            number, _, tasks = target.partition(".")
            if not re.fullmatch(r"\d+(\.\d+(-\d+(:\d+)?)?)?", target):
                raise NotRecorded(argv)
            array = core.arrays.get(int(number))
            if array is None or not array.live:
                out.append(f'denied: job "{number}" does not exist\n')
                code = 1
                continue
            wanted = spans(tasks) if tasks else list(array.jobs)
            live = [i for i in wanted if i in array.jobs and array.jobs[i].live]
            ended += len(core.cancel(array, live))
            if not live:
                out.append(f'job "{number}" task "{wanted[0]}" does not exist\n')
                code = 1
            elif tasks:
                out.append(f"alice has deleted job-array task {target}\n")
            else:
                out.append(f"alice has deleted job {number}\n")
        core.cancels.append(ended)
        return Answer(code, "".join(out))


def _words(line: str) -> list[str]:
    import shlex

    return shlex.split(line)


def _joined(words: Sequence[str]) -> list[str]:
    """``-pe NAME SLOTS`` takes two words."""
    joined = list(words)
    while "-pe" in joined:
        place = joined.index("-pe")
        joined[place : place + 3] = ["\0pe", f"{joined[place + 1]} {joined[place + 2]}"]
    return ["-pe" if word == "\0pe" else word for word in joined]


def _request(given: list[tuple[str, str]]) -> Request:
    request = Request()
    resources = {}
    for name, value in given:
        if name == "-pe":
            request.cores = int(value.split()[1])
        elif name == "-l":
            resources.update(part.split("=") for part in value.split(","))
        elif name == "-q":
            request.queue = value
        elif name == "-P":
            request.account = value
    if "h_rt" in resources:
        request.walltime = int(resources["h_rt"])
    if "h_vmem" in resources:  # per slot
        size = resources["h_vmem"]
        request.memory = int(size[:-1]) * UNITS[size[-1]] * request.cores
    request.gpus = int(resources.get("gpu", 0))
    return request


def _tasks(indices: list[int]) -> str:
    """07-arrays: ``4-10:1``; ``10`` alone."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][-1] == index - 1:
            parts[-1][1:] = [index]
        else:
            parts.append([index])
    return ",".join(f"{p[0]}-{p[1]}:1" if len(p) == 2 else str(p[0]) for p in parts)


def _row(array: Array, job: Job, state: str, tasks: str) -> str:
    """04-status-xml."""
    waits = "q" in state
    when = stamp(job.submitted if waits else job.started, "%Y-%m-%dT%H:%M:%S")
    tag = "JB_submission_time" if waits else "JAT_start_time"
    queue = "" if waits else f"all.q@{job.node}"
    return (
        f'    <job_list state="{"pending" if waits else "running"}">\n'
        f"      <JB_job_number>{array.number}</JB_job_number>\n"
        "      <JAT_prio>0.75006</JAT_prio>\n"
        f"      <JB_name>{array.name}</JB_name>\n"
        "      <JB_owner>alice</JB_owner>\n"
        f"      <state>{state}</state>\n"
        f"      <{tag}>{when}</{tag}>\n"
        f"      <queue_name>{queue}</queue_name>\n"
        "      <slots>1</slots>\n"
        f"      <tasks>{tasks}</tasks>\n"
        "    </job_list>\n"
    )


def _record(array: Array, job: Job) -> str:
    """06-final-states, `qacct -j 86`."""
    plain = ("0    ", str(1 if job.state == c.MEMORY else job.code), "")
    failed, status, words = FAILED.get(job.state, plain)
    fields = {
        "qname": "all.q",
        "hostname": job.node,
        "group": "alice",
        "owner": "alice",
        "project": "NONE",
        "department": "defaultdepartment",
        "jobname": array.name,
        "jobnumber": str(array.number),
        "taskid": str(job.index),
        "account": "sge",
        "priority": "0",
        "qsub_time": stamp(job.submitted, ENDED),
        "start_time": stamp(job.started, ENDED),
        "end_time": stamp(job.ended, ENDED),
        "granted_pe": "NONE",
        "slots": str(array.request.cores),
        "failed": failed,
        "exit_status": f"{status:<20} {words}".rstrip() if words else f"{status:<20}",
        "ru_wallclock": "0s",
        "maxvmem": "0.000B",
        "category": "NONE",
    }
    lines = "".join(f"{name:<12} {value:<20}\n" for name, value in fields.items())
    return "=" * 62 + "\n" + lines


DIALECT = GridEngine()
