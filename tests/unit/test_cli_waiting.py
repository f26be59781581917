"""Waiting for workers: what is said meanwhile, and what ends it."""

from __future__ import annotations

import importlib
import sys
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from dask_hpc.cli.entry import hpc
from dask_hpc.cli.waiting import seconds_of, wait_for
from dask_hpc.errors import HPCError, JobStartError, WorkersTimeout
from dask_hpc.jupyter.reach import Waiting
from tests.unit.cli_fakes import FakeHead, pool, view

ALL = view(changes=3, pools={"default": pool(3, 3)}, line="3 wanted: 3 running", jobs=[])


def test_each_change_is_a_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Why jobs wait and when they start; the same is not said twice."""
    wait_for(FakeHead([view(), view(changes=2), ALL]), None, None)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("8 of 12 workers joined; jobs: 3 wanted: 2 running, 1 pending")
    assert "; the next starts about " in line


def test_as_many_as_are_waited_for_are_enough() -> None:
    """The head is not asked again."""
    head = FakeHead()
    assert wait_for(head, 8, None)["changes"] == 1
    assert head.told == []


def test_waiting_ends_in_time() -> None:
    """And says what it waited for."""
    with pytest.raises(WorkersTimeout, match=r"8 of 12 workers of cluster study joined in 0 s"):
        wait_for(FakeHead(), None, 0.0)


def test_a_call_is_no_longer_than_the_time_that_is_left() -> None:
    """The head keeps a call for thirty seconds at most."""
    head = FakeHead([view(), ALL])
    wait_for(head, None, 7.0)
    ((_, call),) = head.told
    assert 6 < call["seconds"] <= 7


def test_a_problem_ends_the_waiting_with_its_own_words() -> None:
    """Its hint stays a hint."""
    problem = "a job ended before a worker joined\n  -> ask for more memory="
    with pytest.raises(JobStartError) as caught:
        wait_for(FakeHead([view(problem=problem, problem_kind="JobStartError")]), None, None)
    assert caught.value.hint == "ask for more memory="
    assert str(caught.value) == problem


def test_a_cluster_that_closes_ends_the_waiting() -> None:
    """Nobody joins any more."""
    with pytest.raises(HPCError, match="cluster study is closing"):
        wait_for(FakeHead([view(status="closing")]), None, None)


def test_on_a_terminal_one_line_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By rich, on standard error."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    wait_for(FakeHead([view(), ALL]), None, None)
    said = capsys.readouterr()
    assert said.out == ""
    assert "8 of 12 workers joined" in said.err


def test_a_timeout_is_read_as_people_write_it() -> None:
    """A bare number is seconds."""
    assert (seconds_of(None), seconds_of("30"), seconds_of("5 min")) == (None, 30.0, 300.0)


class TestJupyter:
    def test_ctrl_c_ends_the_waiting_and_not_the_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Why it waits is shown, then how to go on and how to end it."""
        jupyter = importlib.import_module("dask_hpc.cli.jupyter")
        head = Mock(jupyter=Mock(side_effect=[Waiting("its job is pending (Resources)")]))
        monkeypatch.setattr(jupyter, "find", lambda name: Mock(host="login1"))
        monkeypatch.setattr(jupyter, "connect", lambda known: head)
        monkeypatch.setattr(jupyter.time, "sleep", Mock(side_effect=KeyboardInterrupt))
        words = ["jupyter", "--job", "--job-option", "walltime=2h", "--job-option", "cores=2"]
        shown = CliRunner().invoke(hpc, words)
        assert "its job is pending (Resources)\nits job goes on" in shown.output
        assert head.jupyter.call_args.kwargs["job"] == {"walltime": "2h", "cores": 2}
        assert not head.stop_jupyter.called

    def test_options_of_a_job_are_for_one_in_a_job(self) -> None:
        """Beside the scheduler they would be passed over in silence."""
        shown = CliRunner().invoke(hpc, ["jupyter", "--job-option", "walltime=2h"])
        assert (shown.exit_code, "say --job" in shown.output) == (2, True)
