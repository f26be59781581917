"""The view of a cluster: what its head knows, as plain values."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace

import pytest

from dask_hpc.cluster.view import STATES, HeadPlace, job_rows, jobs_line, view
from dask_hpc.control.demand import Bounds
from dask_hpc.control.notices import FAILURES
from dask_hpc.errors import BatchSystemUnavailable, HPCError, JobStartError
from dask_hpc.model.job import JobState, JobStatus
from tests.unit.heads import EPOCH, POOLS, RUNS, Watch, controller, head, see, submit


def test_each_live_job_is_a_row_with_the_times_that_are_known() -> None:
    """One that waits has an estimate, one that runs a start and a deadline; the ended are gone."""
    watch = Watch()
    made = controller(watch)
    submit(made, "c-1a", 4, walltime=600.0)
    watch.now = 160.0
    see(
        made,
        j0=JobStatus(JobState.PENDING, "Priority", start=EPOCH + 900),
        j1=JobStatus(JobState.HELD, "JobHeldUser"),
        j2=replace(RUNS, start=EPOCH + 150),
        j3=JobStatus(JobState.COMPLETED),
    )
    made.worker_joined("c-1a-2-0")
    pending, held, running = job_rows(made)
    assert pending == {
        "id": "7_0",
        "name": "c-1a-0",
        "pool": "default",
        "state": "pending",
        "reason": "Priority",
        "node": "",
        "workers": 0,
        "submitted": EPOCH + 100,
        "starts": EPOCH + 900,
        "started": None,
        "deadline": None,
        "log": "/logs/c-1a-0.log",
    }
    assert (held["state"], held["reason"]) == ("held", "JobHeldUser")
    assert (running["state"], running["node"], running["workers"]) == ("running", "n1", 1)
    assert (running["started"], running["starts"]) == (EPOCH + 150, None)
    assert running["deadline"] == EPOCH + 750


def test_a_job_of_which_nobody_knows_whether_it_exists_has_no_id() -> None:
    """Its submit command did not answer."""
    made = controller()
    submit(made, "c-1a", 1, array=None)
    [row] = job_rows(made)
    assert (row["id"], row["state"]) == ("", "in doubt")


def test_every_state_of_a_live_job_has_its_word() -> None:
    """Given up, ending, started without workers."""
    made = controller()
    submit(made, "c-1a", 3)
    see(made, j0=RUNS, j1=JobStatus(JobState.ENDING), j2=RUNS)
    made.ledger.leave([key for key in made.ledger.statuses() if key.index == 2], 1.0)
    rows = list(job_rows(made))
    assert [row["state"] for row in rows] == ["starting", "ending", "leaving"]
    assert {row["state"] for row in rows} <= set(STATES)


def test_a_worker_that_is_quicker_than_the_listing_counts() -> None:
    """The job runs, whatever was seen of it: no reason, no estimate."""
    made = controller()
    submit(made, "c-1a", 1)
    see(made, j0=JobStatus(JobState.PENDING, "Priority", start=EPOCH + 900))
    made.worker_joined("c-1a-0-0")
    [row] = job_rows(made)
    assert (row["state"], row["reason"], row["starts"]) == ("running", "", None)
    assert row["started"] == EPOCH + 100
    assert jobs_line(made) == "1 wanted: 1 running"


def test_the_view_is_plain_values() -> None:
    """It goes through JSON and back, and says what a person asks."""
    made = controller(pools=dict(POOLS))
    submit(made, "c-1a", 2)
    see(made, j0=RUNS, j1=JobStatus(JobState.PENDING, "Priority", start=EPOCH + 9))
    found = view(
        head(
            made,
            adapting=lambda: {"wide": Bounds(1, None)},
            where=HeadPlace("job", "12", EPOCH + 1),
        )
    )
    assert json.loads(json.dumps(found)) == {**found, "failures": []}
    assert found["pools"] == {
        "default": {
            "wanted": 2,
            "adapting": None,
            "jobs": {"pending": 1, "starting": 1},
            "reasons": ["Priority"],
            "starts": EPOCH + 9,
            "workers": 3,
            "workers_per_job": 2,
            "cores_per_job": 4,
            "memory_per_job": 2**30,
        },
        "wide": {
            "wanted": 0,
            "adapting": {"minimum": 1, "maximum": None},
            "jobs": {},
            "reasons": [],
            "starts": None,
            "workers": 3,
            "workers_per_job": 2,
            "cores_per_job": 8,
            "memory_per_job": None,
        },
    }
    assert found["line"] == (
        "default 2 wanted: 1 starting, 1 pending (Priority); wide 0 wanted: none"
    )
    assert found["dashboard"] == "http://127.0.0.1:8787/status"
    assert (found["head"], found["head_job"], found["head_deadline"]) == ("job", "12", EPOCH + 1)
    assert (found["name"], found["batch"], found["status"]) == ("c", "slurm", "running")
    assert found["host"] == socket.gethostname()
    assert found["core_hours"].keys() == {"allocated", "used", "idle", "lost"}
    assert len(found["jobs"]) == 2
    assert view(head(made), jobs=False)["jobs"] == []


def test_the_line_says_what_is_wrong() -> None:
    """Silence, a limit, failures; held jobs are pending, and why."""
    made = controller()
    submit(made, "c-1a", 2)
    see(made, j0=JobStatus(JobState.HELD, "JobHeldUser"), j1=JobStatus(JobState.PENDING))
    assert jobs_line(made) == "2 wanted: 2 pending (held: JobHeldUser)"
    made.silence(BatchSystemUnavailable("squeue timed out"))
    made.submitter.limited = "QOSMaxSubmitJobPerUserLimit"
    made.report(HPCError("no"))
    assert jobs_line(made).endswith(
        "; no answer from the batch system: squeue timed out"
        "; no more are accepted: QOSMaxSubmitJobPerUserLimit; stopped after failures"
    )


def test_the_last_failures_are_remembered_with_their_time() -> None:
    """A bounded number of them, whether the user has to mend them or not."""
    watch = Watch()
    made = controller(watch)
    for each in range(FAILURES):
        watch.now = 200.0 + each
        made.failed(JobStartError(f"failure {each}", hint="do this"))
    made.report(HPCError("the last"))
    found = view(head(made))
    assert len(found["failures"]) == FAILURES
    assert found["failures"][0] == (EPOCH + 201, "failure 1\n  -> do this")
    assert found["failures"][-1][1] == found["problem"] == "the last"


async def test_changes_count_up() -> None:
    """Who has seen so many knows whether there were more, though others wait on the same event."""
    made = controller()
    submit(made, "c-1a", 1)
    before = view(head(made))["changes"]
    made.worker_joined("c-1a-0-0")
    made.changed.clear()  # another one who waits
    assert view(head(made))["changes"] == before + 1
    made.silence(BatchSystemUnavailable("squeue timed out"))
    assert view(head(made))["changes"] == before + 2
    made.want({"default": 5})
    assert view(head(made))["changes"] == before + 3
    made.want({"default": 5})
    assert view(head(made))["changes"] == before + 3
    async with asyncio.timeout(1):
        await made.changed.wait()


@pytest.mark.parametrize("state", ["closing", "closed"])
def test_a_cluster_that_closes_says_so(state: str) -> None:
    """By its scheduler's state."""
    made = head(controller())
    made.scheduler.status.name = state
    assert view(made)["status"] == "closing"


def test_ten_thousand_jobs_are_seen_quickly() -> None:
    """Counts in less than 50 ms of CPU, each job in less than 200: a command asks as it likes."""
    made = controller()
    submit(made, "c-1a", 10_000)
    waits = JobStatus(JobState.PENDING, "Priority", start=EPOCH)
    see(made, **{f"j{i}": RUNS if i % 2 else waits for i in range(10_000)})
    seen = head(made)
    spent = {}
    for jobs in (False, True):
        tries = []
        for _ in range(5):
            began = time.thread_time()
            found = view(seen, jobs=jobs)
            tries.append(time.thread_time() - began)
        spent[jobs] = min(tries)
        assert len(found["jobs"]) == 10_000 * jobs
    print(spent)
    assert spent[False] < 0.05
    assert spent[True] < 0.2
