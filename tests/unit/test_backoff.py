"""The failure budget and the polling rhythm."""

from __future__ import annotations

from dask_hpc.control import backoff
from dask_hpc.control.backoff import Budget, Permit, next_poll


def test_a_fresh_budget_allows() -> None:
    """Nothing failed, nothing is held back."""
    assert Budget().permit(0.0, 0).allowed


def test_each_failure_doubles_the_delay() -> None:
    """One second, then two."""
    once = Budget().failed(1, 100.0)
    assert not once.permit(100.5, 0).allowed
    assert once.permit(101.0, 0).allowed
    assert once.failed(1, 200.0).permit(0.0, 0).not_before == 202.0


def test_three_failures_in_a_row_stop_everything() -> None:
    """A mistake that repeats is the user's to mend; one job tries it again after a long rest."""
    budget = Budget().failed(3, 100.0)
    permit = budget.permit(100.0 + backoff.FIRST_REST - 1, 0)
    assert not permit.allowed
    assert permit.not_before == 100.0 + backoff.FIRST_REST
    assert budget.permit(100.0 + backoff.FIRST_REST, 0) == Permit(
        allowed=True, not_before=100.0 + backoff.FIRST_REST, most=1
    )


def test_each_rest_in_vain_doubles_the_next() -> None:
    """A cluster left alone over the weekend makes a handful of tries."""
    budget, now, tries = Budget().failed(3, 0.0), 0.0, 0
    while now < 3 * 86400:
        permit = budget.permit(now, 0)
        if permit.allowed:
            budget, tries = budget.failed(1, now + 5.0), tries + 1
        now = budget.permit(now + 5.0, 0).not_before or now
    assert 30 <= tries <= 40  # ten minutes, twenty, forty, eighty, then every two hours


def test_failures_that_come_together_are_one_try() -> None:
    """Five jobs of one array that fail one after the other are no five rests in vain."""
    budget = Budget().failed(3, 100.0).failed(1, 101.0).failed(1, 130.0)
    assert budget.permit(130.0 + backoff.FIRST_REST, 0).allowed


def test_jobs_at_work_raise_the_limit() -> None:
    """One bad node among a hundred good ones does not stop a cluster."""
    assert Budget().failed(3, 0.0).permit(1e9, up=97).allowed
    assert Budget().failed(100, 0.0).exhausted(up=97)


def test_a_success_clears_failures_but_not_a_refusal() -> None:
    """What the batch system refused it would refuse again, until it takes something."""
    assert Budget().failed(2, 0.0).succeeded() == Budget()
    refused = Budget().rejected(0.0)
    assert refused.succeeded().exhausted(up=5)
    assert not refused.accepted().exhausted(up=5)


def test_no_answer_only_delays() -> None:
    """The batch system's weather is nobody's failure."""
    budget = Budget().unanswered(10.0)
    assert budget.failures == 0
    assert not budget.permit(10.0, 0).allowed
    assert budget.permit(10.0 + backoff.UNANSWERED_DELAY, 0).allowed


def test_polls_grow_rarer_and_a_change_brings_them_back() -> None:
    """Between the two bounds, never outside."""
    interval = backoff.MIN_POLL
    for _ in range(20):
        interval = next_poll(interval, changed=False)
        assert backoff.MIN_POLL <= interval <= backoff.MAX_POLL
    assert interval == backoff.MAX_POLL
    assert next_poll(interval, changed=True) == backoff.MIN_POLL
