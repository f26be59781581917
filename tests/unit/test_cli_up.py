"""Bringing a cluster up: what the head is told, what is waited for, and who ends it when."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dask_hpc.cli.entry import hpc
from dask_hpc.cluster import bring_up
from tests.unit.cli_fakes import FakeHead, cluster, have, pool, view

COMPLETE = view(changes=2, pools={"default": pool(3, 3)}, line="3 wanted: 3 running", jobs=[])


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What is brought up: keywords, and where and as what."""
    calls: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def bring(keywords: dict[str, Any], **words: Any) -> object:
        calls.append((dict(keywords), words))
        return cluster()

    monkeypatch.setattr(bring_up, "bring_up", bring)
    return calls


def up(*arguments: str) -> Result:
    return CliRunner().invoke(hpc, ["up", "--cores", "4", *arguments])


def test_the_head_is_asked_for_the_jobs_and_these_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, brought: list[Any]
) -> None:
    """All of them, unless told otherwise."""
    head = have(monkeypatch, cluster(), head=FakeHead([view(), COMPLETE]))
    result = up("--name", "study", "--jobs", "3", "--head", "job", "--head-option", "queue=l")
    ((keywords, words),) = brought
    assert keywords == {"cores": 4}
    assert (words["name"], words["head"], words["head_options"]) == ("study", "job", {"queue": "l"})
    assert words["orders"] == [("scale", {"jobs": 3, "pool": None})]
    assert [word for word, _ in head.told] == ["wait"]
    assert result.stdout == "study: 3 wanted: 3 running\n"
    assert "dask-hpc attach study" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "waits"),
    [
        (("--no-wait",), 0),
        (("--wait", "8"), 0),  # there are eight
        (("--wait", "9"), 1),
        (("--wait", "--json"), 1),
        ((), 1),
    ],
)
@pytest.mark.usefixtures("brought")
def test_it_can_be_said_how_many_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], waits: int
) -> None:
    """A number, all, or none."""
    head = have(monkeypatch, cluster(), head=FakeHead([view(), COMPLETE]))
    result = up("--workers", "12", *arguments)
    assert result.exit_code == 0, result.output
    assert sum(word == "wait" for word, _ in head.told) == waits
    if "--json" in arguments:
        assert json.loads(result.stdout) == COMPLETE


def test_what_is_no_number_is_refused_before_anything_is_started(brought: list[Any]) -> None:
    """As wrong usage."""
    assert up("--wait", "many").exit_code == 2
    assert up("--jobs", "1", "--timeout", "soon").exit_code == 78
    assert brought == []


@pytest.mark.usefixtures("brought")
def test_who_waits_no_longer_leaves_the_cluster_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """By timeout or Ctrl-C; the way to end it is said."""
    head = have(monkeypatch, cluster())
    late = up("--jobs", "3", "--timeout", "0")
    assert late.exit_code == 4
    assert "the cluster goes on; `dask-hpc down study` ends it" in late.stderr

    def interrupted(changes: int, seconds: float) -> None:
        raise KeyboardInterrupt

    head.wait = interrupted
    broken_off = up("--jobs", "3")
    assert broken_off.exit_code == 130
    assert "the cluster goes on" in broken_off.stderr
    assert ("shutdown", {}) not in head.told


@pytest.mark.usefixtures("brought")
def test_without_a_size_the_way_to_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    empty = view(pools={"default": pool(0, 0)}, line="0 wanted: none")
    head = have(monkeypatch, cluster(), head=FakeHead([empty]))
    result = up()
    assert "dask-hpc scale study WORKERS" in result.stderr
    assert head.told == []
