"""A cluster whose size follows its tasks, on the embedded batch system."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from distributed import Client, Event, wait

from dask_hpc.errors import ConfigurationError
from tests.helpers import wait_until

if TYPE_CHECKING:
    from tests.integration.account import Account


def square_after(event: str, number: int) -> int:
    Event(event).wait(60)
    return number * number


def test_from_nothing_to_the_maximum_and_back(account: Account) -> None:
    """A burst has its jobs in the queue within two seconds; without tasks all go."""
    with account.cluster(cores=1, processes=1) as cluster, Client(cluster) as client:
        cluster.adapt(maximum=3, patience="1s", interval="200ms")
        assert cluster.report()["jobs_submitted"] == 0
        go, began = Event("go"), time.monotonic()
        futures = client.map(square_after, ["go"] * 60, range(60), pure=False)
        wait_until(lambda: cluster.report()["jobs_submitted"] > 0, 20)
        assert time.monotonic() - began < 2
        cluster.wait_for_workers(3, timeout=60)
        assert cluster.report()["jobs_submitted"] == 3
        go.set()
        assert sum(client.gather(futures)) == sum(n * n for n in range(60))
        del futures
        wait_until(lambda: not cluster.head.scheduler.workers, 30)
        wait_until(lambda: cluster.head.controller.ledger.live_jobs() == 0, 30)
        assert client.submit(sum, [1, 2]).result() == 3  # and up again
        assert cluster.report()["jobs_submitted"] == 4
    account.wait_until_nothing_is_left()


def test_a_job_with_a_task_is_not_given_up(account: Account) -> None:
    """Fewer are wanted, and those that still compute are spared until they have nothing to do."""
    with account.cluster(cores=1, processes=1) as cluster, Client(cluster) as client:
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        workers = list(client.scheduler_info(n_workers=-1)["workers"])
        held = client.submit(square_after, "end", 3, workers=workers[:1], pure=False)
        wait_until(lambda: client.processing()[workers[0]], 20)
        cluster.adapt(maximum=2, patience=0, interval="100ms")
        wait_until(lambda: len(cluster.head.scheduler.workers) == 1, 30)
        assert list(cluster.head.scheduler.workers) == workers[:1]
        assert not held.done()
        Event("end").set()
        wait(held)
        assert held.result() == 9
        started = cluster.head.scheduler.tasks[held.key].suspicious
        assert started == 0
    account.wait_until_nothing_is_left()


def test_the_users_word_ends_it(account: Account) -> None:
    """After scale() the demand is followed no longer; wrong bounds change nothing."""
    with account.cluster(cores=1, processes=1) as cluster, Client(cluster) as client:
        cluster.adapt(minimum=1, maximum=2, patience=0, interval="100ms")
        cluster.wait_for_workers(1, timeout=60)
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        with pytest.raises(ConfigurationError, match="between 3 and 2"):
            cluster.adapt(minimum=3, maximum=2)
        assert client.submit(sum, [1, 2]).result() == 3
        assert cluster.head.running_workers() == 2
    account.wait_until_nothing_is_left()
