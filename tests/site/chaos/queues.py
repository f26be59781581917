"""The jobs of one cluster as the batch system itself lists them, and what an administrator may do.

One class for each batch system; what is killed without it is in :mod:`~tests.site.chaos.faults`.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import subprocess
import time
import xml.etree.ElementTree as ET
from typing import NamedTuple, Protocol

from tests.site.slurm import run


class Job(NamedTuple):
    """A job that waits or runs; what is being tidied up after is not there any more."""

    id: str  # as the batch system's commands take it
    name: str  # of its submission
    number: str  # within it
    node: str  # empty while it waits
    age: float  # seconds since it started; 0 while it waits

    @property
    def prefix(self) -> str:
        """What the names of its workers begin with."""
        return f"{self.name}-{self.number}"


class Queue(Protocol):
    """What the tests ask of a batch system, as its administrator."""

    def jobs(self, cluster: str) -> list[Job]: ...

    def cancel(self, job: Job) -> None: ...

    def suspend(self, job: Job) -> None: ...

    def resume(self, job: Job) -> None: ...


class NotAnswered(Exception):
    """The batch system did not answer."""


def _ask(*argv: str) -> str:
    try:
        return run(*argv, timeout=20)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        raise NotAnswered(str(error)) from error


class Slurm:
    """Slurm, by squeue, scancel and scontrol."""

    def jobs(self, cluster: str) -> list[Job]:
        fields = "--format=%F_%K|%j|%K|%N|%M"
        text = _ask("squeue", "-h", "-r", "-u", "alice", "-t", "PD,CF,R,S", fields)
        found = []
        for line in text.splitlines():
            element, name, number, node, elapsed = line.split("|")
            if name.startswith(f"{cluster}-"):
                found.append(Job(element, name, number, node, _seconds(elapsed) if node else 0.0))
        return found

    def cancel(self, job: Job) -> None:
        run("scancel", job.id)

    def suspend(self, job: Job) -> None:
        run("scontrol", "suspend", job.id)

    def resume(self, job: Job) -> None:
        run("scontrol", "resume", job.id)

    def requeue(self, job: Job) -> None:
        run("scontrol", "requeue", job.id)

    def take(self, node: str, *, back: bool) -> None:
        """Declare a node down, or well again: with ReturnToService it may be so by itself."""
        state = ("state=resume",) if back else ("state=down", "reason=chaos")
        run("scontrol", "update", f"nodename={node}", *state, check=not back)

    def urge(self, node: str, seconds: float) -> str:
        """A whole node is wanted by a job of a higher partition; its id."""
        options = ("-p", "urgent", "-w", node, "--exclusive", "-o", "/dev/null")
        name = f"urgent-{secrets.token_hex(2)}"
        words = run("sbatch", "--parsable", "-J", name, *options, "--wrap", f"sleep {seconds:.0f}")
        return words.split()[-1]


def _seconds(elapsed: str) -> float:
    """Of squeue's ``[D-][H:]M:SS``."""
    days, _, rest = elapsed.rpartition("-")
    total = 0
    for part in rest.split(":"):
        total = total * 60 + int(part)
    return float(total + int(days or 0) * 86400)


class GridEngine:
    """Grid Engine, by qstat, qdel and qmod."""

    def jobs(self, cluster: str) -> list[Job]:
        text = _ask("qstat", "-u", "alice", "-g", "d", "-r", "-xml")
        found = []
        for each in ET.fromstring(text).iter("job_list"):  # noqa: S314  (the bed's own)
            name = each.findtext("full_job_name") or each.findtext("JB_name") or ""
            state, number = each.findtext("state") or "", each.findtext("tasks") or ""
            if not name.startswith(f"{cluster}-") or "d" in state:
                continue
            node = (each.findtext("queue_name") or "").partition("@")[2]
            started = each.findtext("JAT_start_time")
            age = _since(started) if started and node else 0.0
            id_ = f"{each.findtext('JB_job_number')}.{number}"
            found.append(Job(id_, name, number, node, age))
        return found

    def cancel(self, job: Job) -> None:
        run("qdel", *_task(job))

    def suspend(self, job: Job) -> None:
        run("qmod", "-sj", job.id)

    def resume(self, job: Job) -> None:
        run("qmod", "-usj", job.id)


def _task(job: Job) -> tuple[str, ...]:
    array, _, number = job.id.partition(".")
    return (array, "-t", number)


def _since(started: str) -> float:
    match = re.match(r"[\d-]+T[\d:]+", started)
    assert match is not None, started
    local = dt.datetime.fromisoformat(match[0]).astimezone()
    return max(0.0, time.time() - local.timestamp())


QUEUES: dict[str, type[Slurm | GridEngine]] = {"slurm": Slurm, "sge": GridEngine}
