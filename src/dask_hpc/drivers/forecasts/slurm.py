"""Slurm's forecasts, by ``sbatch --test-only``: it answers for one job, and submits none.

Sources: sbatch(1), sinfo(1) of 22.05, and what they printed.  The answer takes running jobs and
their walltimes into account; to it Slurm adds the work of the jobs that wait before ours, spread
over the partition, and never that ours could be squeezed in before them: with a long queue it
says later than it will be.  Limits of partitions are not looked at (see :mod:`..queues.slurm`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dask_hpc.drivers import slurm_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.forecasts.rooms import Room, failed, fitting
from dask_hpc.drivers.script import all_directives, split
from dask_hpc.model.forecast import Forecast, starts

_MIB = 1 << 20
_FIELDS = "NodeHost:40,Partition:30,StateCompact:14,CPUsState:20,Memory:14,AllocMem:14"
_ANSWER = re.compile(r"Job \d+ to start at (\S+) using \d+ processors")
_HAS_ROOM = ("idle", "mix")
#: Seconds: a start this near is now, give or take what the commands take.
_NOW = 20.0


def ask(question: Question, heard: Sequence[Output], now: float) -> Command | None:
    """All jobs together; if they would wait, one alone; if that would not, what is free.

    An array's first job starts when one alone would, its last no later than all together could.
    """
    together = _together(question)
    steps = [_alone(question)] if together is None else [together, _alone(question)]
    if len(heard) < len(steps):
        at_once = bool(heard) and _soon(heard[0], now)
        return None if at_once else steps[len(heard)]
    if len(heard) == len(steps) and question.jobs > 1 and _soon(heard[-1], now):
        options = ("--noheader", "--all", "--Node", f"--Format={_FIELDS}")
        return Command(("sinfo", *options), ("SINFO_*",))
    return None


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
    early = 1
    if heard[-1].command.argv[0] == "sinfo":
        rooms = _rooms(heard[-1].stdout, question.spec.queue)
        early = max(1, fitting(rooms, question.spec))
    last = _begins(tests[0]) if len(tests) > 1 else None
    if last is None:
        return Forecast(starts=starts((min(early, question.jobs), wait)), said=said)
    early = min(early, question.jobs - 1)
    rest = (question.jobs - early, max(wait, last - now))
    return Forecast(starts=starts((early, wait), rest), said=said)


def _alone(question: Question) -> Command:
    return _test(all_directives(question.spec, question.driver))


def _together(question: Question) -> Command | None:
    """All jobs as one with a task for each; None where that says something else."""
    spec, jobs = question.spec, question.jobs
    if jobs == 1 or "job_mem" in spec.options:  # as the user wrote it, for a node
        return None
    lines = all_directives(spec, question.driver)
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


def _rooms(text: str, queue: str | None) -> list[Room]:
    """Nodes with free cores of a partition; without a name, of the one with an asterisk."""
    rooms = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != _FIELDS.count(",") + 1:
            continue
        _, partition, state, cores, memory, taken = fields
        mine = partition.removesuffix("*") == queue if queue else partition.endswith("*")
        counts = cores.split("/")  # allocated, idle, other, all
        if mine and state in _HAS_ROOM and all(map(str.isdecimal, (*counts, memory, taken))):
            rooms.append(Room(int(counts[1]), (int(memory) - int(taken)) * _MIB))
    return rooms
