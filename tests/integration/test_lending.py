"""A head in a job whose node may not submit: who is connected from elsewhere runs its commands."""

from __future__ import annotations

from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from dask_hpc import HPCCluster
from dask_hpc.cli.entry import hpc
from dask_hpc.cluster import bring_up
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.known import find
from dask_hpc.control.journal import Recorded, read, submissions
from dask_hpc.errors import BatchSystemMissing, ConfigurationError
from tests.helpers import wait_until
from tests.integration.account import Account

pytestmark = pytest.mark.timeout(90)

#: In the head's job the batch system's commands do not work.
MUTE = {
    "submits": False,
    "memory": "1 GiB",
    "job_script_prologue": ["export DASK_HPC_LOCAL=/dev/null/nowhere"],
}


def submitted(account: Account) -> list[Recorded]:
    """What the journal of the cluster has, with an id."""
    found = submissions(read(account.home / "out" / "journal.jsonl")).values()
    return [each for each in found if each.array is not None]


def test_jobs_are_submitted_by_who_is_connected(account: Account) -> None:
    """From the start, by whoever attaches later, and cancelled by who ends it; else it says so."""
    with account.cluster("out", head="job", head_options=MUTE, n_workers=1) as cluster:
        with cluster.get_client() as client:
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        assert [each.count for each in submitted(account)] == [1, 1]
    alone = HeadClient(find("out"))  # lends nothing
    with pytest.raises(BatchSystemMissing, match=r"nobody is there(?s:.)*-> attach to the cluster"):
        alone.scale(3)
    view = alone.view()
    assert "nobody is there to run" in view["problem"]
    assert view["pools"]["default"]["workers"] == 2
    with HPCCluster.attach("out") as again:
        again.scale(3)
        again.wait_for_workers(3, timeout=60)
        again.shutdown()
    account.wait_until_nothing_is_left()


def test_a_head_that_ends_with_nobody_connected_leaves_no_worker(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed, and so end their jobs; of those that wait, the next login disposes."""
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "2")  # the head's job and one more
    with account.cluster("out", head="job", head_options=MUTE, n_workers=2) as cluster:
        cluster.wait_for_workers(1, timeout=60)
        head = psutil.Process(find("out").pid)
    head.terminate()
    wait_until(lambda: not (account.home / "out" / "scheduler.json").exists(), 60)
    assert [each.over for each in submitted(account)] == [False]
    again = CliRunner().invoke(hpc, ["down", "out"])
    assert again.output == "what cluster out left is cleared away: its head had died\n"
    assert CliRunner().invoke(hpc, ["down", "out"]).exit_code == 3
    account.wait_until_nothing_is_left()


def test_an_interruption_takes_back_what_was_submitted(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head's job and, from here, those of its workers."""
    seen: list[Recorded] = []

    class Interrupted(HeadClient):
        def view(self, *, jobs: bool = True) -> Any:
            seen.extend(submitted(account))
            if seen:
                raise KeyboardInterrupt
            return super().view(jobs=jobs)

    monkeypatch.setattr(bring_up, "HeadClient", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        bring_up.bring_up(
            {"batch": "local", "cores": 1, "memory": "500 MiB", "dashboard_port": 0},
            name="out",
            n_workers=2,
            head="job",
            head_options=MUTE,
        )
    assert seen[0].count == 2
    account.wait_until_nothing_is_left()


def test_what_cannot_be_is_refused_at_once(account: Account) -> None:
    """A setting that is neither yes nor no; shapes, of which the batch system would be asked."""
    with pytest.raises(ConfigurationError, match="submits='perhaps' is neither true nor false"):
        account.cluster("out", head="job", head_options={"submits": "perhaps"})
    with pytest.raises(ConfigurationError, match="cannot choose among shapes"):
        account.cluster("out", head="job", head_options=MUTE, shapes=[{"cores": 2}])
    assert account.left() == []
