"""OAR 2.5.9: oarsub, oarstat, oardel.

Recorded in tests/drivers/transcripts/oar.  A condition given with --sql is evaluated by a real
database over a table with OAR's column names, whatever its form.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import Dialect, NotRecorded, options, read, seconds
from tests.fakes.front import Answer

STATE = {
    c.PENDING: "Waiting",
    c.HELD: "Hold",
    c.RUNNING: "Running",
    c.ENDING: "Finishing",
    c.COMPLETED: "Terminated",
    c.FAILED: "Terminated",  # 06-final-states: a non-zero exit is Terminated as well
    c.MEMORY: "Terminated",  # a process killed by signal 9
}
EVENTS = {  # 06-final-states, in the order they were listed
    c.TIMEOUT: (
        ("FRAG_JOB_REQUEST", "User root requested to frag the job {}"),
        ("WALLTIME", "[sarko] Job [{}] from 1795375657 with 15; current time=1795375678 (Elapsed)"),
        ("SEND_KILL_JOB", "[Leon] Send the kill signal to oarexec on node02 for job {}"),
        ("SWITCH_INTO_ERROR_STATE", "[bipbip {}] Ask to change the job state"),
    ),
    c.CANCELLED: (
        ("FRAG_JOB_REQUEST", "User alice requested to frag the job {}"),
        ("SEND_KILL_JOB", "[Leon] Send the kill signal to oarexec on node02 for job {}"),
        ("SWITCH_INTO_ERROR_STATE", "[bipbip {}] Ask to change the job state"),
    ),
    c.PREEMPTED: (
        ("BESTEFFORT_KILL", "[MetaSched] kill the besteffort job {}"),
        ("FRAG_JOB_REQUEST", "User root requested to frag the job {}"),
        ("SWITCH_INTO_ERROR_STATE", "[bipbip {}] Ask to change the job state"),
    ),
    c.NODE: (  # node-dead: its node was declared dead
        ("FRAG_JOB_REQUEST", "User oar requested to frag the job {}"),
        ("SEND_KILL_JOB", "[Leon] Send the kill signal to oarexec on node04 for job {}"),
        ("SWITCH_INTO_ERROR_STATE", "[bipbip {}] Ask to change the job state"),
    ),
}
NOT_ENOUGH = (  # 03-submit-errors
    "There are not enough resources for your request\n"
    "[ERROR] Oarsub failed, please verify your request syntax.\n"
)
DATABASE = (  # 10-server-down
    "DBI connect('database=oar;host=10.77.0.1;port=5433','oar_ro',...) failed: connection to server"
    ' at "10.77.0.1", port 5433 failed: Connection refused\n'
    "\tIs the server running on that host and accepting TCP/IP connections? at"
    " /usr/share/perl5/OAR/IO.pm line 307.\n"
    "DB connection error, exiting.\n"
)
VALUED = ("--checkpoint", "-l", "-q", "--project", "-n", "--array", "-O", "-E", "-p", "-t")


class Oar(Dialect):
    """OAR."""

    name = "oar"
    programs = ("oarsub", "oarstat", "oardel")
    submits = "oarsub"
    first = 1
    no_queue = "The queue nosuch does not exist"
    tells = {c.MEMORY: "FAILED"}  # noqa: RUF012  (exit_code 9: killed by a signal, no word of why)
    asks = {"memory_per_core_property_name": "mem"}  # noqa: RUF012
    documented = (r'^state: "Finishing"$',)  # the table "jobs", column "state"
    records = True  # its database keeps every job for ever
    hangs = True

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        asked = list(argv) in (["--version"], ["-V"])
        return "OAR version : 2.5.9 (Canicule)\n" if asked else None

    def down(self, program: str, argv: Sequence[str]) -> Answer | None:
        """10-server-down, database down: oarstat fails at once, the others try on and hang."""
        return Answer(25, "", DATABASE, "" if program == "oarstat" else "hangs")

    def busy(self, program: str, argv: Sequence[str]) -> Answer:
        """10-server-down, server down: the job is in the database, the executor does not answer."""
        if program == "oarsub":
            return Answer(9, "", "[ERROR] Cannot connect to executor head:6666. Job is killed.\n")
        if program == "oardel":
            return Answer(2, "", "Could not connect to the socket head:6666\n")
        return Answer(25, "", DATABASE)

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """09-environment."""
        return {
            "OAR_ARRAY_ID": str(array.number),
            "OAR_ARRAY_INDEX": str(job.index),
            "OAR_JOB_ID": str(job.number),
            "OAR_JOB_NAME": array.name,
        }

    def log(self, array: Array, job: Job) -> str:
        return array.extra["output"].replace("%jobid%", str(job.number))

    def _oarsub(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        given, rest = options(argv, (), VALUED)
        option = dict(given)
        if len([1 for name, _ in given if name == "-l"]) > 1:
            raise NotRecorded("moldable")
        request = _request(option.get("-l", ""))
        request.queue, request.account = option.get("-q", ""), option.get("--project", "")
        rules = "" if request.walltime else "[ADMISSION RULE] Set default walltime to 7200.\n"
        rules += "[ADMISSION RULE] Modify resource description with type constraints\n"
        if request.fits():
            return Answer(8, rules + "OAR_JOB_ID=-5\n", NOT_ENOUGH)
        # The command is run by the user's shell.
        interpreter, script = _words(rest[0])
        try:
            array = core.submit(
                option["-n"],
                range(1, int(option["--array"]) + 1),
                request,
                read(script) or "exit 127",
                output=option["-O"],
                interpreter=interpreter,
            )
        except Refused as error:
            if error.why != "queue":
                raise NotRecorded(error.why) from None
            return Answer(248, rules, f"ERROR : The queue {error.value} does not exist\n")
        lines = [f"OAR_JOB_ID={job.number}\n" for job in array.jobs.values()]
        if len(lines) == 1:
            return Answer(0, rules + lines[0], "")
        lines.append(f"OAR_ARRAY_ID={array.number}\n")
        return Answer(0, rules + "".join(lines), "Simple array job submission is used\n")

    def _oarstat(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        given, rest = options(argv, ("--full", "-f", "--json", "-J"), ("--sql",))
        option = dict(given)
        if rest or not {"--sql"} < set(option) or not {"--json", "-J"} & set(option):
            raise NotRecorded(argv)
        found, error = _select(core, option["--sql"])
        if error:
            return Answer(0, "", f"DBD::Pg::st execute failed: ERROR:  {error}\n")
        if not found:
            return Answer(0)  # 04-status-json: nothing at all
        text = ",\n".join(_object(array, job) for array, job in found)
        return Answer(0, f"{{\n{text}\n}}\n")

    def _oardel(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        given, rest = options(argv, (), ("--sql",))
        if rest or not given:
            raise NotRecorded(argv)
        found, error = _select(core, given[0][1])
        if error:
            return Answer(1, "", f"DBD::Pg::st execute failed: ERROR:  {error}\n")
        out, err, deleted = [], [], []
        for array, job in found:
            killed = job.state == c.CANCELLED
            out.append(
                f"Deleting the job = {job.number} ...{'ERROR' if killed else 'REGISTERED'}.\n"
            )
            if killed:
                err.append(f"Cannot frag {job.number} ; This job was already killed.\n")
            else:
                deleted.append(str(job.number))
                core.cancel(array, [job.index])
        if deleted:
            ids = " ".join(deleted)
            out.append(f"The job(s) [ {ids} ] will be deleted in the near future.\n")
        core.cancels.append(len(deleted))
        return Answer(6 if err else 0, "".join(out), "".join(err))


def _words(text: str) -> list[str]:
    import shlex

    *interpreter, script = shlex.split(text)
    return [" ".join(interpreter), script]


def _request(text: str) -> Request:
    """``{property>=1}/nodes=2/gpu=1/core=4,walltime=1:30:00``: cores multiply down the levels."""
    request = Request()
    levels, _, walltime = text.partition(",walltime=")
    if walltime:
        request.walltime = seconds(walltime)
    condition = re.match(r"\{(.*?)\}", levels)
    wanted = dict(
        part.split("=") for part in levels[condition.end() if condition else 0 :].split("/") if part
    )
    request.nodes = int(wanted.get("nodes") or wanted.get("host") or 1)
    request.gpus = int(wanted.get("gpu", 0))
    request.cores = int(wanted.get("core", 1)) * (request.gpus or 1)
    if condition and (memory := re.search(r"mem>=(\d+)", condition[1])):
        request.memory = int(memory[1]) * 1024**2 * request.cores  # MiB per core
    return request


def _select(core: Core, where: str) -> tuple[list[tuple[Array, Job]], str]:
    base = sqlite3.connect(":memory:")
    base.execute(
        "CREATE TABLE jobs (job_id INTEGER, array_id INTEGER, array_index INTEGER, job_name TEXT,"
        " state TEXT, job_user TEXT)"
    )
    known = {}
    for array, job in core.jobs():
        if job.vanished:
            continue
        known[job.number] = (array, job)
        state = STATE.get(job.state, "Error")
        base.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, 'alice')",
            (job.number, array.number, job.index, array.name, state),
        )
    try:
        rows = base.execute(f"SELECT job_id FROM jobs WHERE ({where})").fetchall()  # noqa: S608
    except sqlite3.Error as error:
        return [], str(error)
    return [known[number] for (number,) in rows], ""


def _object(array: Array, job: Job) -> str:
    """04-status-json and 06-final-states, `oarstat -f -J`."""
    now = int(job.submitted)
    code = None
    if job.state in (c.COMPLETED, c.FAILED):
        code = job.code << 8 | job.signal
    elif job.state == c.MEMORY:
        code = 9
    message = "R=2,W=2:0:0,J=B,N=arr (Karma=0.000,quota_ok)"
    events = [
        {
            "to_check": "NO",
            "date": now,
            "event_id": 89 + place,
            "job_id": job.number,
            "type": kind,
            "description": text.format(job.number),
        }
        for place, (kind, text) in enumerate(EVENTS.get(job.state, ()))
    ]
    told = {
        "cpuset_name": f"alice_{job.number}",
        "project": "default",
        "properties": "(desktop_computing = 'NO') AND drain='NO'",
        "command": "sleep 100",
        "message": message,
        "walltime": array.request.walltime or 7200,
        "submissionTime": now,
        "job_user": "alice",
        "dependencies": [],
        "queue": "default",
        "initial_request": "oarsub -l walltime=0:0:15 sleep 100",
        "owner": "alice",
        "reservation": "None",
        "assigned_network_address": [job.node] if job.node else [],
        "stopTime": int(job.ended or 0),
        "startTime": int(job.started or 0),
        "launchingDirectory": "/home/alice/recoar",
        "Job_Id": job.number,
        "jobType": "PASSIVE",
        "array_id": array.number,
        "scheduledStart": None,
        "state": STATE.get(job.state, "Error"),
        "types": [],
        "stdout_file": "OAR.arr.35.stdout",
        "stderr_file": "OAR.arr.35.stderr",
        "name": array.name,
        "resubmit_job_id": 0,
        "exit_code": code,
        "assigned_resources": [17] if job.node else [],
        "events": events,
        "array_index": job.index,
        "wanted_resources": "-l \"{type = 'default'}/resource_id=1,walltime=0:0:15\" ",
    }
    body = json.dumps(told, indent=6, separators=(",", " : "))
    # Perl's JSON indents by three.
    body = body.replace("\n      ", "\n" + " " * 6).removesuffix("}") + "   }"
    return f'   "{job.number}" : {body}'


DIALECT = Oar()
