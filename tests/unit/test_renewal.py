"""When jobs are replaced and when they must go; the limits learnt; the nodes left out."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.control import backoff
from dask_hpc.control.bad_nodes import BadNodes
from dask_hpc.control.ceiling import Ceiling
from dask_hpc.control.renewal import Renewal, expected_wait

SECONDS = st.floats(1.0, 1e6)


def test_a_wait_is_expected_that_most_jobs_did_not_have() -> None:
    """One job that waited long among many decides nothing; the slowest tenth does."""
    assert expected_wait([]) == backoff.FIRST_WAIT
    assert expected_wait([7.0]) == 7.0
    assert expected_wait([1.0] * 19 + [1000.0]) == 1.0
    assert expected_wait([1.0] * 10 + [60.0] * 10) == 60.0


@given(walltime=SECONDS, wait=st.floats(0.0, 1e6), held=st.floats(0.0, 1e15))
def test_a_job_is_replaced_before_it_must_go_and_neither_takes_all_its_time(
    walltime: float, wait: float, held: float
) -> None:
    """Whatever the queue and the data are like, a job works for a quarter of its time alone."""
    renewal = Renewal(walltime, wait)
    assert 0 < renewal.reserve(held) <= renewal.lead(held) <= renewal.longest
    assert renewal.longest <= 0.8 * walltime + 1e-6


def test_what_is_held_takes_time_to_hand_over() -> None:
    """At the rate that is reckoned with, but never more than ten minutes."""
    renewal = Renewal(24 * 3600.0, 0.0)
    assert renewal.reserve(0) == backoff.MIN_RESERVE
    assert renewal.reserve(5e9) == backoff.MIN_RESERVE + 100
    assert renewal.reserve(1e12) == backoff.MAX_RESERVE
    assert Renewal(60.0).reserve(1e12) == 15.0
    assert Renewal().lead(inf) < inf


def test_a_limit_is_found_in_few_tries() -> None:
    """A hundred wanted, 37 allowed, 5 of them others' already: seven refusals at most."""
    allowed, ceiling, live, refusals = 32, Ceiling(), 0, 0
    for now in range(100):
        count = ceiling.room(live, 100 - live, now)
        if live + count > allowed:
            ceiling, refusals = ceiling.refuse(live, count, now), refusals + 1
        elif count:
            live += count
            ceiling = ceiling.accept(live)
    assert live == allowed
    assert refusals <= 7


@given(allowed=st.integers(0, 50), wanted=st.integers(1, 60))
def test_whatever_the_limit_is_it_is_reached(allowed: int, wanted: int) -> None:
    """As many as are allowed, or wanted; a job that ends is replaced at once."""
    ceiling, live = Ceiling(), 0
    for now in range(100):
        count = ceiling.room(live, wanted - live, now) if wanted > live else 0
        if live + count > allowed:
            ceiling = ceiling.refuse(live, count, now)
        elif count:
            live += count
            ceiling = ceiling.accept(live)
    assert live == min(allowed, wanted)
    if live and live == allowed < wanted:
        assert ceiling.room(live - 1, wanted - live + 1, 100) == 1


def test_a_limit_is_forgotten_after_a_while() -> None:
    """Other jobs of the user have ended, perhaps."""
    ceiling = Ceiling().refuse(3, 4, 0.0)
    assert ceiling.room(3, 4, 1.0) < 4
    assert ceiling.room(3, 4, backoff.LIMIT_BELIEVED) == 4


def test_a_node_that_fails_twice_is_left_out_for_a_while() -> None:
    """Once may be bad luck; half an hour later it may have been mended."""
    nodes = BadNodes()
    nodes.worked("n3")
    nodes.failed("n1", 0.0)
    nodes.failed("n2", 0.0)
    nodes.failed("n1", 10.0)
    assert nodes.excluded(20.0) == ("n1",)
    assert nodes.excluded(backoff.NODE_REST + 5.0) == ()
    nodes.failed("", 20.0)
    nodes.failed("", 20.0)
    assert nodes.excluded(20.0) == ("n1",)


def test_a_success_clears_a_node() -> None:
    """What failed there was not the node's fault."""
    nodes = BadNodes()
    nodes.worked("n3")
    nodes.failed("n1", 0.0)
    nodes.worked("n1")
    nodes.failed("n1", 10.0)
    assert nodes.excluded(20.0) == ()


def test_where_no_node_is_good_none_is_left_out() -> None:
    """A broken script must not leave a machine without nodes; nor must many failures."""
    nodes = BadNodes()
    for number in range(3):
        nodes.failed("n1", number)
    assert nodes.excluded(3.0) == ()
    nodes.worked("good")
    assert nodes.excluded(3.0) == ("n1",)
    for number in range(backoff.MOST_EXCLUDED + 1):
        nodes.failed(f"n{number}", 0.0)
        nodes.failed(f"n{number}", 0.0)
    assert nodes.excluded(4.0) == ()
