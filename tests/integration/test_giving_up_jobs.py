"""Jobs that are given up while they compute, on the embedded batch system."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Client
from distributed.core import Status

from tests.helpers import wait_until
from tests.integration.test_draining import held

if TYPE_CHECKING:
    from tests.integration.account import Account


def test_a_job_that_is_given_up_ends_its_task_first(account: Account, tmp_path: Path) -> None:
    """And hands its results over; nothing runs twice."""
    notes = tmp_path / "notes"
    with account.cluster(cores=1, processes=1) as cluster, Client(cluster) as client:
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        scheduler = cluster.head.scheduler
        results = client.map(abs, range(-10, 0))
        assert sum(client.gather(results)) == 55
        tasks = client.map(held, [str(notes)] * 2, ["one", "two"], pure=False)
        wait_until(lambda: notes.exists() and len(notes.read_text().split()) == 2)
        giving_up = threading.Thread(target=cluster.scale, args=(1,))
        giving_up.start()
        wait_until(
            lambda: any(ws.status is Status.closing_gracefully for ws in scheduler.workers.values())
        )
        for name in ("one", "two"):
            Path(f"{notes}-go-{name}").touch()
        wait_until(lambda: len(scheduler.workers) == 1)
        wait_until(lambda: cluster.head.controller.ledger.live_jobs() == 1)
        giving_up.join(10)
        assert client.gather(tasks) == ["one", "two"]
        assert sorted(notes.read_text().split()) == ["one", "two"]
        assert sum(client.gather(results)) == 55
        assert (cluster.head.workers.tasks_rerun, cluster.head.workers.keys_lost) == (0, 0)
    assert cluster.head.workers.keys_lost == 0  # nor are those that go at the end
    account.wait_until_nothing_is_left()
