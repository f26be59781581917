"""Trial jobs: submit the probe, wait for its reports, measure the routes, cancel.

The edge: it runs jobs and opens connections.  What was seen is judged elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_hpc.batch.client import BatchClient
from dask_hpc.control import backoff
from dask_hpc.drivers.base import Driver
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, HPCError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.model.tls import TLSFiles
from dask_hpc.site.doctor.archive import build
from dask_hpc.site.doctor.checks_between import LOGIN, clock_bounds
from dask_hpc.site.doctor.checks_job import Outcome
from dask_hpc.site.doctor.probe import entry, routes, wire

PROBE, SCRIPT, LOGS = "probe.pyz", "job.sh", "logs"
#: Seconds between two looks at the directory while jobs run, or may start any moment: by when a
#: report is seen, clocks are compared.  While they wait, a look now and then will do.
_LOOK, _LOOK_WAITING = 0.5, backoff.MIN_POLL
#: Seconds after the submission in which a job that starts at once has started.
_AT_ONCE = 20.0
#: Seconds that the other probes get once the first has reported; and for what they measure.
_OTHERS, _MEASURING = 45.0, 90.0
#: Seconds for a file system to show the log of a job that has ended without a report.
_SETTLE = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to try.

    Parameters
    ----------
    name
        Of the jobs.
    directory
        Ours alone, mode 0700, on the shared file system.
    spec
        Of a job, with the probe as its command.
    jobs, probes
        To submit; probes that will run in them.
    wait
        Seconds to wait for the first report.
    tls
        The user's identity.
    directories
        Labels and texts of directories to look at on the nodes.
    query
        Command that a node tries: ``argv``, ``unset``, ``variables``.
    """

    name: str
    directory: Path
    spec: JobSpec
    jobs: int
    probes: int
    wait: float
    tls: TLSFiles
    directories: Mapping[str, str]
    query: Mapping[str, Any]

    @property
    def files(self) -> tuple[str, str, str]:
        """Authority, certificate, key."""
        return self.tls.ca_file, self.tls.cert, self.tls.key


@dataclass(slots=True)
class Result:
    """What was seen.

    Parameters
    ----------
    outcome
        Of the jobs.
    routes
        Between all parties.
    delays
        For each probe, seconds until a new file was seen there, and here.
    clocks
        For each probe, between how many seconds its clock is ahead.
    """

    outcome: Outcome
    routes: list[dict[str, Any]] = field(default_factory=list)
    delays: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    clocks: dict[str, tuple[float, float]] = field(default_factory=dict)


