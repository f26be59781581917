"""OpenLava 4.0: bsub, bjobs, bkill, bparams.

Recorded in tests/drivers/transcripts/openlava.  Not recorded: with the server down the commands
try for ever (OpenLava's lsb.c: "batch daemon (mbatchd) not responding ... still trying").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import Dialect, NotRecorded, options, read, spans, stamp
from tests.fakes.front import Answer

STATE = {
    c.PENDING: "PEND",
    c.HELD: "PSUSP",
    c.RUNNING: "RUN",
    c.ENDING: "RUN",
    c.COMPLETED: "DONE",
}
CODE = {c.TIMEOUT: "140", c.CANCELLED: "130"}  # 09_history
REFUSED = {  # 05_errors
    "queue": "{}: No such queue. Job not submitted.",
    "account": "{}: No such project. Job not submitted.",
    "too many": "Job array index too large. Job not submitted.",
    "cores": "Too many processors requested. Job not submitted.",
}
HEAD = "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
TRYING = "batch daemon (mbatchd) not responding ... still trying\n"
VALUED = ("-n", "-R", "-M", "-W", "-q", "-P", "-J", "-o", "-gpu")


class OpenLava(Dialect):
    """OpenLava."""

    name = "openlava"
    programs = ("bsub", "bjobs", "bkill", "bparams")
    submits = "bsub"
    first = 1
    hangs = True
    records = False
    no_queue = "nosuch: No such queue"
    banner = "OpenLava 4.0.0, Nov 22 2026\n"
    # 09: memory was not enforced; no state for a job that ends (08: it is RUN, then EXIT).
    tells = {c.ENDING: "RUNNING"}  # noqa: RUF012
    absent = frozenset({c.MEMORY, c.NODE, c.PREEMPTED})
    forgotten = {  # noqa: RUF012  (bjobs alone: what it forgets nobody records)
        c.COMPLETED: "",
        c.FAILED: "",
        c.TIMEOUT: "",
        c.CANCELLED: "",
        c.MEMORY: "",
        c.NODE: "",
        c.PREEMPTED: "",
    }
    unasked = frozenset({"gpus", "nodes"})
    documented = (r"^N (?:PSUSP|RUN) NAME",)  # recorded in other listings: bjobs, bjobs -o stat
    bytes_of_limit = 1024  # -M in KB
    tells_node = False

    def tells_code(self, core: Core) -> bool:
        return not core.forget

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        return None if list(argv) != ["-V"] else self.banner

    def down(self, program: str, argv: Sequence[str]) -> Answer:
        return Answer(0, fate="hangs")

    def busy(self, program: str, argv: Sequence[str]) -> Answer:
        """lsb_sperror's words for LSBE_MBATCHD and a full table of connections."""
        return Answer(255, "", "LSF is processing your request. Please wait ... try later\n")

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """04_array_finished: the name with the whole list of indices."""
        name = f"{array.name}[1-{len(array.jobs)}]"
        return {"LSB_JOBID": str(array.number), "LSB_JOBINDEX": str(job.index), "LSB_JOBNAME": name}

    def log(self, array: Array, job: Job) -> str:
        known = {"%J": str(array.number), "%I": str(job.index)}
        return re.sub("%[JI]", lambda match: known[match[0]], array.extra["output"])

    def _bsub(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        given, rest = options(argv, (), VALUED)
        option = dict(given)
        name = re.fullmatch(r"([^\[]+)\[([\d,-]+)\]", option["-J"])
        if name is None:
            return Answer(255, "", "Bad job name. Job not submitted.\n")
        request = self._request(option)
        try:
            request.check()
            if request.fits() in REFUSED:
                raise Refused(request.fits())  # noqa: TRY301
            array = core.submit(
                name[1], spans(name[2]), request, self._script(rest), output=option["-o"]
            )
        except Refused as error:
            return Answer(255, "", REFUSED[error.why].format(error.value) + "\n")
        default = "" if request.queue else "default "
        queue = request.queue or "normal"
        return Answer(0, f"Job <{array.number}> is submitted to {default}queue <{queue}>.\n")

    def _script(self, rest: list[str]) -> str:
        """The command is a line for the job's shell."""
        import shlex

        path = shlex.split(" ".join(rest))[-1]
        return read(path) or "exit 127"

    def _request(self, option: Mapping[str, str]) -> Request:
        request = Request()
        slots = int(option.get("-n", 1))
        spread = re.search(r"ptile=(\d+)", option.get("-R", ""))
        request.cores = int(spread[1]) if spread else slots
        request.nodes = slots // request.cores
        request.queue, request.account = option.get("-q", ""), option.get("-P", "")
        if "-W" in option:  # [hours:]minutes
            hours, _, minutes = option["-W"].rpartition(":")
            request.walltime = int(hours or 0) * 3600 + int(minutes) * 60
        if "-M" in option:
            request.memory = self._bytes(option["-M"])
            reserved = re.search(r"mem=(\w+)", option["-R"])
            if reserved is None:
                raise NotRecorded("a limit of memory without a reservation")
        return request

    def _bytes(self, text: str) -> int:
        return int(text) * self.bytes_of_limit

    def _bjobs(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        given, ids = options(argv, ("-a", "-p", "-w", "-noheader"), ("-o", "-J"))
        option = dict(given)
        every, missing = "-a" in option, []
        chosen = list(core.arrays.values())
        if ids:
            chosen = [core.arrays[int(i)] for i in ids if int(i) in core.arrays]
            missing = [i for i in ids if int(i) not in core.arrays]
        shown = [
            (array, job)
            for array in chosen
            for job in array.jobs.values()
            if core.listed(job) and (every or job.live)
        ]
        gone = [str(a.number) for a in chosen if not any(core.listed(j) for j in a.jobs.values())]
        if ids:
            missing += gone
        if "-p" in option:
            shown = [(array, job) for array, job in shown if job.state in (c.PENDING, c.HELD)]
            text = HEAD + "".join(self._waits(array, job) for array, job in shown)
        else:
            text = "".join(self._table(option["-o"], shown))
        if missing or not shown:
            words = "".join(f"Job <{number}> is not found\n" for number in missing)
            return Answer(255, text if shown else "", words or "No job found\n")
        return Answer(0, text)

    def _table(self, form: str, shown: list[tuple[Array, Job]]) -> Iterator[str]:
        names = form.split()
        yield " ".join(names).upper() + "\n"
        for array, job in shown:
            yield " ".join(self._field(name, array, job) for name in names) + "\n"

    def _field(self, name: str, array: Array, job: Job) -> str:
        if name == "jobid":
            return str(array.number)
        if name == "stat":
            return STATE.get(job.state, "EXIT")
        if name == "job_name":
            return f"{array.name}[{job.index}]"
        if name == "exit_code":
            return self._code(job)
        raise NotRecorded(f"field {name}")

    def _code(self, job: Job) -> str:
        if job.live or job.started is None:
            return ""
        return CODE.get(job.state, str(job.code))

    def _waits(self, array: Array, job: Job) -> str:
        """06_pending_reasons."""
        when = stamp(job.submitted, "%b %d %H:%M")
        state = STATE[job.state]
        why = "Job slot limit reached: 3 hosts;"
        if job.state == c.HELD:
            why = "The job was suspended by the user while pending: 1 host;"
        name = f"{array.name}[{job.index}]"
        head = f"{array.number:<7} alice   {state:<5} normal     vm             -        "
        return f"{head}{name:<10} {when}\n {why}\n"

    def _bkill(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        """05_errors, 08_bkill: a line for each element of a part, one for a whole array."""
        out, err, ended = [], [], 0
        for target in argv:
            match = re.fullmatch(r"(\d+)(?:\[([\d,-]+)\])?", target)
            if match is None:
                err.append(f"{target}: Illegal job ID.\n")
                continue
            array = core.arrays.get(int(match[1]))
            if array is None:
                err.append(f"Job <{target}>: No matching job found\n")
                continue
            wanted = spans(match[2]) if match[2] else list(array.jobs)
            live = [i for i in wanted if i in array.jobs and array.jobs[i].live]
            if match[2]:
                for index in wanted:
                    label = f"Job <{array.number}[{index}]>"
                    if index in live:
                        out.append(f"{label} is being terminated\n")
                    else:
                        err.append(f"{label}: Job has already finished\n")
            elif live:
                out.append(f"Job <{array.number}> is being terminated\n")
            else:
                err.append(f"Job <{array.number}>: Job has already finished\n")
            ended += len(core.cancel(array, live))
        core.cancels.append(ended)
        return Answer(255 if err else 0, "".join(out), "".join(err))

    def _bparams(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        """10_params."""
        return Answer(0, f"Maximum size of a job array: MAX_JOB_ARRAY_SIZE = {core.max_array}\n")


DIALECT = OpenLava()
