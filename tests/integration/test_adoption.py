"""A head that was killed is started anew, and takes over its jobs: real processes, local batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client

from dask_hpc.cluster.security import engine_security, ensure_identity
from dask_hpc.control.journal import read
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from tests.helpers import wait_until
from tests.integration.account import Account, kill

pytestmark = pytest.mark.timeout(120)

PROGRAM = Path(__file__).parent / "programs" / "coming_head.py"


class Cluster:
    """A cluster of four jobs with two workers each, whose head is another process."""

    def __init__(self, account: Account, tls: TLSFiles) -> None:
        self.tls = tls
        self.directory = account.home / "script"
        self.file = self.directory / "scheduler.json"
        self.first = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(self.file.exists, 30)

    def client(self) -> Client:
        """All eight workers have joined."""
        client = Client(rendezvous.read(self.file).address, security=engine_security(self.tls))
        client.wait_for_workers(8, timeout=60)
        return client

    def head(self) -> psutil.Process | None:
        """The process that runs as the head, if it has come up."""
        try:
            process = psutil.Process(rendezvous.read(self.file).pid)
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def kill_head(self) -> psutil.Process:
        """Kill it; the one that then comes, started by the guardian of the first."""
        old = self.head()
        assert old is not None
        old.kill()
        self.first.poll()
        wait_until(lambda: (new := self.head()) is not None and new.pid != old.pid, 60)
        new = self.head()
        assert new is not None
        return new

    def events(self) -> Counter[str]:
        return Counter(event["event"] for event in read(self.directory / "journal.jsonl"))


@pytest.fixture
def cluster(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name, value in {
        "DASK_HPC_LOCAL_SLOTS": "8",
        "HEAD_NAME": "script",
        "HEAD_JOBS": "4",
        "HEAD_BATCH": "local",
    }.items():
        monkeypatch.setenv(name, value)
    held = Cluster(account, ensure_identity())
    yield held
    (held.directory / "restart.json").unlink(missing_ok=True)  # or its end would start another
    held.first.kill()
    held.first.wait()


def names(client: Client) -> list[str]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sorted(worker["name"] for worker in workers)


def test_a_killed_head_comes_back_and_takes_over_its_busy_jobs(
    account: Account, cluster: Cluster
) -> None:
    """The same jobs, their workers under their old names; none is submitted, none is left."""
    with cluster.client() as client:
        before, jobs = names(client), account.jobs()
        futures = client.map(time.sleep, range(600, 608))
        wait_until(lambda: all(client.processing().values()))
        del futures
        new = cluster.kill_head()
    with cluster.client() as client:
        assert names(client) == before
        assert {job.pid for job in account.jobs()} == {job.pid for job in jobs}
        assert client.gather(client.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    events = cluster.events()
    assert (events["intended"], events["opened"], events["restarting"]) == (1, 2, 1)
    new.send_signal(signal.SIGTERM)
    account.wait_until_nothing_is_left(40)


def test_jobs_that_ended_while_there_was_no_head_are_replaced(
    account: Account, cluster: Cluster
) -> None:
    """As many as are missing, and the others stay."""
    cluster.client().close()
    jobs = account.jobs()
    (guardian,) = (p for p in account.processes() if "dask_hpc.control.reaper" in p.cmdline())
    guardian.suspend()
    os.kill(cluster.first.pid, signal.SIGKILL)
    cluster.first.wait()
    kill(jobs[0].pid)
    wait_until(lambda: not jobs[0].is_running())
    guardian.resume()
    wait_until(lambda: (new := cluster.head()) is not None and new.pid != cluster.first.pid, 60)
    cluster.client().close()
    assert {job.pid for job in jobs[1:]} < {job.pid for job in account.jobs()}
    assert len(account.jobs()) == 4
    new = cluster.head()
    assert new is not None
    new.send_signal(signal.SIGTERM)
    account.wait_until_nothing_is_left(40)
