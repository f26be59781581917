"""Jobs go without losing work, on the real batch system."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from distributed import wait
from distributed.core import Status

from dask_hpc import HPCCluster
from dask_hpc.control.drain import MARGIN
from tests.site.beds import BED
from tests.site.slurm import job_state, queue, wait_until

pytestmark = [pytest.mark.timeout(300)]

RUN = secrets.token_hex(2)
SOON = 60


def cluster(name: str) -> HPCCluster:
    options: dict[str, Any] = {"cores": 1, "memory": "500 MiB", "walltime": "10 min", **BED.options}
    return HPCCluster(batch=BED.batch, name=f"{name}-{RUN}", dashboard_port=0, **options)


def jobs(name: str) -> int:
    user = os.environ.get("USER", "")
    return sum(job.startswith(f"{name}-{RUN}-") for job in BED.jobs(user))


def noting(notes: Path, gate: Path) -> Callable[[int], int]:
    """Make a task that notes that it runs, until there is a gate; it travels by value."""

    def task(number: int) -> int:
        with notes.open("a") as file:
            file.write(f"{number}\n")
        while not gate.exists():
            time.sleep(0.1)
        return number

    return task


def runs(notes: Path) -> list[int]:
    return sorted(int(word) for word in notes.read_text().split()) if notes.exists() else []


def test_jobs_that_are_given_up_end_their_tasks_first(tmp_path: Path) -> None:
    """What had not begun goes elsewhere, results are kept, and the batch system sees them end."""
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    with cluster("drained") as c:
        c.scale(jobs=3)
        c.wait_for_workers(3, timeout=180)
        with c.get_client() as client:
            results = client.map(lambda n: n * n, range(100))
            wait(results)
            tasks = client.map(noting(notes, gate), range(20), pure=False)
            wait_until(lambda: len(runs(notes)) == 3, SOON, "each worker runs one")
            down = Thread(target=c.scale, kwargs={"jobs": 1})
            down.start()
            workers = c.head.scheduler.workers
            wait_until(
                lambda: [ws.status for ws in workers.values()].count(Status.running) == 1,
                SOON,
                "two are on their way",
            )
            assert jobs("drained") == 3
            gate.touch()
            wait_until(lambda: jobs("drained") == 1, SOON, "the queue shrinks")
            down.join(SOON)
            assert client.gather(tasks) == list(range(20))
            assert runs(notes) == list(range(20))
            assert client.gather(results) == [n * n for n in range(100)]
        assert (c.head.workers.tasks_rerun, c.head.workers.keys_lost) == (0, 0)


@pytest.mark.slurm
def test_a_thread_that_goes_on_does_not_keep_its_job(tmp_path: Path) -> None:
    """Its task was started elsewhere before a deadline; nothing has to end the job by force."""
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    with cluster("thread") as c:
        c.scale(jobs=2)
        c.wait_for_workers(2, timeout=180)
        with c.get_client() as client:
            task = client.submit(noting(notes, gate), 1)
            wait_until(lambda: runs(notes), SOON, "it runs")
            (worker,) = c.head.workers.busy()
            before = {line.split()[0] for line in queue(f"thread-{RUN}")}
            deadline = time.time() + MARGIN + 1
            left = c.sync(c.head.workers.retire, {worker}, force=False, deadline=deadline)
            assert left == {worker}
            wait_until(
                lambda: before - {line.split()[0] for line in queue(f"thread-{RUN}")},
                SOON,
                "its job ends",
            )
            print(f"\nthe job had ended {deadline - time.time():.1f} s before its deadline")
            (job,) = before - {line.split()[0] for line in queue(f"thread-{RUN}")}
            gate.touch()
            assert task.result(timeout=SOON) == 1
        assert runs(notes) == [1, 1]
        assert c.head.workers.tasks_rerun == 1
        assert job_state(job) == "COMPLETED"
