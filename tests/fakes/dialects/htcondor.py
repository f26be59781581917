"""HTCondor 23.9.6: condor_submit, condor_q, condor_rm, condor_history, condor_version.

Recorded in tests/drivers/transcripts/htcondor.  A constraint is evaluated, whatever its form, over
the attributes below; it may hold what these files' constraints hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import Dialect, NotRecorded, options, read
from tests.fakes.front import Answer

STATUS = {c.PENDING: 1, c.HELD: 5, c.RUNNING: 2, c.ENDING: 6, c.COMPLETED: 4, c.FAILED: 4}
HOLDS = {  # timeout, memory: held first, then removed by the job's own policy
    c.TIMEOUT: (46, "The job exceeded allowed job duration of 00:08"),
    c.MEMORY: (
        34,
        (
            "Error from slot1_1@node03: Job has gone over cgroup memory limit of 384 megabytes."
            " Peak usage: 384 megabytes.  Consider resubmitting with a higher request_memory."
        ),
    ),
}
POLICY = "The job attribute PeriodicRemove expression '{}' evaluated to TRUE"
NO_SCHEDD = (
    "Error: (null)\n\nExtra Info: You probably saw this error because the condor_schedd is not \n"
    "running on the machine you are trying to query. If the condor_schedd is not \n"
    "running, the Condor system will not be able to find an address and port to \n"
    "connect to and satisfy this request. Please make sure the Condor daemons are \n"
    "running and try again.\n"
)
ANALYSIS = """\


