"""A detached head is killed while its workers are busy; the next one takes over, on real Slurm."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections import Counter

import pytest
from distributed import Client

from dask_hpc import HPCCluster
from dask_hpc.cluster.known import Known, find
from dask_hpc.control.journal import read
from tests.site.slurm import queue, submitted, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]

JOBS, WORKERS = 8, 16


def cluster(name: str) -> HPCCluster:
    size = {"cores": 2, "processes": 2, "memory": "600 MiB", "walltime": "10 min"}
    return HPCCluster(batch="slurm", name=name, head="detached", dashboard_port=0, **size)


def names(client: Client) -> list[str]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sorted(worker["name"] for worker in workers)


def kill_head(name: str) -> Known:
    """Kill it; the next one, as soon as it is known."""
    old = find(name)
    os.kill(old.pid, signal.SIGKILL)
    wait_until(lambda: (new := find(name)).alive and new.pid != old.pid, 60, "a new head is there")
    return find(name)


def test_a_killed_head_comes_back_to_sixteen_busy_workers() -> None:
    """The same jobs run on, whose workers join under their names; no job is doubled or orphaned."""
    name = f"adopt-{secrets.token_hex(2)}"
    with cluster(name) as first:
        first.scale(jobs=JOBS)
        first.wait_for_workers(WORKERS, timeout=120)
        with first.get_client() as client:
            before, jobs = names(client), sorted(queue(name))
            busy = client.map(time.sleep, range(900, 900 + WORKERS))
            wait_until(lambda: all(client.processing().values()), 30, "all are busy")
            began = time.monotonic()
            kill_head(name)
            came = time.monotonic() - began
            del busy
    with HPCCluster.attach(name) as again:
        again.wait_for_workers(WORKERS, timeout=120)
        joined = time.monotonic() - began
        print(f"\nkill -9 of the head: the next one after {came:.1f} s, all workers {joined:.1f} s")
        with again.get_client() as client:
            assert names(client) == before
            assert client.submit(sum, client.map(abs, range(-100, 0))).result(timeout=60) == 5050
        assert sorted(queue(name)) == jobs
        again.scale(jobs=JOBS - 2)
        wait_until(lambda: len(queue(name)) == JOBS - 2, 60, "two jobs are given up")
        events = Counter(each["event"] for each in read(again.directory.journal))
        assert (events["intended"], events["opened"]) == (1, 2)
        again.shutdown()
    wait_until(lambda: not queue(name), 60, "the queue is empty")
    assert sum(submitted(name).values()) == JOBS


def test_jobs_that_wait_find_the_next_head() -> None:
    """They start when there is none, and join the one that comes."""
    name = f"adopt-{secrets.token_hex(2)}"
    with cluster(name) as first:
        first.scale(jobs=2)
        wait_until(lambda: queue(name), 30, "the jobs are in the queue")
        kill_head(name)
    with HPCCluster.attach(name) as again:
        again.wait_for_workers(4, timeout=120)
        assert len(queue(name)) == 2
        again.shutdown()
    wait_until(lambda: not queue(name), 60, "the queue is empty")
    assert sum(submitted(name).values()) == 2
