"""The doctor's visit: what is looked at, in which order, with the user's configuration.

What one check means is :mod:`dask_hpc.site.doctor`'s business, how it is shown the command line's.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dask_hpc.batch import detect
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.pools import pool_for
from dask_hpc.cluster.request import Request, batch_of, understand
from dask_hpc.cluster.security import ensure_identity, home, private_directory
from dask_hpc.drivers.base import Driver, Output
from dask_hpc.drivers.registry import FALLBACK
from dask_hpc.drivers.script import NODE, WORKER_PREFIX
from dask_hpc.errors import ConfigurationError, HPCError
from dask_hpc.launch.launchers import launch
from dask_hpc.model.job_environment import BY_BATCH
from dask_hpc.model.queue import Queue
from dask_hpc.site.discover import Offer, discover
from dask_hpc.site.doctor import checks_between, checks_job, checks_node, checks_site
from dask_hpc.site.doctor.asked import Asked
from dask_hpc.site.doctor.checks_between import LOGIN
from dask_hpc.site.doctor.finding import Finding, problem
from dask_hpc.site.doctor.probe import disks, machine
from dask_hpc.site.doctor.trial import PROBE, SCRIPT, Plan, Result, Say, Trial

#: Seconds of walltime of a trial job; the probe ends by itself long before.
_WALLTIME = 600
#: What a trial asks for where nothing is configured.
_LEAST = {"cores": 1, "walltime": "10 min"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the user wants to know.

    Parameters
    ----------
    keywords
        Of :class:`dask_hpc.HPCCluster`.
    site, batch
        Names of the machine and of the batch system; None for those of this machine.
    job
        Whether to look inside jobs.
    nodes
        On so many nodes; None for two, if there are two.
    wait
        Seconds for the jobs to start.
    """

    keywords: Mapping[str, Any] = field(default_factory=dict)
    site: str | None = None
    batch: str | None = None
    job: bool = False
    nodes: int | None = None
    wait: float = 600.0


@dataclass(slots=True)
class Diagnosis:
    """What was found.

    Parameters
    ----------
    batch
        Name of the batch system.
    asked
        What jobs are configured to ask for.
    offer
        Queues.
    findings
        In the order in which they were made.
    reports
        Of each machine, by name.
    result
        Of the trial jobs; None without them.
    """

    batch: str
    asked: Asked
    offer: Offer
    findings: list[Finding]
    reports: dict[str, Mapping[str, Any]]
    result: Result | None = None


async def examine(visit: Visit, say: Say) -> Diagnosis:
    """Look at everything.

    Parameters
    ----------
    visit
        What to look at.
    say
        Told how it goes, a line at a time.

    Raises
    ------
    ConfigurationError
        If what is configured can never work as written.
    """
    request = _understood(visit)
    name, options = request.driver.name, request.options
    say(f"asking {name}")
    asked = _asked(name, options)
    why = batch_of(visit.batch, visit.site).why
    started = time.monotonic()
    server = await asyncio.to_thread(detect.server, name)
    took = time.monotonic() - started
    answers = server == "answers" or name == FALLBACK
    offer = await discover(name) if answers else Offer()
    found = offer.find(asked.queue)
    findings = [
        checks_site.batch(name, why, server=server, seconds=took),
        *checks_site.queue(asked, offer.queues, found, offer.said),
    ]
    say("looking at this machine")
    login = await asyncio.to_thread(machine.look)
    diagnosis = Diagnosis(name, asked, offer, findings, {LOGIN: login})
    findings += _here(login, asked)
    if visit.job and answers and checks_site.usable(asked, offer.queues, found):
        await _in_jobs(visit, request, diagnosis, say)
    elif visit.job:
        say("no job is submitted: it would never start")
    return diagnosis


def _understood(visit: Visit) -> Request:
    try:
        return understand(visit.keywords, batch=visit.batch, site=visit.site)
    except ConfigurationError:
        given = {**_LEAST, **visit.keywords}  # what is not configured need not be for a trial
        return understand(given, batch=visit.batch, site=visit.site)


def _asked(batch: str, options: ClusterOptions) -> Asked:
    return Asked(
        batch=batch,
        cores=options.cores,
        memory=options.memory,
        nodes=options.nodes,
        walltime=options.walltime,
        queue=options.queue,
        interface=options.interface,
        scheduler_interface=options.scheduler_interface,
        local_directory=options.local_directory,
        scratch=options.scratch,
    )


def _here(login: dict[str, Any], asked: Asked) -> list[Finding]:
    """Judge the machine on which the scheduler would run."""
    wanted = asked.scheduler_interface or asked.interface
    findings = [
        checks_node.interface("scheduler", wanted, login),
        checks_node.limits(login),
        checks_node.import_time(login),
    ]
    try:
        directory = private_directory(home())
        ensure_identity()
    except HPCError as error:
        return [*findings, problem("identity", error.args[0], error.hint)]
    looked = disks.look(str(directory))
    login["disks"] = {"home": looked}
    for judged in (
        checks_between.login_directory(looked, str(directory)),
        checks_node.disk("home", looked, login["host"]),
    ):
        findings += [judged] if judged else []
    return findings


# -- in jobs --------------------------------------------------------------------------------------


