"""A head that was killed is started anew, and takes over its jobs: real processes, local batch."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client

from dask_hpc import HPCCluster
from dask_hpc.cluster.known import find
from dask_hpc.control.journal import Journal, read
from dask_hpc.control.revival import MOST, RESTART
from dask_hpc.errors import RendezvousError, UnknownCluster
from tests.helpers import wait_until
from tests.integration.account import Account, kill

pytestmark = pytest.mark.timeout(120)


class Held:
    """A cluster of four jobs with two workers each, whose head is another process."""

    def __init__(self, account: Account) -> None:
        self.directory = account.home / "out"
        size = {"cores": 2, "processes": 2, "memory": "1000 MiB"}
        with account.cluster("out", head="detached", n_workers=8, **size) as cluster:
            cluster.wait_for_workers(8, timeout=60)

    def head(self) -> psutil.Process | None:
        """The process that is the head, if one has come up and lives."""
        try:
            known = find("out")
        except (UnknownCluster, RendezvousError):
            return None
        return psutil.Process(known.pid) if known.alive else None

    def next_head(self, old: psutil.Process) -> psutil.Process:
        """The one that the guardian of the last has started."""
        wait_until(lambda: (new := self.head()) is not None and new.pid != old.pid, 60)
        new = self.head()
        assert new is not None
        return new

    def kill_head(self) -> psutil.Process:
        old = self.head()
        assert old is not None
        kill(old.pid)
        return old

    def events(self) -> Counter[str]:
        return Counter(event["event"] for event in read(self.directory / "journal.jsonl"))

    def attach(self) -> HPCCluster:
        cluster = HPCCluster.attach("out")
        cluster.wait_for_workers(8, timeout=60)
        return cluster


@pytest.fixture
def held(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "8")
    held = Held(account)
    yield held
    (held.directory / RESTART).unlink(missing_ok=True)  # or its end would start another


def names(client: Client) -> list[str]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sorted(worker["name"] for worker in workers)


def test_a_killed_head_comes_back_and_takes_over_its_busy_jobs(
    account: Account, held: Held
) -> None:
    """The same jobs, their workers under their old names; none is submitted, none is left."""
    with held.attach() as cluster, cluster.get_client() as client:
        before, jobs = names(client), account.jobs()
        cluster.add_pool("more", cores=1, memory="100 MiB")
        cluster.scale(1, pool="more")
        cluster.scale(0, pool="more")
        wait_until(lambda: held.events()["account"] and held.events()["ended"])
        opened, cost = cluster.report()["opened"], cluster.report()["pools"]["more"]["jobs"]
        busy = client.map(time.sleep, range(600, 608))
        wait_until(lambda: all(client.processing().values()))
        held.next_head(held.kill_head())
        del busy
    with held.attach() as cluster, cluster.get_client() as client:
        assert names(client) == before
        assert {job.pid for job in account.jobs()} == {job.pid for job in jobs}
        assert client.gather(client.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        assert cluster.pools == ("default", "more")
        assert "4 wanted: 4 running" in repr(cluster)
        events = held.events()
        assert (events["intended"], events["opened"], events["restarting"]) == (2, 2, 1)
        assert cost["submitted"] == 1
        assert cluster.report()["pools"]["more"]["jobs"] == cost
        assert cluster.report()["opened"] == pytest.approx(opened, abs=10)
        assert "takes over 4 jobs" in (held.directory / "head.log").read_text()
        cluster.shutdown()
    account.wait_until_nothing_is_left(40)


def test_jobs_that_ended_while_there_was_no_head_are_replaced(account: Account, held: Held) -> None:
    """As many as are missing; the others stay. A size that follows the tasks goes on to do so."""
    with HPCCluster.attach("out") as cluster:
        cluster.adapt(minimum_jobs=4, maximum_jobs=4)
        wait_until(lambda: held.events()["wanted"] == 2)
    jobs = account.jobs()
    (guardian,) = (p for p in account.processes() if "dask_hpc.control.reaper" in p.cmdline())
    guardian.suspend()
    old = held.kill_head()
    kill(jobs[0].pid)
    wait_until(lambda: not jobs[0].is_running())
    guardian.resume()
    held.next_head(old)
    with held.attach() as cluster:
        assert len(account.jobs()) == 4
        assert {job.pid for job in jobs[1:]} < {job.pid for job in account.jobs()}
        assert held.events()["intended"] == 2
        cluster.shutdown()
    account.wait_until_nothing_is_left(40)


def test_where_the_guardian_died_too_its_user_has_the_jobs_taken_over(
    account: Account, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of the machine; two that try do not both, and none while a head lives."""
    revive = [sys.executable, "-m", "dask_hpc", "revive", "out"]
    told = subprocess.run(revive, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert "the head of cluster out lives: process" in told.stderr
    jobs = account.jobs()
    (guardian,) = (p for p in account.processes() if "dask_hpc.control.reaper" in p.cmdline())
    kill(guardian.pid)
    old_place = psutil.Process(find("out").pid).cwd()
    old = held.kill_head()
    wait_until(lambda: not old.is_running())
    monkeypatch.chdir("/")
    pipes = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    commands = [subprocess.Popen(revive, **pipes) for _ in range(2)]
    said = {each.returncode: out for each in commands for out in [each.communicate(timeout=60)]}
    assert said.keys() == {0, 1}
    assert said[0][0].startswith("cluster out has a new head: 4 wanted: ")
    assert re.search("a cluster out runs already|the head of cluster out lives", said[1][1])
    new = held.next_head(old)
    assert new.cwd() == old_place
    with held.attach() as cluster:
        assert {job.pid for job in account.jobs()} == {job.pid for job in jobs}
        assert held.events()["opened"] == 2
        cluster.shutdown()
    account.wait_until_nothing_is_left(40)


def test_the_next_head_has_jobs_of_the_shape_that_the_first_has_chosen(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch system is not asked anew: the jobs that live are of that shape."""
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "2")
    shapes = [{"cores": 2, "memory": "200 MiB"}]
    with account.cluster("out", head="detached", cores=8, shapes=shapes) as cluster:
        script = cluster.job_script()
        assert "--cores=2" in script
        old = psutil.Process(find("out").pid)
        kill(old.pid)
    wait_until(lambda: find("out").alive and find("out").pid != old.pid, 60)
    with HPCCluster.attach("out") as cluster:
        assert cluster.job_script() == script
        cluster.shutdown()
    account.wait_until_nothing_is_left(40)


def test_a_head_that_cannot_come_back_leaves_nothing(account: Account, held: Held) -> None:
    """Its guardian tries, three times an hour at most, and then clears away."""
    journal = Journal(held.directory / "journal.jsonl")
    for _ in range(MOST - 1):
        journal.append("restarting", at=time.time())
    journal.close()
    (held.directory / "wanted.json").write_text("broken")
    held.kill_head()
    wait_until(lambda: held.events()["closed"], 60)
    assert held.events()["restarting"] == MOST
    wait_until(lambda: not account.processes(), 30)
    assert not Path(held.directory, "scheduler.json").exists()
