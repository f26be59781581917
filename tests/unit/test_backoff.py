"""The failure budget and the polling rhythm."""

from __future__ import annotations

from dask_hpc.control import backoff
from dask_hpc.control.backoff import Budget, next_poll


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
    """A mistake that repeats is the user's to mend: no moment is named for another try."""
    permit = Budget().failed(3, 0.0).permit(1e9, 0)
    assert not permit.allowed
    assert permit.not_before is None


def test_jobs_at_work_raise_the_limit() -> None:
    """One bad node among a hundred good ones does not stop a cluster."""
    assert Budget().failed(3, 0.0).permit(1e9, up=97).allowed
    assert Budget().failed(100, 0.0).exhausted(up=97)


def test_a_success_clears_failures_but_not_a_refusal() -> None:
    """What the batch system refused it would refuse again."""
    assert Budget().failed(2, 0.0).succeeded() == Budget()
    assert Budget().rejected().succeeded().exhausted(up=5)


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
