"""Flux 0.88: flux submit, flux jobs, flux pkill, flux version.

Recorded in tests/drivers/transcripts/flux.  Not recorded, from flux-jobs(1) and flux-core's
sources: the status CLEANUP, the exception of a node that failed, what pkill says of no match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import Dialect, NotRecorded, options, read, spans
from tests.fakes.front import Answer

STATE = {  # state, status
    c.PENDING: ("SCHED", "SCHED"),
    c.HELD: ("SCHED", "SCHED"),
    c.RUNNING: ("RUN", "RUN"),
    c.ENDING: ("CLEANUP", "CLEANUP"),
    c.COMPLETED: ("INACTIVE", "COMPLETED"),
    c.FAILED: ("INACTIVE", "FAILED"),
    c.MEMORY: ("INACTIVE", "FAILED"),
    c.TIMEOUT: ("INACTIVE", "TIMEOUT"),
    c.CANCELLED: ("INACTIVE", "CANCELED"),
    c.NODE: ("INACTIVE", "FAILED"),
}
EXCEPTION = {  # 09_history
    c.TIMEOUT: ("timeout", "resource allocation expired"),
    c.CANCELLED: ("cancel", ""),
    c.NODE: ("node-failure", "lost contact with fn1"),
}
CODE = {c.TIMEOUT: 142, c.CANCELLED: 143, c.MEMORY: 137, c.NODE: 137}
UNSATISFIABLE = (
    "[Errno 75] unsatisfiable request: need {0} slot(s) of 1 core(s), only 12 such slot(s)"
    " available (total cores: 12)\n"
)
VALUED = (
    "--cc",
    "--job-name",
    "--env",
    "--nodes",
    "--ntasks",
    "--cores-per-task",
    "--gpus-per-task",
    "--time-limit",
    "--queue",
    "--setattr",
    "--setopt",  # flux-submit(1)
    "--signal",  # likewise
    "--output",
)
DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Flux(Dialect):
    """Flux."""

    name = "flux"
    programs = ("flux",)
    submits = "flux"
    no_queue = "Invalid queue 'nosuch' specified"
    # 09: a job killed by a signal is FAILED with 128 and its number, whatever sent it.
    tells = {c.MEMORY: "FAILED"}  # noqa: RUF012
    absent = frozenset({c.PREEMPTED})
    unknown = "nobody-0"
    unasked = frozenset({"memory"})
    documented = (r"Canceled N jobs$",)  # flux-pkill, of more than one
    hostile = {"FLUX_JOBS_FORMAT_DEFAULT": "{id}"}  # noqa: RUF012

    def is_submit(self, argv: Sequence[str]) -> bool:
        return argv[1] == "submit"

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        """01_version."""
        if list(argv) != ["version"]:
            return None
        return "commands:    \t\t0.88.0-59-g4a5e79f56\nlibflux-core:\t\t0.88.0-59-g4a5e79f56\n"

    def down(self, program: str, argv: Sequence[str]) -> Answer:
        """05_errors: no socket."""
        who = f"flux-{argv[0]}"
        words = "Unable to connect to Flux: broker socket /tmp/nosuch was not found"
        return Answer(1, "", f"{who}: ERROR: {words}\n")

    def busy(self, program: str, argv: Sequence[str]) -> Answer:
        return Answer(1, "", f"flux-{argv[0]}: ERROR: [Errno 110] Connection timed out\n")

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """04_array_finished; what was given by --env."""
        set_here = dict([array.extra["env"].partition("=")[::2]]) if array.extra["env"] else {}
        return {
            "FLUX_JOB_ID": _base58(job.number),
            "FLUX_JOB_CC": str(job.index),
            **set_here,
        }

    def log(self, array: Array, job: Job) -> str:
        """Without --output in the job's own KVS: not in a file."""
        return array.extra["output"] or "/dev/null"

    def _flux(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        handler = {"submit": self._submit, "jobs": self._jobs, "pkill": self._pkill}.get(argv[0])
        if handler is None:
            raise NotRecorded(argv)
        return handler(core, argv[1:], environ)

    def _submit(self, core: Core, argv: list[str], environ: Mapping[str, str]) -> Answer:
        given, rest = options(argv, ("--exclusive",), VALUED)
        option = dict(given)
        request = Request()
        request.nodes = int(option.get("--nodes", option.get("--ntasks", 1)))
        request.cores = int(option.get("--cores-per-task", 1))
        request.gpus = int(option.get("--gpus-per-task", 0))
        request.queue = option.get("--queue", "")
        attribute, _, value = option.get("--setattr", "").partition("=")
        if attribute in ("bank", "system.bank"):
            request.account = json.loads(value)
        if "--time-limit" in option:
            text = option["--time-limit"]  # a Flux standard duration: a bare number is minutes
            unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1])
            request.walltime = int(float(text[:-1]) * unit if unit else float(text) * 60)
        script = read(rest[-1])
        if script is None:
            raise NotRecorded(f"no script {rest[-1]}")
        indices = spans(option["--cc"])
        name = option["--job-name"]
        if not name.endswith("-{cc}"):
            raise NotRecorded("copies without a name of their own")
        if request.fits() in ("cores", "nodes"):
            return Answer(1, "", UNSATISFIABLE.format(request.cores))
        try:
            array = core.submit(
                name.removesuffix("-{cc}"),
                indices,
                request,
                script,
                env=option.get("--env", ""),
                output=option.get("--output", ""),
            )
        except Refused as error:
            if error.why != "queue":
                raise NotRecorded(error.why) from None
            return Answer(1, "", f"[Errno 1] Invalid queue '{error.value}' specified\n")
        return Answer(0, "".join(f"{_base58(job.number)}\n" for job in array.jobs.values()))

    def _jobs(self, core: Core, argv: list[str], environ: Mapping[str, str]) -> Answer:
        given, rest = options(argv, ("--json", "-a"), ("--count", "--since"))
        if rest or ("--json", "") not in given or "FLUX_JOBS_FORMAT_DEFAULT" in environ:
            raise NotRecorded(argv)
        every = ("-a", "") in given  # with it also those that a short memory has forgotten
        listed = [
            _object(array, job)
            for array, job in core.jobs()
            if (core.recorded(job) if every and not job.live else core.listed(job))
        ]
        count = int(dict(given).get("--count", 1000))
        more = f"warning: output truncated at {count} jobs.\n"
        text = json.dumps({"jobs": listed[:count]}) + "\n"
        return Answer(0, text, more if len(listed) > count else "")

    def _pkill(self, core: Core, argv: list[str], environ: Mapping[str, str]) -> Answer:
        _, rest = options(argv, (), ("--max-entries",))
        if len(rest) != 1 or not rest[0].startswith("name:"):
            raise NotRecorded(argv)
        pattern = re.compile(rest[0].removeprefix("name:"))
        hit = [
            (array, job)
            for array, job in core.jobs()
            if job.live and pattern.search(f"{array.name}-{job.index}")
        ]
        for array, job in hit:
            core.cancel(array, [job.index])
        core.cancels.append(len(hit))
        if not hit:
            return Answer(1)
        jobs = "job" if len(hit) == 1 else "jobs"
        return Answer(0, "", f"flux-pkill: INFO: Canceled {len(hit)} {jobs}\n")


