"""The rules of reconcile, each as one test."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.control.backoff import Permit
from dask_hpc.control.reconcile import Actions, JobKey, JobView, Phase, reconcile

YES, NO = Permit(allowed=True), Permit(allowed=False)


def job(index: int, phase: Phase, load: float = 0.0) -> JobView:
    return JobView(JobKey("c-1", index), "cpu", phase, load)


def near(index: int, phase: Phase = Phase.UP, *, due: bool = False) -> JobView:
    """A job near its deadline."""
    ends = float(index)
    return JobView(JobKey("c-1", index), "cpu", phase, deadline=ends, expiring=True, due=due)


def given_up(actions: Actions) -> set[int]:
    return {key.index for key in (*actions.cancel, *actions.retire)}


def test_what_is_missing_is_submitted() -> None:
    """Wanted less what comes is submitted at once, in one number."""
    assert reconcile({"cpu": 5}, [job(0, Phase.UP), job(1, Phase.PENDING)], YES).submit == {
        "cpu": 3
    }


def test_nothing_is_submitted_without_permit() -> None:
    """After failures the budget says when."""
    assert not reconcile({"cpu": 5}, [], NO)


def test_a_submission_in_doubt_counts_as_coming() -> None:
    """What may have been submitted is not submitted again."""
    assert not reconcile({"cpu": 1}, [job(0, Phase.IN_DOUBT)], YES)


def test_a_submission_in_doubt_is_not_cancelled() -> None:
    """It has no id; when it is found it is one too many and goes then."""
    assert not reconcile({"cpu": 0}, [job(0, Phase.IN_DOUBT)], YES)


def test_a_job_that_leaves_counts_until_it_is_gone() -> None:
    """Otherwise scaling down and up again would make too many jobs for a while."""
    assert not reconcile({"cpu": 1}, [job(0, Phase.LEAVING)], YES)


def test_a_job_that_has_ended_or_is_tidied_up_is_replaced() -> None:
    """An epilogue may take minutes; its job is over all the same."""
    jobs = [job(0, Phase.ENDED), job(1, Phase.ENDING)]
    assert reconcile({"cpu": 1}, jobs, YES).submit == {"cpu": 1}


def test_pending_jobs_go_before_running_ones() -> None:
    """A pending job costs nothing to give up, results cost time."""
    jobs = [job(0, Phase.UP), job(1, Phase.STARTING), job(2, Phase.PENDING), job(3, Phase.UP)]
    actions = reconcile({"cpu": 1}, jobs, YES)
    assert {key.index for key in actions.cancel} == {1, 2}
    assert {key.index for key in actions.retire} == {3}


def test_the_least_loaded_leaves_first_then_the_youngest() -> None:
    """What must be moved should be little."""
    jobs = [job(0, Phase.UP, 5.0), job(1, Phase.UP, 1.0), job(2, Phase.UP, 1.0)]
    assert given_up(reconcile({"cpu": 2}, jobs, YES)) == {2}


def test_a_pool_that_is_not_wanted_leaves() -> None:
    """Jobs of a pool that nobody mentions are surplus."""
    assert given_up(reconcile({}, [job(0, Phase.UP)], YES)) == {0}


PHASES = st.sampled_from(list(Phase))


@given(wanted=st.integers(0, 20), phases=st.lists(PHASES, max_size=30), allowed=st.booleans())
def test_actions_lead_to_what_is_wanted_and_never_beyond(
    wanted: int, phases: list[Phase], allowed: bool
) -> None:
    """After the actions no more than wanted come, and as many where nothing is in the way."""
    jobs = [job(i, phase) for i, phase in enumerate(phases)]
    actions = reconcile({"cpu": wanted}, jobs, Permit(allowed=allowed))
    coming = sum(phase < Phase.LEAVING for phase in phases)
    leaving = sum(phase is Phase.LEAVING for phase in phases)
    doubtful = sum(phase is Phase.IN_DOUBT for phase in phases)
    submitted = actions.submit.get("cpu", 0)
    assert not (submitted and given_up(actions)), "never both at once"
    after = coming + submitted - len(given_up(actions))
    if submitted:
        assert after + leaving == wanted
        assert allowed
    assert after <= max(wanted, doubtful)
    assert all(phases[index] < Phase.IN_DOUBT for index in given_up(actions))
    assert reconcile({"cpu": wanted}, jobs, Permit(allowed=allowed)) == actions, "pure"


def test_a_job_near_its_deadline_is_replaced_and_stays_meanwhile() -> None:
    """It works on while its replacement waits in the queue."""
    actions = reconcile({"cpu": 2}, [near(0), near(1)], YES)
    assert actions.submit == {"cpu": 2}
    assert given_up(actions) == set()


def test_a_replacement_is_submitted_once() -> None:
    """What is pending for a job that expires counts."""
    assert not reconcile({"cpu": 1}, [near(0), job(1, Phase.PENDING)], YES)


def test_a_job_goes_when_its_replacement_is_at_work() -> None:
    """The one that ends first goes first, with as many as are replaced."""
    jobs = [near(1), near(0), job(2, Phase.UP), job(3, Phase.STARTING)]
    actions = reconcile({"cpu": 2}, jobs, YES)
    assert given_up(actions) == {0}
    assert not actions.submit


def test_a_job_whose_time_is_over_goes_without_a_replacement() -> None:
    """Better at once, with what it holds, than killed; nothing is submitted again for it."""
    actions = reconcile({"cpu": 2}, [near(0, due=True), near(1), job(2, Phase.PENDING)], YES)
    assert given_up(actions) == {0}
    assert actions.submit == {"cpu": 1}


def test_a_job_that_leaves_for_its_deadline_does_not_hold_up_its_replacement() -> None:
    """Unlike one that was given up, it is no longer one of those wanted."""
    assert reconcile({"cpu": 1}, [near(0, Phase.LEAVING)], YES).submit == {"cpu": 1}


def test_fewer_wanted_are_first_those_that_expire() -> None:
    """What would go soon anyway goes now."""
    jobs = [near(0), near(1), job(2, Phase.UP), job(3, Phase.UP)]
    assert given_up(reconcile({"cpu": 2}, jobs, YES)) == {0, 1}
    assert given_up(reconcile({"cpu": 0}, jobs, YES)) == {0, 1, 2, 3}
    assert reconcile({"cpu": 3}, jobs, YES).submit == {"cpu": 1}


def test_after_a_rest_one_job_is_tried() -> None:
    """However many are wanted."""
    assert reconcile({"cpu": 9}, [], Permit(allowed=True, most=1)).submit == {"cpu": 1}


def test_workers_on_their_way_out_are_called_back_before_others_are_submitted() -> None:
    """A task of an hour that ends on them first must not keep new jobs away for an hour."""
    leaving = [replace(job(i, Phase.LEAVING), back=True) for i in range(2)]
    actions = reconcile({"cpu": 2}, [*leaving, job(2, Phase.UP)], YES)
    assert (len(actions.recall), actions.submit) == (1, {})
    actions = reconcile({"cpu": 5}, [*leaving, job(2, Phase.UP)], YES)
    assert (len(actions.recall), actions.submit) == (2, {"cpu": 2})
    assert not reconcile({"cpu": 1}, [*leaving, job(2, Phase.UP)], YES)


def test_a_try_that_waits_in_the_queue_is_the_only_one() -> None:
    """After a rest one job is tried, however long it waits: not one more in every round."""
    one = Permit(allowed=True, most=1)
    assert not reconcile({"cpu": 9}, [job(0, Phase.PENDING)], one)
    assert not reconcile({"cpu": 9}, [job(0, Phase.IN_DOUBT)], one)
    assert reconcile({"cpu": 9}, [job(0, Phase.UP)], one).submit == {"cpu": 1}
