"""Grid Engine's forecasts: a dry run with what is in use (``qsub -w p``), and free slots.

Sources: qsub(1), qstat(1), queue_conf(5) of Son of Grid Engine 8.1.9, and what they printed.  It
says whether a job would start now and whether it ever could, not when: of later starts nothing
is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dask_hpc.drivers import sge_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, fitting
from dask_hpc.drivers.queues.words import seconds
from dask_hpc.drivers.script import split
from dask_hpc.drivers.sge_reading import verdict
from dask_hpc.model.forecast import Forecast, starts
from dask_hpc.model.job import JobSpec

_HIDE = (*words.UNSET, *words.OUTER_JOB)
_FOUND, _NONE = "found suitable queue", "no suitable queues"
#: Nobody's jobs, or all of a busy machine's are listed too.
_FREE = Command(("qstat", "-F", "slots,h_rt,s_rt", "-u", "dask-hpc-nobody"), _HIDE)
#: A queue on a host: type, reserved, used and all slots, load, architecture, states.
_INSTANCE = re.compile(r"^(\S+)@(\S+)\s+\S+\s+(\d+)/(\d+)/(\d+)\s+\S+\s+\S+[ \t]*(\S*)\s*$")
_VALUE = re.compile(r"^\t\w+:(\w+)=(\S+)")


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:  # noqa: ARG001
    """Whether one job would start now; then how many, or else whether one ever could."""
    if not heard:
        return _try(question, "p")
    if len(heard) > 1 or question.driver.is_transient(heard[0]):
        return None
    if _FOUND in heard[0].text:
        return _FREE if question.jobs > 1 else None
    return _try(question, "v")


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:  # noqa: ARG001
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    if not heard or question.driver.is_transient(heard[-1]):
        return failed(heard) or Forecast()
    if _FOUND in heard[0].text:
        free = heard[1].stdout if len(heard) > 1 else ""
        jobs = max(1, fitting(_rooms(free, question.spec), question.spec))
        return Forecast(
            starts=starts((min(jobs, question.jobs), 0.0)), said="qsub -w p, free slots"
        )
    ever = heard[-1]
    if _FOUND in ever.text:
        return Forecast(said="qsub -w p: not now")
    if _NONE in ever.text or ever.returncode:
        return Forecast(refused=verdict(ever.text).reason or ever.text.partition("\n")[0])
    return Forecast(said=ever.text.partition("\n")[0])


def _try(question: Question, how: str) -> Command:
    options = [word for line in question.directives("-notify") for word in split(line)]
    return Command(("qsub", "-w", how, *options, "-b", "y", "/bin/true"), _HIDE)


def _rooms(text: str, spec: JobSpec) -> list[Room]:
    """The most free slots of a queue instance on each host; those of one host are the same ones."""
    hosts: dict[str, int] = {}
    instances: list[dict[str, str]] = []
    for line in text.splitlines():
        if match := _INSTANCE.match(line):
            names = ("queue", "host", "reserved", "used", "all", "states")
            instances.append(dict(zip(names, match.groups(), strict=True)))
        elif instances and (match := _VALUE.match(line)):
            instances[-1][match[1]] = match[2]
    for each in instances:
        limits = [seconds(each.get(kind, "")) for kind in ("h_rt", "s_rt")]
        short = any(limit is not None and limit < (spec.walltime or 0) for limit in limits)
        if each["states"] or short or spec.queue not in (None, each["queue"]):
            continue
        free = int(each["all"]) - int(each["used"]) - int(each["reserved"])
        left = each.get("slots", "").partition(".")[0]
        free = min(free, int(left)) if left.isdecimal() else free
        hosts[each["host"]] = max(free, hosts.get(each["host"], 0))
    return [Room(free) for free in hosts.values()]
