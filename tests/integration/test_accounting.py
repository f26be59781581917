"""What a cluster has cost: known figures, work that was lost, the account after the close."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import get_worker, wait

from dask_hpc.cluster import report as reports
from tests.helpers import wait_until
from tests.integration.account import Account

HOUR = 3600.0


def spend(seconds: float) -> float:
    """Keep a thread for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return seconds


def fail(seconds: float) -> None:
    raise RuntimeError(spend(seconds))


def seconds(report: dict[str, Any]) -> dict[str, float]:
    return {name: hours * HOUR for name, hours in report["total"]["core_hours"].items()}


def command(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "dask_hpc", "report", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


class Lines(logging.Handler):
    """What is logged; pytest's own handler is silenced by the engine as the user's would be."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def log() -> Iterator[list[str]]:
    logger, lines = logging.getLogger("dask_hpc"), Lines()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    yield lines.texts
    logger.removeHandler(lines)
    logger.setLevel(before)


def test_known_work_on_known_cores(account: Account, log: list[str]) -> None:
    """2 jobs of 2 cores, a task of 2 s and one that fails after 0.5 s: used is 2.5 core-seconds."""
    with account.cluster("known", cores=2, processes=1) as cluster:
        assert seconds(cluster.report())["allocated"] == 0
        opened = time.time()
        cluster.scale(jobs=2)
        cluster.wait_for_workers(2, timeout=30)
        with cluster.get_client() as client:
            first, second = client.submit(spend, 2.0), client.submit(fail, 0.5)
            wait([first, second])
            now = cluster.report()
            assert seconds(now)["used"] == pytest.approx(2.5, rel=0.1)
            assert now["total"]["jobs"]["running"] == 2
        assert "core-seconds allocated" in cluster._repr_html_()
    spent = time.time() - opened
    found = cluster.report()
    total = seconds(found)
    assert total["used"] == pytest.approx(2.5, rel=0.1)
    assert total["lost"] == 0
    assert total["allocated"] == pytest.approx(sum(total[k] for k in ("used", "idle", "lost")))
    assert 4 * 2.0 < total["allocated"] < 4 * spent
    assert found["core_seconds"] == pytest.approx(total["allocated"])
    assert found["total"]["jobs"]["started"] == found["total"]["wait_seconds"]["jobs"] == 2
    assert found["total"]["jobs"]["running"] == 0
    [line] = [text for text in log if "allocated" in text]
    assert line.startswith("cluster known: ")
    assert "2 jobs" in line
    assert "core-seconds allocated" in str(found)


def leave_soon(delay: float) -> None:
    """Kill this worker in a moment; a task that would do it at once counts as its own crash."""
    import threading

    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def test_what_ran_when_its_worker_died_is_lost_and_no_more(account: Account) -> None:
    """A task of 30 s, 3 s of it done: those are lost; what was done before stays used."""
    with account.cluster("dies") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            assert client.submit(spend, 1.0).result() == 1.0
            client.run(leave_soon, 3.0)
            started = time.monotonic()
            future = client.submit(spend, 30.0)
            wait_until(lambda: seconds(cluster.report())["lost"] > 0, 20)
            ran = time.monotonic() - started
            future.cancel()
            found = seconds(cluster.report())
    assert found["lost"] == pytest.approx(3.0, abs=1.1)  # a heartbeat
    assert found["lost"] < ran
    assert found["used"] == pytest.approx(1.0, rel=0.1)


def test_a_task_under_way_counts_so_far(account: Account) -> None:
    """And what waits for a thread, or is done, does not."""
    with account.cluster("runs") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            futures = client.map(spend, [20.0, 20.1])
            begun = time.monotonic()
            wait_until(lambda: seconds(cluster.report())["used"] > 2, 20)
            assert 2 < seconds(cluster.report())["used"] < time.monotonic() - begun + 0.5
            client.cancel(futures)


def test_closed_clusters_are_remembered_and_shown(account: Account) -> None:
    """A private file of one line each; the command tells of all, and of one by its name."""
    with account.cluster("nothing"):
        pass  # no job: no account
    assert "no cluster" in command()
    for name in ("first", "second"):
        with account.cluster(name, n_workers=1) as cluster:
            cluster.wait_for_workers(1, timeout=30)
    path = account.home / reports.HISTORY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each["cluster"] for each in reports.history()] == ["first", "second"]
    table = command()
    assert "first" in table
    assert "second" in table
    assert "all" in table
    assert "first" not in command("second")
    assert "commands of the batch system: " in command("second")
    [told] = json.loads(command("--json", "--last", "1"))
    assert told == reports.history()[-1]
    assert told["jobs_submitted"] == 1


def test_an_account_that_cannot_be_kept_is_a_warning(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must not hinder the end of a cluster."""
    with account.cluster("full", n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=30)
        (account.home / reports.HISTORY).mkdir()
    assert "the account of cluster full is not kept" in caplog.text
    (account.home / reports.HISTORY).rmdir()
    account.wait_until_nothing_is_left()


def test_the_engine_still_tells_what_a_worker_was_running_as_it_goes(account: Account) -> None:
    """``WorkerState.executing`` outlives the removal: what is lost is read from it."""
    with account.cluster("engine") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=30)
        [state] = cluster.head.scheduler.workers.values()
        with cluster.get_client() as client:
            future = client.submit(spend, 30.0)
            wait_until(lambda: state.executing, 20)
            client.submit(lambda: get_worker().address)  # stays in line
            cluster.scale(0)
            wait_until(lambda: not cluster.head.scheduler.workers, 20)
            assert [task.key for task in state.executing] == [future.key]
            future.cancel()


def test_the_history_is_bounded_and_a_torn_line_is_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older half goes when it is full."""
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "hpc"))
    monkeypatch.setattr(reports, "HISTORY_BYTES", 4000)
    for number in range(200):
        reports.keep({"cluster": f"c{number}", "total": {}, "pools": {}})
        assert (tmp_path / "hpc" / reports.HISTORY).stat().st_size <= 4000
    kept = [each["cluster"] for each in reports.history()]
    assert kept == [f"c{number}" for number in range(200 - len(kept), 200)]
    assert len(kept) >= 40
    with (tmp_path / "hpc" / reports.HISTORY).open("a") as stream:
        stream.write('{"cluster": "to')
    assert len(reports.history()) == len(kept)