async def _in_jobs(visit: Visit, request: Request, diagnosis: Diagnosis, say: Say) -> None:
    directory = private_directory(home() / f"doctor-{secrets.token_hex(4)}")
    queue = diagnosis.offer.find(diagnosis.asked.queue)
    login = diagnosis.reports[LOGIN]
    try:
        plan = _plan(visit, request, directory, queue)
        result = await Trial(request.driver, plan, login, say).run()
    except OSError as error:  # a full disk, a quota
        seen = f"{directory} cannot be used: {error.strerror or error}"
        advice = "free some there, or name another place: export DASK_HPC_HOME=DIR"
        diagnosis.findings.append(problem("shared directory", seen, advice))
        return
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    diagnosis.result = result
    for report in result.outcome.reports.values():
        _answered(report, request.driver)
    diagnosis.reports |= result.outcome.reports
    diagnosis.findings += judge_trial(result, diagnosis.reports, diagnosis.asked)


def _plan(visit: Visit, request: Request, directory: Path, queue: Queue | None) -> Plan:
    driver, options = request.driver, request.options
    nodes, jobs = _shape(visit, request, queue)
    walltime = min(_WALLTIME, queue.max_walltime or _WALLTIME) if queue else _WALLTIME
    trial = replace(options, nodes=nodes, walltime=walltime, gpus=0)
    name = f"doctor-{secrets.token_hex(3)}"
    pool = pool_for(
        trial,
        scheduler_file=directory,
        logs=directory / "logs",
        environment={},
        batch=driver.name,
        script=directory / SCRIPT,
    )
    words = pool.spec.command
    program = (*words[: words.index("-m")], str(directory / PROBE), str(directory), WORKER_PREFIX)
    query = driver.knock()
    return Plan(
        name=name,
        directory=directory,
        spec=replace(pool.spec, command=(*program, *([NODE] if nodes > 1 else []))),
        jobs=jobs,
        probes=nodes * jobs,
        wait=visit.wait,
        tls=ensure_identity(),
        directories=_directories(options, driver.name),
        query={
            "argv": [] if driver.name in (FALLBACK, "drmaa") else query.argv,
            "unset": query.unset,
            "variables": dict(query.variables),
        },
    )


def _shape(visit: Visit, request: Request, queue: Queue | None) -> tuple[int, int]:
    """Nodes of a job, and jobs: one job of several nodes lands on several for certain."""
    driver, options = request.driver, request.options
    count = visit.nodes or (2 if queue is None or (queue.nodes or 2) > 1 else 1)
    if driver.name == FALLBACK:
        return 1, visit.nodes or 1
    try:
        launch(driver.name, nodes=count, cores=options.cores, script=["true"])
        in_one_job = driver.name != "sge" or "parallel_environment" in options.own
    except ConfigurationError:
        in_one_job = False
    return (count, 1) if in_one_job else (1, count)


def _directories(options: ClusterOptions, batch: str) -> dict[str, str]:
    """What to look at on nodes: the one that workers must use, or all that they would look at."""
    named = {"home": str(home())}
    configured = options.local_directory or options.scratch
    if configured:
        named["scratch"] = configured
    if options.local_directory:
        return named
    row = BY_BATCH.get(batch)
    texts = [*(f"${name}" for name in (row.scratch if row else ())), "/tmp"]  # noqa: S108  (looked at)
    return named | {text: text for text in texts if text != configured}


def _answered(report: Mapping[str, Any], driver: Driver) -> None:
    """Let the driver say what an exit code means: some have one for "nothing to list"."""
    query = report.get("query") or {}
    if "code" in query:
        output = Output(driver.knock(), query["code"], "", query["text"])
        if driver.welcomed(output):
            query["code"] = 0


def judge_trial(
    result: Result, reports: Mapping[str, Mapping[str, Any]], asked: Asked
) -> list[Finding]:
    """Judge what trial jobs have seen.

    Parameters
    ----------
    result
        Of the trial.
    reports
        Of each machine by name, the login node among them.
    asked
        What is configured.
    """
    outcome, login = result.outcome, reports[LOGIN]
    findings = [*checks_job.jobs(outcome), *checks_job.prologue(outcome.logs)]
    for report in outcome.reports.values():
        findings += _node(login, report, asked)
    clocks = result.clocks | checks_between.measured_clocks(result.routes)
    findings += checks_between.clock(clocks, reports)
    tls = checks_between.tls(result.routes, reports)
    findings += [tls] if tls else []
    findings += checks_between.routes(result.routes, reports, asked)
    findings += checks_between.shared(result.delays, reports, outcome.directory)
    return findings


def _node(login: Mapping[str, Any], report: Mapping[str, Any], asked: Asked) -> list[Finding]:
    findings = [checks_node.python(login, report), checks_node.packages(login, report)]
    if "interfaces" not in report:  # a Python too old to look
        return findings
    findings += [
        checks_node.import_time(report),
        checks_node.interface("workers", asked.interface, report),
        checks_node.limits(report),
        checks_node.size(asked, report),
        *(
            judged
            for label, each in report["disks"].items()
            if (judged := checks_node.disk(label, each, report["host"]))
        ),
        checks_node.mpi(report),
        checks_node.submission_from(report),
    ]
    return findings
