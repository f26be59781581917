"""What every batch system must do, on the real one, as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from distributed import wait

from dask_hpc import HPCCluster
from dask_hpc.batch.client import BatchClient
from dask_hpc.control.controller import Controller
from dask_hpc.control.journal import Journal
from dask_hpc.control.ports import Place
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import HPCError, JobStartError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool
from tests.site.beds import BED, long_except
from tests.site.slurm import counted_commands, run, wait_until

pytestmark = [pytest.mark.timeout(300)]

#: Batch systems remember jobs for minutes: names that are counted differ from run to run.
RUN = secrets.token_hex(2)
USER = os.environ.get("USER", "")
#: Seconds until a job runs or has left the queue; OAR's scheduler takes its time.
SOON = 60


def cluster(name: str, **options: Any) -> HPCCluster:
    asked = {"cores": 1, "memory": "500 MiB", "walltime": "10 min", **BED.options, **options}
    return HPCCluster(batch=BED.batch, name=f"{name}-{RUN}", dashboard_port=0, **asked)


def jobs(name: str) -> int:
    """Live jobs of one cluster, as the batch system itself lists them."""
    return sum(job.startswith(f"{name}-{RUN}-") for job in BED.jobs(USER))


# -- the main job -----------------------------------------------------------------------------


def test_the_demo_runs_and_leaves_nothing() -> None:
    """The same program as on a laptop, through the queue."""
    words = run("dask-hpc", "demo", "--batch", BED.batch, timeout=240)
    assert "336,776" in words
    wait_until(lambda: not any("demo" in j for j in BED.jobs(USER)), SOON, "the queue is empty")


def test_twenty_jobs_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One submission, a computation, down with every result kept, the queue empty."""
    with counted_commands(tmp_path, monkeypatch, BED.programs) as commands:
        with cluster("twenty") as c:
            c.scale(jobs=20)
            c.wait_for_workers(20, timeout=180)
            assert jobs("twenty") == 20
            with c.get_client() as client:
                futures = client.map(lambda n: n * n, range(100))
                wait(futures)
                c.scale(jobs=5)
                wait_until(lambda: jobs("twenty") == 5, SOON, "the queue shrinks")
                assert client.gather(futures) == [n * n for n in range(100)]
            assert len(c.get_logs(cluster=False, scheduler=False, workers=False)) == 20
        wait_until(lambda: jobs("twenty") == 0, SOON, "the queue is empty")
    print(f"\n{BED.batch}: 20 jobs up, 15 down, closed:", dict(commands))
    assert commands[BED.programs[0]] == 1
    assert commands[BED.programs[2]] <= 2


# -- failures explain themselves --------------------------------------------------------------


def test_a_bad_queue_is_refused_in_the_systems_own_words() -> None:
    """scale() raises at once, and nothing is tried again."""
    with cluster("refused", **BED.bad_queue) as c:
        with pytest.raises(SubmitRejected, match=BED.bad_queue_words):
            c.scale(1)
        assert jobs("refused") == 0


def test_a_job_that_can_never_run_is_reported_within_two_polls() -> None:
    """Refused at once, or accepted and found out: nobody waits for ever."""
    with cluster("never", **BED.never) as c:
        with pytest.raises((JobStartError, SubmitRejected), match=BED.never_words):  # noqa: PT012
            c.scale(1)
            c.wait_for_workers(1, timeout=30)
        assert c.head.client.commands[BED.programs[1]] <= 2


def test_a_script_that_fails_is_explained() -> None:
    """With its exit code, where it ran and what it wrote."""
    with cluster("broken", job_script_prologue=["echo the licence server said no", "exit 3"]) as c:
        c.scale(3)
        with pytest.raises(JobStartError, match="licence server") as caught:
            c.wait_for_workers(1, timeout=SOON)
        if BED.tells_exit_code:
            assert "exit code 3" in str(caught.value)
    shutil.rmtree(c.log_directory)


def test_memory_is_named_when_it_kills() -> None:
    """A prologue eats the job's memory: the cause is memory, not a script that failed."""
    eat = f"{sys.executable} -c 'x = bytearray(1500 << 20); import time; time.sleep(30)'; exit 1"
    with cluster("eats", job_script_prologue=[eat], **BED.memory_hog) as c:
        c.scale(3)
        with pytest.raises(JobStartError, match=r"more memory|out of memory"):
            c.wait_for_workers(1, timeout=2 * SOON)
    shutil.rmtree(c.log_directory)


@long_except("slurm")
def test_walltime_is_named_when_it_kills() -> None:
    """Workers never join within the job's minute: the cause is the walltime."""
    with cluster("late", walltime=BED.walltime, job_script_prologue=["sleep 600"]) as c:
        c.scale(3)
        with pytest.raises(JobStartError, match="at its walltime"):
            c.wait_for_workers(1, timeout=240)
    shutil.rmtree(c.log_directory)


# -- the driver against the real commands -----------------------------------------------------


class Jobs:
    """Arrays of a small script, through the driver and the client."""

    def __init__(self, directory: Path, command: str, **spec: Any) -> None:
        self.client = BatchClient(driver(BED.batch))
        self.spec = JobSpec(
            **{
                "command": ("sh", "-c", command),
                "cores": 1,
                "memory": 100 << 20,
                "walltime": 600,
                "log_directory": directory,
                "options": {
                    k: v for k, v in BED.options.items() if k in self.client.driver.OPTIONS
                },
                **spec,
            }
        )
        self.script = directory / "job.sh"
        self.script.write_text(job_script(self.spec, self.client.driver))
        self.name = f"raw-{secrets.token_hex(4)}"

    async def submit(self, count: int) -> str:
        submission = Submission(self.name, count, self.client.driver.first_index)
        return await self.client.submit(submission, self.spec, self.script)

    async def until(
        self, array: str, state: JobState, count: int, exit_code: int | None = None
    ) -> list[JobStatus]:
        """Look until so many jobs are in a state, in the listing or in the history."""
        async with asyncio.timeout(SOON):
            while True:
                seen = dict((await self.client.query({self.name: array})).jobs)
                past = (await self.client.history([array])).jobs
                seen.update((job, status) for job, status in past.items() if not status.state.live)
                found = [status for status in seen.values() if status.state is state]
                if exit_code is not None:  # accounts may be late
                    found = [status for status in found if status.exit_code == exit_code]
                if len(found) == count:
                    return found
                await asyncio.sleep(0.5)


