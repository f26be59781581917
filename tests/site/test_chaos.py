"""A bad day: jobs of a minute that are renewed while faults of every kind hit them.

Runs as root beside the hosts, since only root may do most of it.  The computation is alice's, its
result known; what was lost is lost to a fault that gave no warning, or the test fails.
"""

from __future__ import annotations

import time

import pytest

from tests.site.beds import BED
from tests.site.chaos import verdict
from tests.site.chaos.plan import draw
from tests.site.chaos.trial import Outcome, run_trial

#: Long: a minute or two each, and what a machine makes of its bad day is not the same every time.
pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

JOBS = 4
#: What the bed waits between SIGTERM and SIGKILL (KillWait); Slurm's own default is 30 s.
GRACE = {"worker_extra_args": ["--grace", "5"]}


def judge(outcome: Outcome, *, harmless: frozenset[str]) -> None:
    """Hold every promise against what was seen; harmless faults may repeat, but lose nothing."""
    told, blows = outcome.told, outcome.blows
    losses = [*verdict.rerun(told, blows), *verdict.results(told, blows)]
    print(f"\n{BED.batch}: {verdict.by_cause(losses)}; {outcome.seen}; missed {outcome.missed}")
    print(f"{told['executions']} executions of {told['tasks']} tasks, {told['report']}")
    gone = {loss.key for loss in losses if loss.what == "scattered"}
    assert verdict.wrong(told) == ({"scattered": len(gone)} if gone else {})
    assert [loss for loss in losses if loss.cause is None] == []
    assert [loss for loss in losses if loss.what != "rerun" and loss.cause in harmless] == []
    assert outcome.left == []
    assert verdict.doubled(outcome.seen.doubled, blows) == []
    assert verdict.too_many(outcome.seen.young, blows, JOBS) == []
    assert outcome.seen.most <= 2 * JOBS
    assert len(outcome.missed) <= 1, outcome.missed  # nobody was there to be hit


@pytest.mark.slurm
def test_a_bad_day_on_slurm() -> None:
    """Whatever happens the result is right, and only what was killed outright is done again."""
    began = time.monotonic()
    kinds = ["worker", "supervisor", "cancel", "requeue", "preempt", "node", "server", "full"]
    judge(
        run_trial(
            "badday",
            "slurm",
            draw(6, kinds, 4, 84),
            seconds=95,
            cluster={"queue": "spot", "job_cpu": 6, **GRACE},  # two to a node: room to renew all
        ),
        harmless=frozenset({"cancel", "requeue", "preempt", "server", "full"}),
    )
    print(f"{time.monotonic() - began:.0f} s")


@pytest.mark.skipif(BED.batch != "sge", reason="Grid Engine's own")
def test_a_bad_day_on_grid_engine() -> None:
    """Likewise, with fewer faults; its bed kills 5 s after the warning, too soon to hand over."""
    began = time.monotonic()
    kinds = ["worker", "supervisor", "cancel", "suspend", "full"]
    outcome = run_trial("badday", "sge", draw(6, kinds, 4, 50), seconds=58)
    judge(outcome, harmless=frozenset({"suspend", "full"}))
    print(f"{time.monotonic() - began:.0f} s")
