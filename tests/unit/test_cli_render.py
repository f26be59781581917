"""Tables, blocks and times: on a terminal, in a narrow one, in a pipe."""

from __future__ import annotations

import io
import os
import sys

import pytest

from dask_hpc.cli import render

HEADINGS = ("job", "state", "workers", "why")
ROWS = [["study-1", "running", "4", ""], ["study-2", "pending", "0", "Resources and " + "x" * 60]]


class Terminal(io.StringIO):
    """Standard output that somebody looks at."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, *, width: int | None, spare: str = "") -> str:
    stream = io.StringIO() if width is None else Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width or 20))
    monkeypatch.setenv("TERM", "dumb")
    render.echo_table(HEADINGS, ROWS, right=("workers",), spare=spare.split())
    return stream.getvalue()


def test_in_a_pipe_each_row_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """However wide the terminal is that nobody looks at."""
    lines = printed(monkeypatch, width=None).splitlines()
    assert lines[0] == "job      state    workers  why"
    assert lines[1] == "study-1  running        4  -"
    assert lines[2].endswith("x" * 60)


def test_on_a_terminal_the_last_column_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are whole, and no line is too long."""
    lines = printed(monkeypatch, width=50).splitlines()
    assert all(len(line) <= 50 for line in lines)
    assert any(line.startswith("study-2  pending") for line in lines)
    assert sum(line.count("x") for line in lines) == 60


def test_a_narrow_terminal_does_without_what_can_be_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than it must; a pipe has all."""
    spare = "workers state"
    assert printed(monkeypatch, width=38, spare=spare).split()[:3] == ["job", "state", "why"]
    assert printed(monkeypatch, width=28, spare=spare).split()[:2] == ["job", "why"]
    assert printed(monkeypatch, width=None, spare=spare).split()[:3] == ["job", "state", "workers"]


def test_in_a_narrow_terminal_rows_are_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose columns are two letters wide is read by nobody."""
    lines = printed(monkeypatch, width=30).splitlines()
    assert all(len(line) <= 30 for line in lines)
    assert "job      study-1" in [line.rstrip() for line in lines]
    assert "state    pending" in [line.rstrip() for line in lines]


def test_text_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are brackets in what a batch system says."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    render.echo_table(("a", "b"), [["[red]x[/red]", "[0-3]"]])
    render.echo_facts({"c": "[bold]y"})
    assert "[red]x[/red]" in stream.getvalue()
    assert "[bold]y" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (40, "40 s"),
        (150, "2 min"),
        (7800, "2 h 10 min"),
        (36000, "10 h"),
        (187200, "2 d 4 h"),
        (86400 * 12.5, "12 d"),
    ],
)
def test_a_span_is_as_exact_as_people_say_it(seconds: float, text: str) -> None:
    """Two units while the larger one is small."""
    assert render.span(seconds) == text


def test_a_clock_has_a_date_on_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """In local time."""
    monkeypatch.setenv("TZ", "UTC")
    if hasattr(os, "tzset"):  # what the C library keeps
        import time

        time.tzset()
    assert render.clock(1_800_000_000.0, 1_800_000_300.0) == "08:00"
    assert render.clock(1_800_000_000.0, 1_800_090_000.0) == "2027-01-15 08:00"
    assert render.clock(None, 0.0) == ""