def _base58(number: int) -> str:
    number = number << 24
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = DIGITS[digit] + text
    return f"ƒ{text}"


def _object(array: Array, job: Job) -> dict[str, Any]:
    """03_array_running, 09_history: --json; keys are there from the moment they are known."""
    state, status = STATE[job.state]
    told: dict[str, Any] = {"t_depend": job.submitted}
    if job.started is not None:
        told["t_run"] = job.started
    if not job.live:
        told |= {"t_cleanup": job.ended, "t_inactive": job.ended}
    told |= {
        "duration": float(array.request.walltime or 0),
        "name": f"{array.name}-{job.index}",
        "cwd": "/home/alice",
        "queue": "batch",
        "ntasks": 1,
        "ncores": 1,
    }
    if job.node:
        told |= {"nnodes": 1, "priority": 16, "ranks": "2", "nodelist": job.node}
    if not job.live:
        told |= {"success": job.state == c.COMPLETED, "result": status}
        if job.started is not None:
            told["waitstatus"] = CODE.get(job.state, job.code) << 8
    told |= {
        "id": job.number << 24,
        "t_submit": job.submitted,
        "state": state,
        "username": "alice",
        "userid": 1001,
        "urgency": 0 if job.state == c.HELD else 16,
        "status": status,
    }
    if not job.live:
        told["returncode"] = CODE.get(job.state, job.code) if job.started is not None else -128
    told |= {
        "dependencies": [],
        "jobid": _base58(job.number),
        "annotations": {"sched": {"resource_summary": "rank2/core0"}} if job.node else {},
        "exception": {"occurred": False},
    }
    if job.state in EXCEPTION:
        kind, note = EXCEPTION[job.state]
        told["exception"] = {"occurred": True, "severity": 0, "type": kind, "note": note}
    return told


DIALECT = Flux()
