"""One trial: the computation of ``churn.py`` by alice, faults by root, and somebody who watches."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.site.chaos.faults import Faults, Nothing, small_disk
from tests.site.chaos.plan import AWAY, Blow, Fault
from tests.site.chaos.queues import QUEUES, Job, NotAnswered
from tests.site.held import PROGRAMS, TESTBED
from tests.site.slurm import wait_until

#: A job that has run for less than this part of its walltime is never being replaced already.
YOUNG = 1 / 4
#: Seconds from the end of a cluster within which the queue and the hosts are empty.
GONE = 60.0


@dataclass
class Seen:
    """What the batch system and the hosts showed, second by second.

    Parameters
    ----------
    looks, unanswered
        How often was looked, and without an answer.
    most
        Live jobs at most.
    young
        Those of them that waited or had not run for long, whenever they were too many, and when.
    doubled
        When, and which jobs, were there twice or had two supervisors, in two looks one after the
        other: between the death of a supervisor and that of what it forked there may be one.
    """

    looks: int = 0
    unanswered: int = 0
    most: int = 0
    young: list[tuple[float, list[str]]] = field(default_factory=list)
    doubled: list[tuple[float, str]] = field(default_factory=list)


class Watch(threading.Thread):
    """Looks at the queue and the processes once a second."""

    def __init__(self, faults: Faults, wanted: int, walltime: float) -> None:
        super().__init__(name="watch", daemon=True)
        self.seen = Seen()
        self._faults, self._wanted, self._walltime = faults, wanted, walltime
        self._over = threading.Event()
        self._twice: set[str] = set()  # at the last look

    def run(self) -> None:
        while not self._over.wait(1.0):
            self.seen.looks += 1
            try:
                self._look(self._faults.queue.jobs(self._faults.cluster))
            except NotAnswered:
                self.seen.unanswered += 1

    def _look(self, jobs: Sequence[Job]) -> None:
        young = [job.prefix for job in jobs if job.age < YOUNG * self._walltime]
        self.seen.most = max(self.seen.most, len(jobs))
        if len(young) > self._wanted:
            self.seen.young.append((time.time(), young))
        names = [job.prefix for job in jobs], [prefix for prefix, _ in self._faults.supervisors()]
        twice = {name for each in names for name, count in Counter(each).items() if count > 1}
        self.seen.doubled += [(time.time(), name) for name in sorted(twice & self._twice)]
        self._twice = twice

    def stop(self) -> Seen:
        self._over.set()
        self.join(30)
        return self.seen


@dataclass(frozen=True)
class Outcome:
    """Everything that is known of a trial; the parts of `told` are churn.py's."""

    told: Mapping[str, Any]
    blows: Sequence[Blow]
    missed: Sequence[str]
    seen: Seen
    left: Sequence[str]


def run_trial(
    called: str,
    batch: str,
    plan: Sequence[Fault],
    *,
    jobs: int = 4,
    workers: int = 2,
    seconds: float,
    walltime: float = 60,
    **options: Any,
) -> Outcome:
    """Run the computation, strike as planned, and see what is left behind."""
    name = f"{called}-{secrets.token_hex(2)}"
    wanted = {
        "name": name,
        "batch": batch,
        "jobs": jobs,
        "workers": workers,
        "seconds": seconds,
        "walltime": clock(walltime),
        **options,
    }
    home = Path("/home/alice/.dask-hpc") / name
    with small_disk(home, "alice") as disk:
        faults = Faults(name, QUEUES[batch](), disk)
        with program(wanted) as process:
            up = answer(process)
            assert "up" in up, up
            watch = Watch(faults, jobs, walltime)
            watch.start()
            blows, missed = _conduct(faults, plan, process)
            try:
                told = answer(process)
            finally:
                seen = watch.stop()
        return Outcome(told, blows, missed, seen, _left(faults))


def clock(seconds: float) -> str:
    """A walltime in the form that both sides understand."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def program(wanted: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """churn.py, as alice on the login host, in her home directory."""
    words = [str(TESTBED / "on-host"), "-u", "alice", "login"]
    words += [sys.executable, str(PROGRAMS / "churn.py"), json.dumps(wanted)]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # it ends with its input, should anything here fail
        words, cwd="/home/alice", stdin=pipe, stdout=pipe, text=True
    ) as process:
        yield process


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of the program that is no warning."""
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        if "warning" not in found:
            return found
        sys.stderr.write(line)
    raise AssertionError(f"the program ended: {process.wait(60)}")


def _conduct(
    faults: Faults, plan: Sequence[Fault], process: subprocess.Popen[str]
) -> tuple[list[Blow], list[str]]:
    """Strike, each in its time; what happened, and what found nobody to hit."""
    start, blows, missed = time.monotonic(), list[Blow](), list[str]()
    mends: list[tuple[float, Blow]] = []
    waiting = sorted(plan, key=lambda fault: fault.at)
    while (waiting or mends) and process.poll() is None:
        now = time.monotonic() - start
        for at, blow in [each for each in mends if each[0] <= now]:
            mends.remove((at, blow))
            _mend(blow)
        if waiting and waiting[0].at <= now:
            fault = waiting.pop(0)
            try:
                blows.append(faults.strike(fault.kind, fault.pick))
            except (Nothing, NotAnswered, AssertionError, psutil.NoSuchProcess) as error:
                missed.append(f"{fault.kind}: {type(error).__name__} {error}"[:200])
                continue
            print(f"{now:6.1f} s  {fault.kind}: {' '.join(blows[-1].victims)}", flush=True)
            if blows[-1].mend is not None:
                mends.append((time.monotonic() - start + AWAY, blows[-1]))
        time.sleep(0.1)
    for _, blow in mends:
        _mend(blow)
    return blows, missed


def _mend(blow: Blow) -> None:
    assert blow.mend is not None
    blow.mend()


def _left(faults: Faults) -> list[str]:
    """Jobs, processes and files that outlive the cluster."""

    def jobs() -> list[str]:
        with suppress(NotAnswered):
            return [f"job {job.id} {job.name}" for job in faults.queue.jobs(faults.cluster)]
        return ["the batch system does not answer"]

    def processes() -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if process.username() == "alice" and any(faults.cluster in w for w in words):
                    found.append(f"process {process.pid} {' '.join(words)[:200]}")
        return found

    with suppress(AssertionError):
        wait_until(lambda: not jobs() and not processes(), GONE, "nothing is left")
    files = [f"file {path}" for path in sorted(faults.disk.rglob("*"))]
    return [*jobs(), *processes(), *files]


def as_json(outcome: Outcome) -> str:
    """For a look at it afterwards."""
    told = {
        "told": dict(outcome.told),
        "blows": [{**asdict(blow), "mend": None} for blow in map(_plain, outcome.blows)],
        "missed": list(outcome.missed),
        "seen": asdict(outcome.seen),
        "left": list(outcome.left),
    }
    return json.dumps(told, indent=1)


def _plain(blow: Blow) -> Blow:
    return Blow(
        kind=blow.kind,
        time=blow.time,
        victims=blow.victims,
        graceful=blow.graceful,
        lasts=blow.lasts,
    )