@pytest.fixture
def logs() -> Path:
    """A directory that every node sees, with a blank and signs in its name."""
    path = Path.home() / f"odd 100% $x-{secrets.token_hex(3)}"
    path.mkdir(mode=0o700)
    return path


async def test_ends_are_told_apart_and_logs_are_where_they_belong(logs: Path) -> None:
    """An exit code, a clean end, and each job's own log, whatever the directory is called."""
    raw = Jobs(logs, "echo hello; exit 0")
    array = await raw.submit(3)
    await raw.until(array, JobState.COMPLETED, 3)
    first = raw.client.driver.first_index
    for index in range(first, first + 3):
        assert "hello" in (logs / f"{raw.name}-{index}.log").read_text()
    raw = Jobs(logs, "exit 3")
    await raw.until(await raw.submit(1), JobState.FAILED, 1, exit_code=3)
    shutil.rmtree(logs)


async def test_a_lost_submission_is_found_by_its_name(logs: Path) -> None:
    """The id was never seen: the listing gives it."""
    raw = Jobs(logs, "sleep 300")
    array = await raw.submit(2)
    async with asyncio.timeout(SOON):
        while raw.name not in (listing := await raw.client.query({raw.name: None})).names:
            await asyncio.sleep(0.5)
    assert listing.names[raw.name] == array
    assert len(listing.jobs) == 2
    await raw.client.cancel(list(listing.jobs), {array: 2})
    wait_until(lambda: raw.name not in BED.jobs(USER), SOON, "the jobs are gone")
    shutil.rmtree(logs)


async def test_cancelling_what_is_gone_is_no_error(logs: Path) -> None:
    """Part of an array, all of it, all of it again, and an id that never was."""
    raw = Jobs(logs, "sleep 300")
    array = await raw.submit(4)
    await raw.until(array, JobState.RUNNING, 4)
    first = raw.client.driver.first_index
    some = [JobId(array, first), JobId(array, first + 2)]
    await raw.client.cancel(some, {array: 4})
    wait_until(lambda: BED.jobs(USER).count(raw.name) == 2, SOON, "two jobs are gone")
    every = [JobId(array, first + i) for i in range(4)]
    await raw.client.cancel(every, {array: 4})
    wait_until(lambda: raw.name not in BED.jobs(USER), SOON, "all jobs are gone")
    await raw.client.cancel(every, {array: 4})
    await raw.client.cancel([JobId(BED.no_such_id, first)], {BED.no_such_id: 1})
    if BED.tells_cancelled:
        await raw.until(array, JobState.CANCELLED, 4)
    shutil.rmtree(logs)


class Nobody:
    """The scheduler's side of a cluster without workers."""

    def load(self) -> Mapping[str, float]:
        return {}

    async def retire(self, names: Collection[str], *, force: bool) -> set[str]:
        return set(names)


@long_except("slurm")
@pytest.mark.timeout(300)
async def test_a_hundred_jobs_cost_few_commands(logs: Path) -> None:
    """Up, watched for a minute, down: printed, and bounded by one poll every two seconds."""
    raw = Jobs(logs, "sleep 600")
    controller = Controller(
        name=f"hundred-{RUN}",
        pools={"default": Pool("default", raw.spec, Layout(1, 1, None))},
        client=raw.client,
        journal=Journal(logs / "journal"),
        place=Place({"default": raw.script}, logs),
        workers=Nobody(),
    )
    loop = asyncio.create_task(controller.run())
    await controller.scale({"default": 100})
    up = time.monotonic()
    while time.monotonic() < up + 60:
        await asyncio.sleep(1)
    watched = Counter(raw.client.commands)
    states = Counter(str(s.state) for s in controller.ledger.statuses().values())
    loop.cancel()
    assert await controller.close(120) == []
    everything = Counter(raw.client.commands)
    print(f"\n{BED.batch}: 100 jobs up and watched for a minute: {dict(watched)}, {dict(states)};")
    print(f"{' ' * len(BED.batch)}  then down: {dict(everything - watched)}")
    assert states["running"] + states["pending"] == 100
    assert states["running"] >= 4
    assert sum(watched.values()) <= 25
    wait_until(lambda: not jobs("hundred"), SOON, "the queue is empty")
    shutil.rmtree(logs)


# -- detection --------------------------------------------------------------------------------


def test_the_batch_system_is_found_by_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all batch systems of this machine only this one is on the PATH."""
    for program in driver(BED.batch).programs:
        real = shutil.which(program)
        assert real
        wrapper = tmp_path / program
        # some programs are scripts themselves
        wrapper.write_text(f'#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin exec {real} "$@"\n')
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    words = run(str(Path(sys.executable).with_name("dask-hpc")), "batch")
    print("\n" + words)
    assert f"batch: {BED.batch}" in words
    assert "server: answers" in words
    assert "version: -" not in words


def test_a_machine_without_its_programs_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with cluster("bare") as c, pytest.raises(HPCError, match="is not on this machine's PATH"):
        c.scale(1)
