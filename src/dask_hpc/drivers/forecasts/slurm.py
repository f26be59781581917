"""Slurm's forecasts, by ``sbatch --test-only``: it answers for one job, and submits none.

Sources: sbatch(1), sinfo(1), squeue(1) of 22.05, and what they printed.  The answer goes by the
jobs that run and their walltimes.  Where others wait, Slurm adds their work, spread over the
partition, and never that ours would be squeezed in before them; so that is looked at here, by the
free cores and by when those that wait are planned.  Limits of partitions are not looked at (see
:mod:`..queues.slurm`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dask_hpc.drivers import slurm_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, fitting
from dask_hpc.drivers.script import split
from dask_hpc.model.forecast import Forecast, starts
from dask_hpc.model.job import JobSpec

_MIB = 1 << 20
_FIELDS = "NodeHost:40,Partition:30,StateCompact:14,CPUsState:20,Memory:14,AllocMem:14"
_ANSWER = re.compile(r"Job \d+ to start at (\S+) using \d+ processors")
_FREE = Command(("sinfo", "--noheader", "--all", "--Node", f"--Format={_FIELDS}"), ("SINFO_*",))
_PLANNED = Command(
    ("squeue", "--noheader", "--all", "--states=PENDING", "--format=%P|%S"), words.UNSET
)
_HAS_ROOM = ("idle", "mix")
#: Seconds: a start this near is now, give or take what the commands take.
_NOW = 20.0


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:
    """All jobs together; if they would wait, one alone; then what is free, and until when.

    An array's first job starts when one alone would, its last no later than all together could.
    """
    together = _together(question)
    tests = [_alone(question)] if together is None else [together, _alone(question)]
    if len(heard) < len(tests):
        return None if heard and _soon(heard[0], now) else tests[len(heard)]
    alone, more = heard[len(tests) - 1], heard[len(tests) :]
    if _begins(alone) is None:
        return None
    if _soon(alone, now):
        return _FREE if question.jobs > 1 and not more and _is_plain(question.spec) else None
    if not more:
        return _FREE if _is_plain(question.spec) and question.spec.walltime else None
    room = fitting(_rooms(more[0].stdout, question.spec.queue), question.spec)
    return _PLANNED if room and len(more) == 1 else None


def read(question: Question, heard: Sequence[Output], now: float) -> Forecast:
    """See :class:`~dask_hpc.drivers.forecasts.Forecaster`."""
    tests = [output for output in heard if output.command.argv[0] == "sbatch"]
    if not tests or question.driver.is_transient(tests[-1]):
        return failed(tests) or Forecast()
    first = _begins(tests[-1])
    if first is None:  # one alone: all together may be refused where one is not
        refused, _ = words.refusal(tests[-1].text)
        return Forecast(refused=refused) if tests[-1].returncode else Forecast(said=refused)
    wait, said = first - now, "sbatch --test-only"
    if len(tests) == 1 and _together(question) is not None:
        return Forecast(starts=starts((question.jobs, wait)), said=said)
    text = {output.command.argv[0]: output.stdout for output in heard}
    last = _begins(tests[0]) if len(tests) > 1 else None
    most = question.jobs if last is None else question.jobs - 1  # all together would wait: one does
    early = 1
    if "squeue" in text:
        squeezed = _before_others(question.spec, text["sinfo"], text["squeue"], now)
        if squeezed:
            early, most, wait = squeezed, question.jobs, 0.0
            said = "free cores, before what is planned"
    elif "sinfo" in text and _soon(tests[-1], now):
        early = max(1, fitting(_rooms(text["sinfo"], question.spec.queue), question.spec))
    early = min(early, most)
    rest = [] if last is None else [(question.jobs - early, max(wait, last - now))]
    return Forecast(starts=starts((early, wait), *rest), said=said)


def _is_plain(spec: JobSpec) -> bool:
    """Whether free cores and memory tell that it fits."""
    return not (spec.gpus or spec.directives or spec.options)


def _before_others(spec: JobSpec, nodes: str, planned: str, now: float) -> int:
    """Jobs that fit in before the first job that waits is planned to start, on any such node.

    None do where no start is planned: then it is something else that ours would wait for.
    """
    ours = {host for host, partition in _places(nodes) if _is_ours(partition, spec.queue)}
    beside = {partition.removesuffix("*") for host, partition in _places(nodes) if host in ours}
    instants = [
        instant
        for partitions, _, start in (line.partition("|") for line in planned.splitlines())
        if beside & set(partitions.split(",")) and (instant := words.instant(start)) is not None
    ]
    if not instants or min(instants) < now + (spec.walltime or 0):
        return 0
    return fitting(_rooms(nodes, spec.queue), spec)


def _alone(question: Question) -> Command:
    return _test(question.directives("--signal"))


def _together(question: Question) -> Command | None:
    """All jobs as one with a task for each; None where that says something else."""
    spec, jobs = question.spec, question.jobs
    if jobs == 1 or "job_mem" in spec.options:  # as the user wrote it, for a node
        return None
    lines = question.directives("--signal")
    if spec.nodes > 1:
        nodes = f"--nodes={jobs * spec.nodes}"
        return _test([nodes if line.startswith("--nodes=") else line for line in lines])
    found = [f"--ntasks={jobs}"]
    for line in lines:
        option, _, value = line.partition("=")
        if option == "--mem" and spec.memory is not None:
            share = -(-spec.memory // (spec.cores * _MIB))
            found.append(f"--mem-per-cpu={share}M")
        elif option == "--gres" and value == f"gpu:{spec.gpus}":
            found.append(f"--gpus-per-task={spec.gpus}")
        elif option not in ("--nodes", "--ntasks-per-node"):
            found.append(line)
    return _test(found)


def _test(lines: Sequence[str]) -> Command:
    options = [word for line in lines for word in split(line)]
    argv = ("sbatch", "--test-only", *options, "--wrap=true")
    return Command(argv, (*words.UNSET, *words.OUTER_JOB))


def _begins(output: Output) -> float | None:
    """Seconds since the epoch; None where it does not say."""
    match = _ANSWER.search(output.text) if output.returncode == 0 else None
    return words.instant(match[1]) if match else None


def _soon(output: Output, now: float) -> bool:
    begins = _begins(output)
    return begins is not None and begins - now <= _NOW


def _rows(text: str) -> list[list[str]]:
    rows = [line.split() for line in text.splitlines()]
    return [row for row in rows if len(row) == _FIELDS.count(",") + 1]


def _places(text: str) -> list[tuple[str, str]]:
    """Nodes and the partitions they are in."""
    return [(row[0], row[1]) for row in _rows(text)]


def _is_ours(partition: str, queue: str | None) -> bool:
    """Whether a job goes there: without a name, to the one with an asterisk."""
    return partition.removesuffix("*") == queue if queue else partition.endswith("*")


def _rooms(text: str, queue: str | None) -> list[Room]:
    """What nodes of a partition have free."""
    rooms = []
    for _, partition, state, cores, memory, taken in _rows(text):
        counts = cores.split("/")  # allocated, idle, other, all
        known = all(map(str.isdecimal, (*counts, memory, taken))) and len(counts) > 1
        if known and _is_ours(partition, queue) and state in _HAS_ROOM:
            rooms.append(Room(int(counts[1]), (int(memory) - int(taken)) * _MIB))
    return rooms
