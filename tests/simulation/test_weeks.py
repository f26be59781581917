"""Thousands of seeded weeks: what must never happen does not, what must come true does.

``python -m tests.simulation.weeks`` lives through more of them, and makes one that fails small.
"""

from __future__ import annotations

import pytest

from tests.simulation.machine import Site
from tests.simulation.week import Plan, draw, play
from tests.simulation.weeks import full, report

#: Weeks of a test.
WEEKS = 40


@pytest.mark.parametrize("first", range(0, 400, WEEKS))
def test_no_week_breaks_a_rule(first: int) -> None:
    """Others' jobs, failures, lost nodes, preemption, holds, silence, delays, doubts, limits."""
    for seed in range(first, first + WEEKS):
        plan = draw(seed)
        outcome = play(plan)
        assert outcome.violation is None, report(plan, outcome)


def test_a_seed_makes_the_same_week_each_time() -> None:
    """To the last event: a failure can be looked at again."""
    first, second = play(draw(7)), play(draw(7))
    assert first.trace == second.trace
    assert first.rounds == second.rounds


def square(period: float, jobs: int) -> object:
    """A demand of so many jobs in the first half of each period, and of none in the other."""
    return lambda now: jobs if now % period < period / 2 else 0


@pytest.mark.parametrize("period", [2.0, 4.0, 7.0, 9.0])
def test_a_fast_square_wave_of_demand_costs_one_submission(period: float) -> None:
    """Dips that are over before a job would have come back cost none."""
    plan = Plan(1, length=3600.0, walltime=7200, sample=10.0)
    outcome = play(plan, square(period, 8))
    assert outcome.violation is None, report(plan, outcome)
    assert outcome.submitted == 8
    assert {live for when, live, _ in outcome.samples if when > 60} == {8}


def test_a_slow_square_wave_goes_to_all_and_back_to_nothing_each_time() -> None:
    """Zero to N to zero, with N submissions a period and no more."""
    plan = Plan(1, length=3600.0, walltime=7200, sample=10.0)
    outcome = play(plan, square(600.0, 8))
    assert outcome.violation is None, report(plan, outcome)
    assert outcome.submitted == 6 * 8
    assert all(up == 8 for when, _, up in outcome.samples if 60 < when % 600 < 290)
    assert all(live == 0 for when, live, _ in outcome.samples if 360 < when % 600 < 590)


@pytest.mark.parametrize("seed", range(3))
def test_jobs_are_renewed_without_a_gap_while_the_machine_is_free(seed: int) -> None:
    """Ten generations of ten minutes: never under nine tenths of what is wanted."""
    plan = Plan(seed, words=((0.0, 20),), length=6600.0, site=Site(nodes=16), sample=5.0)
    outcome = play(plan)
    assert outcome.violation is None, report(plan, outcome)
    assert min(up for when, _, up in outcome.samples if when > 120) >= 18
    assert max(live for _, live, _ in outcome.samples) <= 40
    assert 10 * 20 <= outcome.submitted <= 15 * 20


def test_a_day_of_full_length_is_over_in_seconds() -> None:
    """Sixty jobs of an hour each for a whole day; the command line has the week."""
    plan = full(days=1)
    outcome = play(plan)
    assert outcome.violation is None, report(plan, outcome)
    assert 24 * 60 <= outcome.submitted <= 30 * 60
