"""Shapes in, candidates out; queue limits before any question; few questions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster.options import resolve
from dask_hpc.cluster.planning import MOST, Candidates, candidates, settled, with_first
from dask_hpc.cluster.request import Request
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import BatchSystemUnavailable, ConfigurationError
from dask_hpc.model.forecast import Forecast, Start
from dask_hpc.model.job import JobSpec
from dask_hpc.model.queue import Queue
from dask_hpc.site import foresee
from dask_hpc.site.discover import Offer

GIB = 1 << 30


def shapes_of(
    keywords: dict[str, Any], *shapes: dict[str, Any], batch: str = "slurm"
) -> Candidates:
    given, others = with_first(keywords, shapes)
    options = resolve(given, (), driver(batch))
    return candidates(Request(driver(batch), options, "dask"), others)


# -- shapes ---------------------------------------------------------------------------------------


def test_a_shape_changes_what_it_says_and_the_rest_in_proportion() -> None:
    """Workers have the same threads and the same memory; jobs have fewer of them."""
    found = shapes_of(
        {"cores": 16, "memory": "64 GiB", "walltime": "4 h", "queue": "main", "account": "lab"},
        {"cores": 4, "walltime": "30 min"},
        {"cores": 8, "memory": "16 GiB", "queue": "short", "account": "other"},
    )
    own, small, other = found.options
    assert (own.layout.workers, own.layout.threads) == (4, 4)
    assert (small.cores, small.memory, small.walltime) == (4, 16 * GIB, 1800)
    assert (small.queue, small.account) == ("main", "lab")
    assert small.layout.memory == own.layout.memory
    assert (small.layout.workers, small.layout.threads) == (1, 4)
    assert (other.memory, other.queue, other.account) == (16 * GIB, "short", "other")
    assert (other.layout.workers, other.layout.threads) == (2, 4)


def test_workers_are_as_large_as_every_shape_can_fill() -> None:
    """8 cores would have workers of four threads, where a shape of 2 cores has none such."""
    found = shapes_of({"cores": 8}, {"cores": 2}, {"cores": 6})
    assert [options.layout.threads for options in found.options] == [2, 2, 2]
    assert [options.layout.workers for options in found.options] == [4, 1, 3]


def test_processes_that_the_user_asks_for_are_kept() -> None:
    """And what does not divide by them is a mistake."""
    found = shapes_of({"cores": 9, "processes": 2}, {"cores": 4}, {"walltime": "1 h"})
    assert [options.layout.workers for options in found.options] == [2, 1, 2]
    assert [options.layout.threads for options in found.options] == [4, 4, 4]
    with pytest.raises(
        ConfigurationError, match="6 cores do not divide among workers of 4 threads"
    ):
        shapes_of({"cores": 16, "processes": 4}, {"cores": 6})


def test_a_gpu_keeps_its_worker() -> None:
    """One worker for each GPU, whatever the cores."""
    found = shapes_of({"cores": 16, "gpus": 2}, {"cores": 8})
    assert [options.layout.workers for options in found.options] == [2, 2]


def test_without_cores_the_first_shape_is_the_clusters_own() -> None:
    """Shapes alone are enough; a shape that is there twice is one."""
    found = shapes_of(
        {"memory": "8 GiB"}, {"cores": 8, "walltime": "1 h"}, {"cores": 4}, {"walltime": "60 min"}
    )
    assert [options.cores for options in found.options] == [8, 4]
    assert [options.memory for options in found.options] == [8 * GIB, 4 * GIB]
    assert [options.walltime for options in found.options] == [3600, 3600]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([{"cores": 4, "wall": "1 h"}], "a shape has no wall="),
        ([{"gpus": 4}], "a shape has no gpus="),
        ([{"cores": 0}], "cores= must be a whole number"),
        ([{"walltime": "soon"}], "not a walltime"),
        ([{"memory": "much"}], "not an amount of memory"),
        ([{"cores": 4}] * (MOST + 1), "9 shapes are too many"),
        ({"cores": 4}, "must be a list of shapes"),
        (["cores=4"], "must be a list of shapes"),
    ],
)
def test_a_senseless_shape_is_refused(shapes: Any, words: str) -> None:
    """Before anything is asked."""
    request = Request(driver("slurm"), resolve({"cores": 16}, (), driver("slurm")), "dask")
    with pytest.raises(ConfigurationError, match=words):
        candidates(request, with_first({"cores": 16}, shapes)[1])


@pytest.mark.parametrize("batch", ["slurm", "pbs", "lsf"])
def test_the_chosen_shape_can_be_asked_for_by_itself(batch: str) -> None:
    """As the next head of the cluster does: in JSON, and to the last option."""
    keywords = {"cores": 8, "memory": "16 GiB", "walltime": "90 min", "nanny": True}
    found = shapes_of({**keywords, "queue": "main"}, {"cores": 2, "walltime": "1:30"}, batch=batch)
    for options in found.options:
        words = settled({**keywords, "shapes": [{"cores": 2}]}, options)
        assert "shapes" not in words
        assert resolve(json.loads(json.dumps(words)), (), driver(batch)) == options


def test_a_clock_of_two_parts_is_what_the_batch_system_takes_it_for() -> None:
    """LSF's 1:30 is an hour and a half, in a shape too."""
    own, lsf = shapes_of({"cores": 4}, {"walltime": "1:30"}, batch="lsf").options
    assert own.walltime is None
    assert lsf.walltime == 5400


