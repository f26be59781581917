"""What a signal of a batch system leaves of a job's time, as rules."""

from __future__ import annotations

from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2

import pytest

from dask_hpc.batch import local_state
from dask_hpc.drivers.registry import DRIVERS
from dask_hpc.model.grace import GRACE, UNKNOWN, WARNING, Grace, asked_for, grace_of, to_work
from dask_hpc.node.leaving import Signals

SLURM = {"SLURM_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "0"}
SGE = {"JOB_ID": "1", "SGE_TASK_ID": "1", "NSLOTS": "1"}


class Clock:
    """Seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def signals(grace: Grace | None) -> tuple[Signals, Clock]:
    clock = Clock()
    return Signals(grace, clock), clock


def test_every_row_is_of_a_driver() -> None:
    """A name that is misspelt would never be found."""
    assert set(GRACE) <= set(DRIVERS)


def test_the_embedded_batch_systems_time_is_the_one_it_gives() -> None:
    """The table and the server may not differ."""
    assert GRACE["local"].of(SIGTERM) == local_state.GRACE


def test_a_job_knows_its_batch_systems_times() -> None:
    """Slurm's KillWait; Grid Engine's notify; nobody's, where there is none."""
    assert grace_of(SLURM).of(SIGTERM) == 30
    assert grace_of(SGE).of(SIGUSR2) == 60
    assert grace_of({}).of(SIGTERM) == UNKNOWN


def test_what_the_script_asked_for_and_the_user_says_count_more() -> None:
    """One says how early its warning comes, the other what the site's kill really waits."""
    grace = grace_of({**SLURM, WARNING: "USR1@60"}, told=120.0)
    assert (grace.of(SIGUSR1), grace.of(SIGTERM), grace.of(SIGUSR2)) == (60, 120, 120)


@pytest.mark.parametrize("text", ["", "USR1", "USR1@", "NOSUCH@60", "USR1@-3"])
def test_nonsense_in_the_environment_is_left_alone(text: str) -> None:
    """It may come from another job's script."""
    assert asked_for(text) is None
    assert grace_of({**SLURM, WARNING: text}) == GRACE["slurm"]


def test_ctrl_c_leaves_no_time_unless_a_batch_system_sends_it() -> None:
    """A person at a terminal waits; LSF's bkill begins with SIGINT."""
    assert grace_of(SLURM).of(SIGINT) == 0
    assert GRACE["lsf"].of(SIGINT) == 20


@pytest.mark.parametrize(("grace", "work"), [(60.0, 54.0), (30.0, 24.0), (6.0, 4.0), (0.0, 0.0)])
def test_closing_the_workers_is_within_the_grace(grace: float, work: float) -> None:
    """Six seconds of it, and at most a third."""
    assert to_work(grace) == pytest.approx(work)


def test_a_first_signal_leaves_its_time_to_work() -> None:
    """Counted from the signal."""
    heard, clock = signals(grace_of(SLURM))
    heard.heard(SIGTERM)
    clock.now += 4
    assert (heard.first, heard.left) == (SIGTERM, 20)


def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """A shell or a launcher forwards what the batch system has sent to all processes."""
    heard, clock = signals(grace_of({}))
    heard.heard(SIGTERM)
    left = heard.left
    clock.now += 0.5
    heard.heard(SIGTERM)
    assert heard.left == pytest.approx(left - 0.5)


def test_a_second_signal_closes_at_once() -> None:
    """Whoever repeats it does not want to wait."""
    heard, clock = signals(grace_of({}))
    heard.heard(SIGTERM)
    clock.now += 2
    heard.heard(SIGTERM)
    assert heard.left == 0


def test_slurms_own_repetition_is_no_call_to_hurry() -> None:
    """At preemption SIGTERM comes at once, and again when GraceTime is over and KillWait begins."""
    heard, clock = signals(grace_of(SLURM))
    heard.heard(SIGTERM)
    clock.now += 5
    heard.heard(SIGTERM)
    assert heard.left == 19


def test_a_nearer_kill_shortens_the_time() -> None:
    """A warning sent at preemption is followed by SIGTERM sooner than it said."""
    heard, clock = signals(grace_of({**SLURM, WARNING: "USR1@300"}))
    heard.heard(SIGUSR1)
    assert heard.left == 294
    clock.now += 5
    heard.heard(SIGTERM)
    assert (heard.first, heard.left) == (SIGUSR1, 24)


def test_ctrl_c_closes_at_once_even_after_another() -> None:
    """As a first one does."""
    for earlier in ((), (SIGTERM,)):
        heard, _ = signals(grace_of(SLURM))
        for number in (*earlier, SIGINT):
            heard.heard(number)
        assert heard.left == 0


def test_without_a_grace_the_first_signal_closes() -> None:
    """Ranks of an MPI launch end with their program."""
    heard, _ = signals(None)
    heard.heard(SIGTERM)
    assert heard.left == 0
