"""A head's job that waits in the queue is its user's to see, whoever submitted it: local batch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from dask_hpc import HPCCluster
from dask_hpc.cluster.directory import HEAD_JOB
from dask_hpc.cluster.known import Known, clusters, find
from dask_hpc.errors import HeadUnreachable, UnknownCluster
from tests.helpers import wait_until
from tests.integration.account import Account

pytestmark = pytest.mark.timeout(120)

COMMAND = (sys.executable, "-m", "dask_hpc")
UP = ("up", "--batch", "local", "--cores", "1", "--memory", "500 MiB", "--name", "later")


def call(*arguments: str) -> tuple[int, str]:
    """Run `dask-hpc ARGUMENTS` to its end: its exit code, and what it prints."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def rows() -> list[dict[str, Any]]:
    """What `dask-hpc ls` lists."""
    found: list[dict[str, Any]] = json.loads(call("ls", "--json")[1])
    return found


def waiting() -> Known | None:
    """The cluster whose head's job the batch system has."""
    try:
        known = find("later")
    except UnknownCluster:
        return None
    return known if known.pending and known.head_job else None


def submitted_from_a_terminal_that_is_gone() -> Known:
    """Bring it up, and kill the command once the job is in the queue."""
    words = [*COMMAND, *UP, "--head", "job", "--option", "dashboard_port=0", "--jobs", "1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        known = wait_until(waiting)
        command.kill()
    assert known is not None
    return known


def test_a_head_that_waits_is_seen_and_called_off_and_comes_up_by_itself(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `ls`, `status`, `attach`, `up` and `down`, after the command that submitted it is gone."""
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "1")
    with account.cluster("first", n_workers=1) as first:
        first.wait_for_workers(1, timeout=60)
        known = submitted_from_a_terminal_that_is_gone()
        line = f"its head's job {known.head_job} waits in the queue"
        first_row, later_row = sorted(rows(), key=lambda row: str(row["name"]))
        assert (first_row["status"], later_row["status"]) == ("running", "pending")
        assert later_row["line"].startswith(line)
        assert find(f"local:{known.head_job}") == known
        code, said = call("status", "later")
        assert code == 3
        assert line in said
        with pytest.raises(HeadUnreachable, match=line):
            HPCCluster.attach("later")
        code, said = call(*UP)
        assert code == 1
        assert f"a cluster later is on its way already: {line}" in said

        assert call("down", "later") == (
            0,
            "cluster later is called off: the job of its head is cancelled\n",
        )
        assert [each.name for each in clusters()] == ["first"]
        assert not known.directory.exists()
        submitted_from_a_terminal_that_is_gone()
    row = wait_until(lambda: next((r for r in rows() if r["status"] == "running"), None), 60)
    assert row is not None
    assert row["name"] == "later"
    assert row["jobs"] == {"pending": 1}, "the head itself knows what was asked for"
    wait_until(lambda: not (known.directory / HEAD_JOB).exists())
    assert call("down", "later")[0] == 0
    account.wait_until_nothing_is_left()


@pytest.mark.parametrize("place", ["detached", "job"])
def test_a_cluster_whose_jobs_are_refused_is_ended(account: Account, place: str) -> None:
    """The batch system's words are the error."""
    bad = ("--option", 'job_extra_directives=["--nosuch"]')
    code, said = call(*UP, "--jobs", "2", *bad, "--head", place)
    assert code == 1
    assert "--nosuch" in said
    account.wait_until_nothing_is_left()
