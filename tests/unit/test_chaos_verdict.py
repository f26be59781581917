"""The account of the chaos tests is right: it is what says that nothing was lost."""

from __future__ import annotations

from typing import Any

from tests.site.chaos import verdict
from tests.site.chaos.plan import Blow, draw

KILL = Blow(kind="worker", time=100.0, victims=("c-ab-0",), lasts=20)


def told(**more: Any) -> dict[str, Any]:
    return {"lost": [], "rerun": {}, **more}


def lost(worker: str, when: float, *keys: str) -> dict[str, Any]:
    return {"worker": worker, "time": when, "computed": list(keys), "scattered": []}


def test_a_plan_is_its_seed() -> None:
    """Each kind as often as named, in order of time, within the bounds; another seed, another."""
    kinds = ["a", "b", "c", "c"]
    plan = draw(1, kinds, 10, 50)
    assert sorted(fault.kind for fault in plan) == kinds
    assert [fault.at for fault in plan] == sorted(fault.at for fault in plan)
    assert all(10 <= fault.at <= 50 for fault in plan)
    assert plan == draw(1, kinds, 10, 50)
    assert plan != draw(2, kinds, 10, 50)


def test_a_blow_hits_the_workers_of_its_jobs_alone() -> None:
    """Job 1 is not job 10; nodes of a job follow a dot."""
    assert KILL.hit("c-ab-0-1")
    assert KILL.hit("c-ab-0.1-0")
    assert not KILL.hit("c-ab-01-0")
    assert not KILL.hit("c-cd-0-0")


def test_a_rerun_on_a_victim_is_its_faults() -> None:
    """It was running when its worker was killed; one that ran elsewhere is nobody's fault."""
    runs = {
        "killed": [["c-ab-0-0", 99.0], ["c-ab-1-0", 101.0]],
        "elsewhere": [["c-ab-1-0", 99.0], ["c-ab-2-0", 101.0]],
        "long before": [["c-ab-0-0", 40.0], ["c-ab-1-0", 60.0]],
    }
    causes = {loss.key: loss.cause for loss in verdict.rerun(told(rerun=runs), [KILL])}
    assert causes == {"killed": "worker", "elsewhere": None, "long before": None}


def test_a_rerun_of_what_a_victim_held_is_its_faults() -> None:
    """Its result had been handed to the worker that was killed later."""
    runs = {"held": [["c-ab-1-0", 50.0], ["c-ab-2-0", 102.0]]}
    events = [lost("c-ab-0-1", 101.0, "held")]
    [loss] = verdict.rerun(told(rerun=runs, lost=events), [KILL])
    assert loss.cause == "worker"
    [loss] = verdict.rerun(told(rerun=runs, lost=[lost("c-ab-3-1", 101.0, "held")]), [KILL])
    assert loss.cause is None


def test_losses_without_a_fault_are_told_apart() -> None:
    """What a worker took along that nothing had hit is on us."""
    events = [lost("c-ab-0-1", 101.0, "x", "y"), lost("c-ab-5-1", 101.0, "z")]
    losses = verdict.results(told(lost=events), [KILL])
    assert verdict.by_cause(losses) == {"computed, worker": 2, "computed, NO FAULT": 1}


def test_a_job_that_was_told_to_go_may_have_its_successor() -> None:
    """One more than wanted is one too many, unless it is on its way out."""
    gone = Blow(kind="cancel", time=100.0, victims=("c-ab-0",), graceful=True)
    young = [(105.0, ["c-ab-0", "c-ab-1", "c-ab-2"])]
    assert verdict.too_many(young, [gone], 2) == []
    assert verdict.too_many(young, [KILL], 2) == young
    assert verdict.too_many(young, [gone], 1) == [(105.0, ["c-ab-1", "c-ab-2"])]


def test_capacity_is_of_those_that_take_tasks() -> None:
    """Workers that are there and leave are none."""
    samples = [(0, 8, 8), (1, 6, 8), (2, 8, 10), (3, 8, 8)]
    found = verdict.capacity({"samples": samples, "seconds": 4.0}, 8)
    assert found == {"least": 0.75, "mean": 30 / 32, "seconds under 90 %": 1.0}


def test_generations_count_jobs_not_workers() -> None:
    """Two workers of one job are one job."""
    assert verdict.generations(["c-ab-0-0", "c-ab-0-1", "c-ab-1-0", "c-cd-0-0"], 2) == 1.5
