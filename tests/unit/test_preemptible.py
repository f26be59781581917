"""What is copied away from preemptible workers, in which order, and how much of it at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from distributed.active_memory_manager import Suggestion

from dask_hpc.cluster.preemptible import KeepElsewhere, ReduceThere


class State(SimpleNamespace):
    """By identity, as the engine's states are."""

    __hash__ = object.__hash__


def worker(*, going: bool = False, limit: int = 1000) -> Any:
    return State(going=going, memory_limit=limit, has_what={})


def result(*holders: Any, nbytes: int = 1, **attributes: Any) -> Any:
    usual = {"actor": False, "who_wants": {"client"}, "waiters": set(), "run_spec": "f"}
    ts = State(who_has=set(holders), nbytes=nbytes, **{**usual, **attributes})
    for each in holders:
        each.has_what[ts] = None
    return ts


def manager(*workers: Any, bandwidth: float = 100.0, used: Any = None) -> Any:
    return SimpleNamespace(
        scheduler=SimpleNamespace(
            workers=dict(enumerate(workers)),
            running=set(workers),
            bandwidth=bandwidth,
            replicated_tasks=[],
        ),
        interval=2.0,
        workers_memory=dict.fromkeys(workers, 0) | (used or {}),
        pending={},
    )


def copied(state: Any) -> list[Any]:
    """Results that the policy has copied in one round, each to any worker of its choice."""
    policy = KeepElsewhere(lambda ws: bool(ws.going))
    policy.manager = state
    run, answer, found = policy.run(), None, []
    try:
        while True:
            suggestion = run.send(answer)
            assert suggestion.op == "replicate"
            assert not any(ws.going for ws in suggestion.candidates)
            answer = min(suggestion.candidates, key=lambda ws: state.workers_memory[ws])
            state.workers_memory[answer] += suggestion.ts.nbytes
            found.append(suggestion.ts)
    except StopIteration:
        return found


def test_what_cannot_be_computed_again_goes_first_and_then_the_smallest() -> None:
    """Then what a client holds, then what tasks wait for."""
    stays, goes = worker(), worker(going=True)
    large, small = result(goes, nbytes=9), result(goes, nbytes=5)
    waited = result(goes, nbytes=1, who_wants=set(), waiters={"task"})
    scattered = result(goes, nbytes=20, run_spec=None)
    assert copied(manager(stays, goes)) == [scattered, small, large, waited]


def test_only_what_is_nowhere_else_and_of_use_is_copied() -> None:
    """Two workers that may both go are no safer than one."""
    stays, goes, too = worker(), worker(going=True), worker(going=True)
    both = result(goes, too)
    result(goes, stays)
    result(stays)
    result(goes, who_wants=set())
    result(goes, actor=True)
    pending = result(goes)
    state = manager(stays, goes, too)
    state.pending[pending] = {stays}, set()
    assert copied(state) == [both]


def test_a_round_copies_no_more_than_can_be_received_until_the_next() -> None:
    """But one at least, or a large result would never have its turn."""
    stays, goes = worker(), worker(going=True)
    results = [result(goes, nbytes=80 + k) for k in range(5)]
    assert copied(manager(stays, goes)) == results[:3]  # 100 B/s for 2 s
    assert copied(manager(stays, worker(), goes)) == results
    goes.has_what.clear()
    large = result(goes, nbytes=500)
    assert copied(manager(stays, goes)) == [large]


def test_workers_that_stay_are_not_filled_until_they_spill() -> None:
    """Without a limit of memory they take all."""
    stays, goes = worker(limit=100), worker(going=True)
    results = [result(goes, nbytes=30 + k) for k in range(4)]
    assert copied(manager(stays, goes)) == results[:2]
    assert copied(manager(stays, goes, used={stays: 60})) == []
    assert copied(manager(worker(limit=0), goes)) == results[:4]
    assert copied(manager(goes)) == []


def test_a_superfluous_copy_goes_from_where_it_may_be_lost() -> None:
    """Not from the fuller worker; where all stay or all may go, the engine chooses."""
    stays, also, goes = worker(), worker(), worker(going=True)
    mixed, safe, unsafe = result(stays, goes), result(stays, also), result(goes, worker(going=True))
    policy = ReduceThere(lambda ws: bool(ws.going))
    policy.manager = manager(stays, also, goes)
    policy.manager.scheduler.replicated_tasks = [mixed, safe, unsafe]
    assert list(policy.run()) == [
        Suggestion("drop", mixed, {goes}),
        Suggestion("drop", safe),
        Suggestion("drop", unsafe),
    ]
