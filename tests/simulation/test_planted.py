"""Faults planted in the controller: the rules of the weeks catch each, so they can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from dask_hpc.control import backoff, ledger, outlook, reconcile, submitter
from dask_hpc.control.controller import Controller
from dask_hpc.drivers.base import Listing
from dask_hpc.errors import BatchSystemUnavailable
from tests.simulation.desk import Desk
from tests.simulation.week import Plan, draw, play
from tests.simulation.weeks import broken, shrink

#: Weeks in which a planted fault must show.
WEEKS = 60

Patch = pytest.MonkeyPatch


def doubts_are_dropped(patch: Patch) -> None:
    """A submission without an answer is taken for absent at the first listing without it."""
    patch.setattr(ledger, "IN_DOUBT_SETTLE", 0.0)


def listings_are_as_fresh_as_their_answers(patch: Patch) -> None:
    """What a slow query does not show is taken not to be there when its answer comes."""
    adopt = ledger.Ledger.adopt

    def late(self: ledger.Ledger, listing: Listing, now: float) -> tuple[list[str], list[str]]:
        return adopt(self, listing, asyncio.get_running_loop().time())

    patch.setattr(ledger.Ledger, "adopt", late)


def silence_is_an_empty_listing(patch: Patch) -> None:
    """A query that failed shows no job."""
    query = Desk.query

    async def deaf(self: Desk, arrays: Mapping[str, str | None]) -> Listing:
        try:
            return await query(self, arrays)
        except BatchSystemUnavailable:
            return Listing()

    patch.setattr(Desk, "query", deaf)


def those_that_leave_are_replaced_at_once(patch: Patch) -> None:
    """A job that was given up does not count, though it still runs."""
    add = reconcile._Pool.add

    def forgetful(self: Any, job: reconcile.JobView) -> None:
        if job.phase is not reconcile.Phase.LEAVING:
            add(self, job)

    patch.setattr(reconcile._Pool, "add", forgetful)


def one_too_many_goes(patch: Patch) -> None:
    """Where jobs are given up, one more is."""
    give_up = reconcile._give_up
    patch.setattr(reconcile, "_give_up", lambda views, count: give_up(views, count + 1))


def whole_arrays_are_cancelled(patch: Patch) -> None:
    """The batch system is told of an array where one job of it is meant."""

    async def all_of_them(self: Desk, jobs: Collection[Any], arrays: Mapping[str, int]) -> None:
        for array in {job.array for job in jobs}:
            self.machine.cancel(self.machine.arrays[int(array)])

    patch.setattr(Desk, "cancel", all_of_them)


def failures_do_not_count(patch: Patch) -> None:
    """Nothing stops submissions."""
    patch.setattr(backoff.Budget, "exhausted", lambda _self, _up: False)


def silence_is_for_ever(patch: Patch) -> None:
    """After a submission without an answer none is tried again."""
    patch.setattr(backoff, "UNANSWERED_DELAY", 1e9)


def marks_are_forgotten(patch: Patch) -> None:
    """A job that is being replaced counts again when others begin to come faster."""
    patch.setattr(outlook.Outlook, "renewing", False)


def a_close_forgets_what_it_cuts_off(patch: Patch) -> None:
    """A submission under way when the cluster closes keeps the time of its intention."""
    submitted = ledger.Ledger.submitted

    def early(self: ledger.Ledger, name: str, array: str | None, now: float) -> None:
        task = asyncio.current_task()
        since = self.arrays[name].since if task is not None and task.cancelling() else now
        submitted(self, name, array, since)

    patch.setattr(submitter.Ledger, "submitted", early)


def a_close_waits_for_nothing(patch: Patch) -> None:
    """A cluster that closes leaves its jobs to themselves."""

    async def at_once(_self: Controller, _timeout: float) -> list[Any]:
        return []

    patch.setattr(Controller, "close", at_once)


def closing(seed: int) -> Plan:
    """A week that ends while a submission is on its way, and may arrive late."""
    return Plan(seed, frozenset({"late"}), closes=40.0)


PLANTED: dict[Callable[[Patch], None], str] = {
    doubts_are_dropped: "never more jobs than wanted",
    listings_are_as_fresh_as_their_answers: "never more jobs than wanted",
    silence_is_an_empty_listing: "never more jobs than wanted",
    those_that_leave_are_replaced_at_once: "never more jobs than wanted",
    one_too_many_goes: "no job is given up that is wanted",
    whole_arrays_are_cancelled: "only what is given up is cancelled",
    failures_do_not_count: "failures are not repeated without end",
    silence_is_for_ever: "what is wanted is reached",
    marks_are_forgotten: "no job is given up that is wanted",
    a_close_forgets_what_it_cuts_off: "no orphan after close",
    a_close_waits_for_nothing: "no orphan after close",
}
WEEKS_OF = {a_close_forgets_what_it_cuts_off: closing}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_caught(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """Within a few weeks, by the rule that it breaks."""
    plant(monkeypatch)
    seen = set()
    for seed in range(WEEKS):
        seen.add(broken(play(WEEKS_OF.get(plant, draw)(seed))))
        if PLANTED[plant] in seen:
            return
    pytest.fail(f"not caught in {WEEKS} weeks, which broke: {seen}")


def test_a_week_that_fails_is_made_small(monkeypatch: Patch) -> None:
    """What has nothing to do with it is left out, and it fails still."""
    silence_is_an_empty_listing(monkeypatch)
    seed = next(s for s in range(WEEKS) if broken(play(draw(s))))
    plan, outcome = draw(seed), play(draw(seed))
    small, result = shrink(plan, outcome)
    assert broken(result) == broken(outcome)
    assert small.troubles < plan.troubles
    assert len(small.words) <= len(plan.words)