-- Schedd: login : <10.77.0.2:41583?...
The Requirements expression for job {job} is

    (TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") &&
    (TARGET.Disk >= RequestDisk) && (TARGET.Memory >= RequestMemory) &&
    (TARGET.Cpus >= RequestCpus) &&
    ((TARGET.FileSystemDomain == MY.FileSystemDomain) ||
      (TARGET.HasFileTransfer))

The Requirements expression for job {job} reduces to these conditions:

         Slots
Step    Matched  Condition
-----  --------  ---------
[0]           5  TARGET.Arch == "X86_64"
[7]           {cpus}  TARGET.Cpus >= RequestCpus

No successful match recorded.
Last failed match: Mon Nov 23 00:05:55 2026

Reason for last match failure: no match found{space}

{job}:  Run analysis summary ignoring user priority.  Of 4 machines,
      {rejected} are rejected by your job's requirements
      0 reject your job because of their own requirements
      0 match and are already running your jobs
      0 match but are serving other users
      {able} are able to run your job

"""


class HTCondor(Dialect):
    """HTCondor."""

    name = "htcondor"
    programs = (
        "condor_submit",
        "condor_q",
        "condor_rm",
        "condor_history",
        "condor_version",
    )
    submits = "condor_submit"
    forgets = True
    no_queue = ""  # it has none
    refused = {"account": "nosuch"}  # noqa: RUF012
    documented = (r"^JobStatus: 6$",)  # the manual, JobStatus: transferring output
    # A job whose machine is lost, or that has to make place, is idle again: the manual's STATES.
    absent = frozenset({c.NODE, c.PREEMPTED})
    unasked = frozenset({"queue", "nodes"})

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        if program != "condor_version" and list(argv) != ["-version"]:  # condor_q(1)
            return None
        return (
            "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6+dfsg-2.1+b10 $\n"
            "$CondorPlatform: X86_64-Debian_13 $\n"
        )

    def down(self, program: str, argv: Sequence[str]) -> Answer | None:
        """server-down: the history is a file."""
        if program == "condor_history":
            return None
        if program == "condor_submit":
            return Answer(1, "", "\nERROR: Can't find address of local schedd\n")
        if program == "condor_rm":
            return Answer(1, "", "condor_rm: (null)\n")
        return Answer(1, "", NO_SCHEDD)

    def busy(self, program: str, argv: Sequence[str]) -> Answer | None:
        """The words of a schedd that does not take the connection in time."""
        if program == "condor_history":
            return None
        words = "CEDAR:6001:Failed to connect to <127.0.0.1:9618>"
        if program == "condor_submit":
            return Answer(1, "", f"\nERROR: Failed to connect to local queue manager\n{words}\n")
        return Answer(1, "", f"-- Failed to fetch ads from: <127.0.0.1:9618> : login\n{words}\n")

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """What the submission itself sets, with its macros replaced (submit-words)."""
        pairs = re.findall(r"([^\s=]+)=(\S*)", array.extra["environment"])
        return {name: value.replace("$(ProcId)", str(job.index)) for name, value in pairs}

    def log(self, array: Array, job: Job) -> str:
        return array.extra["output"] or "/dev/null"

    # -- submit -----------------------------------------------------------------------------------

    def _condor_submit(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        words = list(argv)
        if words[:1] != ["-terse"] or words[-2] != "-queue":
            raise NotRecorded(argv)
        given = dict(word.split("=", 1) for word in words[1:-2])
        request = Request()
        request.cores = int(given.get("request_cpus", 1))
        if "request_memory" in given:
            request.memory = int(given["request_memory"]) * 1024**2
        if "allowed_job_duration" in given:
            request.walltime = int(given["allowed_job_duration"])
        request.gpus = int(given.get("request_gpus", 0))
        request.account = given.get("accounting_group", "")
        script = _arguments(given["arguments"])[-1]
        try:
            array = core.submit(
                given["batch_name"],
                range(int(words[-1])),
                request,
                read(script) or "exit 127",
                environment=given["environment"].strip('"'),
                output=given.get("output", ""),
                policy=given.get("periodic_remove", ""),
            )
        except Refused as error:
            if error.why == "queue":  # only by a fault: it has none
                return Answer(1, "", "\nERROR: Failed to commit job submission into the queue.\n")
            lines = (
                "\nERROR: Failed to commit job submission into the queue.\n"
                f"ERROR: accounting group {error.value} is not known: use lab or other\n"
            )
            return Answer(1, "", lines)
        return Answer(0, f"{array.number}.0 - {array.number}.{len(array.jobs) - 1}\n")

    # -- look -------------------------------------------------------------------------------------

    def _condor_q(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        valued = ("-attributes", "-constraint", "-limit")
        given, ids = options(argv, ("-json", "-better-analyze"), valued)
        option = dict(given)
        found = [
            (array, job, ad)
            for array, job in core.jobs()
            if job.live and not job.vanished
            for ad in [_ad(array, job, in_queue=True)]
            if _holds(option.get("-constraint", "true"), ad)
            and (not ids or str(array.number) in ids)
        ]
        if "-better-analyze" in option:
            return Answer(0, "".join(_analysis(*each) for each in found[: int(option["-limit"])]))
        if "-json" not in option:
            raise NotRecorded(argv)
        if not found:
            return Answer(0)  # empty: nothing at all
        return Answer(0, _listed([ad for _, _, ad in found], option["-attributes"]))

    def _condor_history(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        valued = ("-attributes", "-constraint", "-since", "-limit")
        given, ids = options(argv, ("-json",), valued)
        option = dict(given)
        if ids or "-json" not in option:
            raise NotRecorded(argv)
        ads = [
            ad
            for array, job in core.jobs()
            if not job.live and core.recorded(job)
            for ad in [_ad(array, job, in_queue=False)]
            if _holds(option["-constraint"], ad)
        ]
        return Answer(0, _listed(ads, option["-attributes"]))

    # -- cancel -----------------------------------------------------------------------------------

    def _condor_rm(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        """cancel."""
        out, err, ended = "", "", 0
        for target in argv:
            match = re.fullmatch(r"(\d+)(?:\.(\d+))?", target)
            if match is None:
                raise NotRecorded(argv)
            array = core.arrays.get(int(match[1]))
            wanted = None if match[2] is None else [int(match[2])]
            gone = core.cancel(array, wanted) if array else []
            ended += len(gone)
            if match[2] is None:
                word = f"in cluster {match[1]}"
                out += f"All jobs {word} have been marked for removal\n" if gone else ""
                err += "" if gone else f"\nCouldn't find/remove all jobs {word}\n"
            else:
                out += f"Job {target} marked for removal\n" if gone else ""
                err += "" if gone else f"Job {target} not found\n"
        core.cancels.append(ended)
        return Answer(1 if err else 0, out, err)


def _arguments(text: str) -> list[str]:
    """condor_submit(1), the new syntax: in double quotes, words in single ones."""
    import shlex

    body = text.removeprefix('"').removesuffix('"').replace('""', '"')
    return [word.replace("$(DOLLAR)", "$") for word in shlex.split(body.replace("''", "'\"'\"'"))]


def _ad(array: Array, job: Job, *, in_queue: bool) -> dict[str, Any]:
    ad: dict[str, Any] = {
        "ClusterId": array.number,
        "EnteredCurrentStatus": int(job.ended or job.started or job.submitted),
        "ExitBySignal": False,
        "JobBatchName": array.name,
        "JobStatus": STATUS.get(job.state, 3),
        "NumJobStarts": job.lives,
        "ProcId": job.index,
        "QDate": int(job.submitted),
    }
    if job.started is not None:
        ad["JobCurrentStartDate"] = int(job.started)
    if job.state in (c.RUNNING, c.ENDING):
        ad["RemoteHost"] = f"slot1_1@{job.node}"
    elif job.node:
        ad["LastRemoteHost"] = f"slot1_1@{job.node}"
    if job.state == c.HELD:
        ad |= {"HoldReason": "via condor_hold (by user alice)", "HoldReasonCode": 1}
    if job.state in (c.COMPLETED, c.FAILED):
        ad |= {"CompletionDate": int(job.ended or 0), "ExitCode": job.code}
    if job.state == c.CANCELLED:
        ad["RemoveReason"] = "via condor_rm (by user alice)"
    if job.state in HOLDS:
        code, reason = HOLDS[job.state]
        ad |= {"LastHoldReasonCode": code, "LastHoldReason": reason, "LastHoldReasonSubCode": 0}
        ad["RemoveReason"] = POLICY.format(array.extra["policy"])
    return ad


def _listed(ads: Sequence[Mapping[str, Any]], attributes: str) -> str:
    """03_array_running: an object each, sorted, between lines of their own."""
    wanted = attributes.split(",")
    texts = [
        json.dumps({k: ad[k] for k in sorted(ad) if k in wanted}, indent=2) + "\n" for ad in ads
    ]
    return "[\n" + ",\n".join(texts) + "]\n"


def _holds(constraint: str, ad: Mapping[str, Any]) -> bool:
    """Evaluate a constraint: names, numbers, texts, member(), ==, &&, ||, !."""
    python = re.sub(r"\{([^}]*)\}", r"(\1,)", constraint)
    python = python.replace("&&", " and ").replace("||", " or ")
    python = re.sub(r"!(?!=)", " not ", python)
    names: dict[str, Any] = {"member": lambda value, some: value in some, "true": True, **ad}
    return bool(eval(python, {"__builtins__": {}}, names))  # noqa: S307  (the drivers' own text)


def _analysis(array: Array, job: Job, ad: Mapping[str, Any]) -> str:
    nowhere = bool(array.request.fits())
    return ANALYSIS.format(
        job=f"{array.number}.{job.index:03d}",
        space=" ",
        cpus=0 if nowhere else 5,
        rejected=4 if nowhere else 0,
        able=0 if nowhere else 4,
    )


DIALECT = HTCondor()
