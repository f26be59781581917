"""How a cluster describes itself: text and HTML from one view."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dask_hpc.cluster import present
from dask_hpc.cluster.view import HERE, HeadPlace, View, view
from dask_hpc.errors import JobStartError
from dask_hpc.model.job import JobState, JobStatus
from tests.unit.heads import EPOCH, POOLS, RUNS, Watch, controller, head, see, submit

EVIL = "<script>alert('x')</script>"


def a_view(*, reason: str = "Priority", place: HeadPlace = HERE, **more: Any) -> View:
    """One job that runs, one that waits and may start in five minutes."""
    made = controller(Watch())
    submit(made, "c-1a", 2)
    see(made, j0=RUNS, j1=JobStatus(JobState.PENDING, reason, start=EPOCH + 400.0))
    for failure in more.pop("failures", ()):
        made.failed(JobStartError(failure))
    return {**view(head(made, where=place), jobs=False), "now": EPOCH + 100.0, **more}  # type: ignore[typeddict-item]


def test_text_and_html_say_the_same() -> None:
    """Jobs, why they wait, when they may start, the bounds, the failure."""
    failures = ["a job ended before a worker joined\n  log: x"]
    seen = a_view(failures=failures, place=HeadPlace("job", "12", EPOCH + 7300))
    seen["pools"]["default"]["adapting"] = {"minimum": 1, "maximum": 4}
    line = present.text("HPCCluster", "c", "running", seen, "workers: 2")
    html = present.html_rows("running", seen)
    day = time.strftime("%H:%M", time.localtime(EPOCH + 400))
    for said in (
        "2 wanted: 1 starting, 1 pending (Priority)",
        f"the first that waits may start in 5 min ({day})",
        "1 to 4 jobs",
        "job 12 on ",
        ", which ends in 2.0 h",
        "0 s ago: a job ended before a worker joined",
        "running",
    ):
        assert said in line
        assert said in html
    assert "\n" not in line
    assert "log: x" in html


def test_a_cluster_of_which_nothing_can_be_seen_says_its_state() -> None:
    """Not started, or closed."""
    assert present.text("HPCCluster", "c", "closed") == "HPCCluster('c', closed)"
    assert present.html_rows("closed") == ""


def test_what_is_not_the_case_is_not_said() -> None:
    """No failure, no bounds, no word about a head that is here."""
    assert present.facts(a_view(problem="")).keys() == {
        "Batch system",
        "Jobs",
        "Expected",
        "Cost",
        "Logs",
    }


def test_a_problem_comes_before_earlier_failures() -> None:
    """It is why nothing more is submitted."""
    assert present.facts(a_view(failures=["old"], problem="it stopped"))["Failure"] == "it stopped"


@pytest.mark.parametrize("place", [HERE, HeadPlace("job", EVIL, None)])
def test_nothing_of_others_is_markup(place: HeadPlace) -> None:
    """Reasons, failures and names come from elsewhere."""
    seen = a_view(reason=EVIL, place=place, problem=EVIL, cost=EVIL)
    seen["pools"][EVIL] = seen["pools"].pop("default")
    for html in (
        present.html_rows(EVIL, seen),
        present.pools_table(seen),
        present.table((EVIL,), [(EVIL,)]),
        present.table((), (), empty=EVIL),
    ):
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def test_the_table_of_pools_counts_the_states_that_there_are() -> None:
    """No column of noughts."""
    seen = a_view()
    seen["pools"]["wide"] = {
        **seen["pools"]["default"],
        "jobs": {"held": 3},
        "adapting": {"minimum": 2, "maximum": None},
    }
    html = present.pools_table(seen)
    assert [each.split(">")[1] for each in html.split("</th>")[:-1]][-1] is not None
    heads = [each.rsplit(">", 1)[1] for each in html.split("</th>")[:-1]]
    assert heads == ["pool", "jobs wanted", "pending", "held", "starting", "workers", "size"]
    assert "at least 2 jobs" in html
    assert "as asked for" in html


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3569, "59 min"),
        (3599, "1.0 h"),
        (86399, "24.0 h"),
        (100000, "1.2 days"),
    ],
)
def test_spans_are_said_as_people_do(seconds: float, said: str) -> None:
    """One unit, no more digits than anybody needs."""
    assert present.span(seconds) == said


def test_an_estimate_that_is_past_is_any_moment() -> None:
    """And one on another day has a date."""
    assert present.soon(5.0, 5.0) == "any moment"
    far = present.soon(EPOCH + 200_000, EPOCH)
    assert far == time.strftime("in 2.3 days (%Y-%m-%d %H:%M)", time.localtime(EPOCH + 200_000))


def test_pools_are_named_where_there_are_several() -> None:
    """Whose estimate it is."""
    made = controller(pools=dict(POOLS))
    submit(made, "c-1a", 1, "wide")
    see(made, j0=JobStatus(JobState.PENDING, start=EPOCH))
    told = present.facts({**view(head(made)), "now": EPOCH + 100})
    assert told["Expected"] == "wide: the first that waits may start any moment"