class Trial:
    """One trial, from the submission to the last job's end.

    Parameters
    ----------
    driver
        Of the batch system.
    plan
        What to try.
    login
        Report of this machine.
    say
        Told how it goes, a line at a time.
    """

    def __init__(self, driver: Driver, plan: Plan, login: Mapping[str, Any], say: Say) -> None:
        self.plan = plan
        self._client = BatchClient(driver)
        self._driver = driver
        self._login = login
        self._say = say
        self._submission = Submission(plan.name, plan.jobs, driver.first_index)
        self._statuses: dict[JobId, JobStatus] = {}
        self._reports: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        self._said = ""
        self._array = ""
        self._over = threading.Event()  # for the thread that measures
        self._last_look = time.time()

    async def run(self) -> Result:
        """Try; whatever happens, no job is left behind.  The directory is its owner's to remove.

        Raises
        ------
        OSError
            If the directory cannot be written.
        """
        started = time.monotonic()
        self._write()
        # Shielded: of an interrupted submission nobody would know the id, nor cancel it.
        submitting = asyncio.create_task(self._submit(), name="dask-hpc doctor submit")
        try:
            refused = await asyncio.shield(submitting)
            if refused is not None:
                return Result(self._outcome(0.0, refused=refused))
            self._say(f"submitted {self.plan.jobs} job(s): {self._array}")
            await self._reported(started)
            result = Result(self._outcome(time.monotonic() - started))
            if self._reports:
                await asyncio.to_thread(self._measure, result)
            return result
        finally:
            self._over.set()
            with contextlib.suppress(OSError):
                (self.plan.directory / entry.DONE).touch(mode=0o600)
            await submitting
            await self._cancel()

    async def _submit(self) -> HPCError | None:
        """Submit; why there is no id, if there is none."""
        script = self.plan.directory / SCRIPT
        try:
            self._array = await self._client.submit(self._submission, self.plan.spec, script)
        except HPCError as error:
            if not isinstance(error, SubmitRejected):  # it may have been taken all the same
                with contextlib.suppress(HPCError):
                    listing = await self._client.query({self._submission.name: None})
                    self._array = listing.names.get(self._submission.name, "")
            return error
        return None

    def _write(self) -> None:
        plan = self.plan
        (plan.directory / LOGS).mkdir(mode=0o700)
        for name, content in (
            (PROBE, build()),
            (SCRIPT, job_script(plan.spec, self._driver).encode()),
        ):
            path = plan.directory / name
            path.touch(mode=0o600)
            path.write_bytes(content)
        told = {
            "tls": plan.files,
            "directories": dict(plan.directories),
            "query": dict(plan.query),
            "patience": _OTHERS + 2 * _MEASURING,
        }
        entry.write(plan.directory / entry.PLAN, told)

    def _outcome(self, waited: float, refused: HPCError | None = None) -> Outcome:
        return Outcome(
            directory=str(self.plan.directory),
            program=self.plan.spec.command[0],
            expected=self.plan.probes,
            refused=refused,
            statuses=list(self._statuses.values()),
            waited=waited,
            reports=self._reports,
            logs=self._logs(),
        )

    def _logs(self) -> list[str]:
        paths = sorted((self.plan.directory / LOGS).glob("*"))
        return [path.read_text(encoding="utf-8", errors="replace")[-20000:] for path in paths]

    # -- waiting ----------------------------------------------------------------------------------

    async def _reported(self, started: float) -> None:
        """Wait until all have reported, or until that can be hoped for no longer."""
        deadline, submitted = started + self.plan.wait, time.monotonic()
        interval, query, ended = backoff.MIN_POLL, submitted, 0.0
        while time.monotonic() < deadline and len(self._reports) < self.plan.probes:
            if self._look():
                deadline = time.monotonic() + _OTHERS
            if time.monotonic() >= query:
                before = dict(self._statuses)
                hopeless = await self._ask()
                now = time.monotonic()
                interval = backoff.next_poll(interval, changed=self._statuses != before)
                query, ended = now + interval, (ended or now) if hopeless else 0.0
            if ended and time.monotonic() - ended > _SETTLE:
                return
            await asyncio.sleep(self._pause(time.monotonic() - submitted))

    def _pause(self, passed: float) -> float:
        """Seconds until the next look, so many after the submission."""
        live = [each.state for each in self._statuses.values() if each.state.live]
        waits = bool(live) and all(state.waiting for state in live) and not self._reports
        return _LOOK_WAITING if waits and passed > _AT_ONCE else _LOOK

    def _look(self) -> bool:
        """Read reports that have come since the last look; whether there are any."""
        now, new = time.time(), False
        for path in self.plan.directory.glob(entry.REPORT.format("*")):
            with contextlib.suppress(OSError, ValueError):
                report = json.loads(path.read_text(encoding="utf-8"))
                if report["name"] not in self._reports:
                    new = True
                    self._reports[report["name"]] = report
                    self._seen[report["name"]] = (self._last_look, time.time())
                    self._say(f"{report['host']} has reported")
        self._last_look = now
        return new

    async def _ask(self) -> bool:
        """Ask for the jobs; whether none of them can report any more."""
        array = self._array
        try:
            listing = await self._client.query({self._submission.name: array})
        except BatchSystemUnavailable as error:
            self._tell(error.args[0])
            return False
        mine = [JobId(array, index) for index in self._submission.indices]
        now = {job: listing.jobs[job] for job in mine if job in listing.jobs}
        if not now and self._statuses:  # ended, and not listed any more
            ends = (await self._client.history([array])).jobs
            self._statuses |= {job: ends[job] for job in mine if job in ends}
            for job, status in self._statuses.items():
                if status.state.live:
                    self._statuses[job] = JobStatus(JobState.GONE)
            return True
        self._statuses |= now
        waiting = [status for status in now.values() if status.state.waiting]
        if waiting and not waiting[0].reason and self._client.tells_why:
            why = await self._client.why(array)
            status = JobStatus(waiting[0].state, why.reason, impossible=why.impossible)
            self._statuses |= {job: status for job, each in now.items() if each.state.waiting}
        self._tell(self._line())
        return bool(now) and all(
            not each.state.live or each.impossible or each.state is JobState.HELD
            for each in self._statuses.values()
        )

    def _line(self) -> str:
        words = {
            f"{s.state}{f' ({s.reason})' if s.reason else ''}" for s in self._statuses.values()
        }
        return f"jobs: {', '.join(sorted(words)) or 'not listed yet'}"

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)

    # -- measuring --------------------------------------------------------------------------------

    def _measure(self, result: Result) -> None:
        """Let the probes measure, then measure from here; blocks."""
        plan = self.plan
        result.clocks = {
            name: clock_bounds(report, self._seen[name]) for name, report in self._reports.items()
        }
        parties = [each for each in self._reports.values() if each.get("port")]
        if not parties:
            return
        self._say("measuring routes")
        server = wire.Server(plan.files, plan.directory)
        try:
            here = {"name": LOGIN, "interfaces": self._login["interfaces"], "port": server.port}
            told = [{key: each[key] for key in here} for each in (here, *parties)]
            entry.write(plan.directory / entry.GO, {"parties": told})
            result.routes += self._others([each["name"] for each in parties])
            mine = routes.measure(plan.files, LOGIN, routes.targets(told, LOGIN))
            result.routes += mine
            for route in mine:
                if "error" not in route and route["target"] not in result.delays:
                    port = self._reports[route["target"]]["port"]
                    with contextlib.suppress(OSError, ValueError):
                        result.delays[route["target"]] = self._delay(route["address"], port)
        finally:
            server.close()

    def _others(self, names: list[str]) -> list[dict[str, Any]]:
        """What the probes have measured; those that do not write in time are left out."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + _MEASURING
        for name in names:
            path = self.plan.directory / entry.ROUTES.format(name)
            while not path.exists() and time.monotonic() < deadline:
                if self._over.wait(_LOOK):
                    return found
            if path.exists():
                found += json.loads(path.read_text(encoding="utf-8"))["routes"]
        return found

    def _delay(self, address: str, port: int) -> tuple[float | None, float | None]:
        """Seconds until the other side sees a new file of ours; until we see one of its."""
        ours, theirs = f"ours-{port}", f"theirs-{port}"
        with contextlib.closing(wire.Caller(self.plan.files, address, port)) as caller:
            caller.ask(do="watch", name=ours)  # a miss is cached too
            (self.plan.directory / theirs).exists()
            (self.plan.directory / ours).touch(mode=0o600)
            there = caller.ask(do="await", name=ours)["seconds"]
            caller.ask(do="create", name=theirs)
            back = wire.await_file(self.plan.directory / theirs)
        return there, back

    async def _cancel(self) -> None:
        array = self._array
        if not array:
            return
        jobs = [JobId(array, index) for index in self._submission.indices]
        try:
            await self._client.cancel(jobs, {array: self.plan.jobs})
        except BatchSystemError as error:
            self._say(f"job {array} may be left in the queue: {error.args[0]}")
