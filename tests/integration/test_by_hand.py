"""A scheduler and workers by hand: in any order, with names of their own, as secure as any."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from distributed import Client

from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.security import ensure_identity
from tests.helpers import wait_until
from tests.integration import hands
from tests.integration.account import Account

pytestmark = pytest.mark.timeout(90)


def names(client: Client) -> list[str]:
    return sorted(w["name"] for w in client.scheduler_info(n_workers=-1)["workers"].values())


@pytest.fixture
def file(account: Account) -> Path:
    """Where a user has an identity already: plain dask reads of it when it is imported."""
    name_in_dask_config(ensure_identity())
    return account.path / "scheduler.json"


def test_workers_that_were_started_first_wait_for_the_scheduler(file: Path) -> None:
    """And a plain client needs no word about security."""
    worker = (*hands.WORKER, "--scheduler-file", file, "--nthreads", "1", "--memory-limit", "0")
    with ExitStack() as stack:
        early = [stack.enter_context(hands.running(*worker)) for _ in range(2)]
        wait_until(lambda: all(psutil.Process(w.pid).children() for w in early))
        assert [each.poll() for each in early] == [None, None]
        stack.enter_context(hands.running(*hands.SCHEDULER, "--scheduler-file", file))
        hands.there(file)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            assert client.scheduler.address.startswith("tls://")
            assert client.submit(sum, [1, 2]).result() == 3
            assert len(set(names(client))) == 2


def test_workers_of_an_array_are_named_by_host_job_index_and_process(file: Path) -> None:
    """Nobody gave them names, and several may run on one host."""
    worker = (*hands.WORKER, "--scheduler-file", file, "--nthreads", "1", "--memory-limit", "0")
    host = socket.gethostname()
    with ExitStack() as stack:
        stack.enter_context(hands.running(*hands.SCHEDULER, "--scheduler-file", file))
        hands.there(file)
        jobs = [
            stack.enter_context(
                hands.running(*worker, JOB_ID="4711", SGE_TASK_ID=str(index), NSLOTS="1")
            )
            for index in (1, 2)
        ]
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            assert names(client) == sorted(
                f"{host}-4711.{index}-{job.pid}-0" for index, job in enumerate(jobs, 1)
            )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_scheduler_that_is_told_to_end_takes_its_workers_and_its_file_along(
    file: Path, number: signal.Signals
) -> None:
    """Nothing stays in the queue for a scheduler that is gone."""
    with hands.cluster(file, 2) as (scheduler, *workers):
        for worker in workers:
            hands.started(worker)
        scheduler.send_signal(number)
        assert scheduler.wait(20) == 0
        assert not file.exists()
        for worker in workers:
            assert worker.wait(20) == 0


def test_a_worker_that_is_told_to_end_finishes_its_task_and_hands_over_its_data(
    file: Path, tmp_path: Path
) -> None:
    """As in a cluster of ours: the task is not run again elsewhere."""
    with hands.cluster(file, 2) as (_, *workers), Client(scheduler_file=str(file)) as client:
        for worker in workers:
            hands.started(worker)
        told = client.scheduler_info(n_workers=-1)["workers"]
        address = next(a for a, w in told.items() if f"-{workers[0].pid}-" in w["name"])
        data = client.scatter({"x": [1, 2, 3]}, workers=[address])["x"]
        gate = tmp_path / "gate"
        task = client.submit(
            gated, str(gate), str(tmp_path / "begun"), workers=[address], allow_other_workers=True
        )
        wait_until((tmp_path / "begun").exists)
        workers[0].terminate()
        assert workers[0].stderr is not None
        assert any("workers leave" in line for line in workers[0].stderr)
        gate.touch()
        assert task.result(timeout=20) == 1
        assert workers[0].wait(20) == 128 + signal.SIGTERM
        assert data.result(timeout=20) == [1, 2, 3]


def gated(gate: str, begun: str) -> int:
    """Compute until a file is there; how often that was begun."""
    with Path(begun).open("a") as runs:
        runs.write("x")
    while not Path(gate).exists():
        time.sleep(0.02)
    return len(Path(begun).read_text())


def test_an_idle_worker_that_is_told_to_end_does_so_at_once(file: Path) -> None:
    """Even the last one: nobody needs to come for what it does not hold."""
    with hands.cluster(file, 1) as (_, worker):
        hands.started(worker)
        worker.terminate()
        assert worker.wait(20) == 128 + signal.SIGTERM
        assert worker.stderr is not None
        assert not any("in time" in line for line in worker.stderr)