def test_what_a_batch_system_has_not_is_refused_in_a_shape_too() -> None:
    """HTCondor has no queues: nothing is asked."""
    found = shapes_of({"cores": 4}, {"queue": "short"}, batch="htcondor")
    with pytest.raises(ConfigurationError, match="HTCondor has no queues"):
        asyncio.run(found.plan(1))


# -- limits of queues -----------------------------------------------------------------------------


def spec(**asked: Any) -> JobSpec:
    return JobSpec(command=("true",), log_directory=Path("/l"), **{"cores": 4, **asked})


@pytest.mark.parametrize(
    ("queue", "asked", "refused", "said"),
    [
        ({"max_walltime": 300}, {"walltime": 301}, "queue q allows 00:05:00", ""),
        ({"takes_jobs": False}, {}, "queue q takes no jobs", ""),
        ({"cores": 2}, {}, "queue q has no node of 4 cores", ""),
        ({"max_nodes": 1}, {"nodes": 2}, "queue q allows 1 nodes", ""),
        ({"starts_jobs": False}, {}, "", "queue q starts no jobs now"),
    ],
)
def test_limits_of_a_queue_are_looked_at(
    queue: dict[str, Any], asked: dict[str, Any], refused: str, said: str
) -> None:
    """Slurm's own forecast does not (see the recording: an hour in a queue of five minutes)."""
    offer = Offer((Queue(name="other"), Queue(name="q", **queue)))
    assert foresee.limits(offer, spec(queue="q", **asked)) == Forecast(refused=refused, said=said)


def test_what_is_within_the_limits_is_asked_about() -> None:
    """As is what no queue is known of, or goes to one that hands its jobs on."""
    offer = Offer((Queue(name="q", max_walltime=300, cores=4, max_nodes=1, default=True),))
    assert foresee.limits(offer, spec(walltime=300)) is None
    assert foresee.limits(offer, spec(queue="unheard-of", walltime=9999)) is None
    assert foresee.limits(Offer((Queue(name="r", routes=True, cores=0),)), spec(queue="r")) is None


# -- questions ------------------------------------------------------------------------------------


class Batch:
    """Answers commands, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Output | Exception) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._answer = answer
        monkeypatch.setattr("dask_hpc.batch.runner.run", self.run)

    async def run(self, command: Command, **_: Any) -> Output:
        self.asked.append(command.argv)
        if isinstance(self._answer, Exception):
            raise self._answer
        return Output(command, self._answer.returncode, self._answer.stdout, self._answer.stderr)


def output(returncode: int, stdout: str, stderr: str = "") -> Output:
    return Output(Command(("true",)), returncode, stdout, stderr)


def foreseen(*questions: Question) -> list[Forecast]:
    return asyncio.run(foresee.foresee(questions))


def test_the_same_question_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free is the same for all shapes."""
    batch = Batch(monkeypatch, output(0, "n1\t16\t16000\t0\tx\ty\n"))
    monkeypatch.setattr("dask_hpc.drivers.queues.reader", lambda _: None)
    condor = driver("htcondor")
    foreseen(*(Question(condor, spec(cores=cores), 3) for cores in (1, 2, 4, 8)))
    assert [argv[0] for argv in batch.asked] == ["condor_status"]


@pytest.mark.parametrize(
    "answer",
    [
        output(1, "", "sbatch: error: Unable to contact slurm controller (connect failure)"),
        BatchSystemUnavailable("`sbatch` did not end within 20 s"),
    ],
)
def test_a_batch_system_that_does_not_answer_is_asked_no_further(
    monkeypatch: pytest.MonkeyPatch, answer: Output | Exception
) -> None:
    """Eight shapes of twenty seconds each would be a cluster that does not start."""
    monkeypatch.setattr("dask_hpc.drivers.queues.reader", lambda _: None)
    batch = Batch(monkeypatch, answer)
    found = foreseen(*(Question(driver("slurm"), spec(cores=cores), 3) for cores in (1, 2, 4, 8)))
    assert len(batch.asked) == 1
    assert all(each.first is None and not each.refused for each in found)
    assert len({each.said for each in found}) == 1
    assert "sbatch" in found[0].said


def test_a_batch_system_that_cannot_be_asked_says_so() -> None:
    """DRMAA has no call for it."""
    found = foreseen(Question(driver("drmaa"), spec(), 1))
    assert found == [Forecast(said="drmaa cannot be asked")]


def test_the_plan_asks_about_whole_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five workers one in each small job, four in a large one; two of the latter."""
    seen: list[Question] = []

    async def told(questions: list[Question]) -> list[Forecast]:
        seen.extend(questions)
        return [Forecast(starts=(Start(each.jobs, 0.0),)) for each in questions]

    monkeypatch.setattr("dask_hpc.cluster.planning.foresee", told)
    found = shapes_of({"cores": 16, "walltime": "1 h"}, {"cores": 4, "walltime": "59 min"})
    options, plan = asyncio.run(found.choose(5))
    assert [(each.jobs, each.spec.cores) for each in seen] == [(2, 16), (5, 4)]
    assert options is found.options[0]
    assert (plan.workers, plan.chosen) == (5, 0)
    asyncio.run(found.choose(0))
    assert [each.jobs for each in seen[2:]] == [1, 4]  # as many as one of the largest has
