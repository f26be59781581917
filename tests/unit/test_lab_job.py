"""JupyterLab in a job: what its head makes of what it hears, and when the job ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster import lab_process, lone_job
from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.lab import Lab
from dask_hpc.cluster.lab_job import POOL, LabJob, LabJobs
from dask_hpc.cluster.lab_process import Teller
from dask_hpc.control.journal import Recorded, Remembered
from dask_hpc.drivers.base import Listing
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import HeadUnreachable, JupyterError, to_json
from dask_hpc.jupyter.reach import Listen, Waiting
from dask_hpc.launch.rendezvous import Rendezvous
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus
from tests.unit.test_jupyter_reach import NETWORK

RECORDED = Recorded("c-jupyter-1", POOL, 1, array="7")
REACH = replace(NETWORK, job="7", until=time.time() + 300)


class Client:
    """A batch system in which the job is in one state, until a test says another."""

    driver = Slurm()
    tells_why = False

    def __init__(self) -> None:
        self.status = JobStatus(JobState.RUNNING)
        self.cancelled: list[JobId] = []

    def _listing(self) -> Listing:
        return Listing({JobId("7", Slurm.first_index): self.status})

    async def query(self, arrays: Any) -> Listing:
        return self._listing()

    async def cancel(self, jobs: list[JobId], arrays: Any) -> None:
        self.cancelled += jobs
        self.status = JobStatus(JobState.CANCELLED)

    async def history(self, arrays: Any) -> Listing:
        return self._listing()


class Heard:
    """A job that an earlier head submitted, and what is written and said of it."""

    def __init__(self, path: Path) -> None:
        self.client: Any = Client()
        self.events: list[str] = []
        self.said: list[str] = []
        self.directory = ClusterDirectory(path, path)
        self.over = asyncio.Event()
        jobs = LabJobs(self.client, self._record)
        self.job = LabJob(jobs, "c", self.directory, warn=self._warn, recorded=RECORDED)
        self.warned = asyncio.Event()

    async def _record(self, event: str, **values: Any) -> None:
        assert values["name"] == RECORDED.name
        self.events.append(event)
        self.over.set()

    def _warn(self, line: str) -> None:
        self.said.append(line)
        self.warned.set()

    async def ends(self, state: JobState) -> None:
        self.client.status = JobStatus(state)
        await asyncio.wait_for(self.over.wait(), 10)
        await asyncio.sleep(0)
        assert (self.job.over, self.events) == (True, ["ended"])


@pytest.fixture
async def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Heard]:
    monkeypatch.setattr(lone_job, "_FIRST_LOOK", 0.01)
    monkeypatch.setattr(lone_job, "_LONGEST_LOOK", 0.01)
    made = Heard(tmp_path)
    yield made
    await made.job.close()


async def test_its_end_is_told_ahead_once(heard: Heard) -> None:
    """To the clients of the cluster, when ten minutes are left."""
    assert isinstance(heard.job.look(), Waiting)
    heard.job.told(reach=REACH.to_json(), error=None)
    await asyncio.wait_for(heard.warned.wait(), 10)
    assert heard.job.look() == REACH
    await heard.ends(JobState.COMPLETED)
    [line] = heard.said
    assert line.startswith("the job of JupyterLab of cluster c ends in ")


async def test_one_that_waits_again_is_not_there(heard: Heard) -> None:
    """Its node has failed, and the batch system runs it once more; it will tell where."""
    heard.job.told(reach=REACH.to_json(), error=None)
    await asyncio.wait_for(heard.warned.wait(), 10)
    heard.client.status = JobStatus(JobState.PENDING, reason="begin time")
    while heard.job.reach is not None:
        await asyncio.sleep(0.01)
    assert heard.job.look() == Waiting("JupyterLab's job 7 is pending (begin time)")


async def test_a_full_disk_leaves_no_job_behind(heard: Heard) -> None:
    """Nothing was submitted, and nothing is waited for."""

    async def full(event: str, **values: Any) -> None:
        raise OSError("no space left on device")

    jobs = LabJobs(heard.client, full)
    job = LabJob(jobs, "c", heard.directory, warn=heard.said.append)
    spec = JobSpec(command=("true",), cores=1, log_directory=heard.directory.logs)
    with pytest.raises(OSError, match="no space left"):
        await job.submit(spec, Listen.NETWORK, Path("/"))
    assert (job.over, job.error, await job.close()) == (True, None, [])


async def test_one_that_ends_before_it_was_heard_of_tells_why(heard: Heard) -> None:
    """The end of its log: whoever waits for it is shown that."""
    index = Slurm.first_index
    (heard.directory.logs / f"{RECORDED.name}-{index}.log").write_text("no such module\n")
    await heard.ends(JobState.FAILED)
    assert "job 7 of cluster c has ended (failed) before" in str(heard.job.error)
    assert "no such module" in str(heard.job.error)


async def test_a_walltime_that_is_over_is_no_error_but_is_said(heard: Heard, caplog: Any) -> None:
    """The next call may have another one."""
    heard.job.told(reach=REACH.to_json(), error=None)
    await heard.ends(JobState.TIMEOUT)
    assert heard.job.error is None
    assert "JupyterLab's job 7 of cluster c has ended (timeout)" in caplog.text


async def test_its_own_word_is_what_is_raised(heard: Heard) -> None:
    """It knows better than the log why."""
    heard.job.told(reach=None, error=to_json(JupyterError("no jupyterlab", hint="install it")))
    await heard.ends(JobState.FAILED)
    assert str(heard.job.error) == "no jupyterlab\n  -> install it"


async def test_who_shuts_it_down_hears_nothing(heard: Heard, caplog: Any) -> None:
    """The menu's "Shut Down" is asking for it."""
    heard.job.told(reach=REACH.to_json(), error=None)
    heard.job.told(reach=None, error=None)
    await heard.ends(JobState.COMPLETED)
    assert (heard.job.error, caplog.text) == (None, "")


async def test_the_next_head_takes_it_out_of_the_workers_jobs(heard: Heard) -> None:
    """No pool is called so: the controller would refuse it."""
    workers = Recorded("c-2", "default", 1, array="8")
    told = Remembered(left={each.name: each for each in (RECORDED, workers)}, jobs={"default": 1})
    nothing: Any = None
    lab = Lab("c", heard.directory, nothing, LabJobs(heard.client, heard._record))
    assert lab.adopt(told) == replace(told, left={"c-2": workers})
    assert lab.told(RECORDED.name, reach=REACH.to_json())
    assert not lab.told("c-jupyter-2", reach=REACH.to_json())
    assert await lab.open(remote=True) == REACH
    assert (await lab.close(), heard.client.cancelled) == ([], [JobId("7", Slurm.first_index)])
    assert not lab.told(RECORDED.name, reach=REACH.to_json())


class Head:
    """That answers, or not."""

    wants, there, address = True, True, "tls://10.0.0.1:1"

    def __init__(self, known: object) -> None:
        if not Head.there:
            raise HeadUnreachable("gone")

    def jupyter_told(self, name: str, **words: Any) -> bool:
        Head.heard.append(words)
        return Head.wants

    heard: list[Any]


class TestTheJob:
    @pytest.fixture
    def teller(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teller:
        for name, value in (("wants", True), ("there", True), ("address", "a"), ("heard", [])):
            monkeypatch.setattr(Head, name, value, raising=False)
        monkeypatch.setattr(lab_process, "HeadClient", Head)
        monkeypatch.setattr(lab_process, "find", lambda file: file)
        monkeypatch.setattr(
            lab_process.rendezvous, "read", lambda file: Rendezvous(Head.address, pid=1)
        )
        file = tmp_path / "scheduler.json"
        file.touch()
        return Teller(file, "c-jupyter-1")

    async def test_it_tells_each_head_and_then_now_and_again(self, teller, monkeypatch):
        """One that has come back knows nothing of it."""
        assert all([await teller.keep(reach="r") for _ in range(3)])
        assert len(Head.heard) == 1
        Head.address = "b"
        assert await teller.keep(reach="r")
        assert Head.heard == [{"reach": "r"}] * 2
        monkeypatch.setattr(lab_process, "_AGAIN", 0.0)
        assert await teller.keep(reach="r")
        assert len(Head.heard) == 3

    async def test_it_ends_where_no_head_wants_it(self, teller):
        """Another cluster of the same name, say."""
        Head.wants = False
        assert not await teller.keep(reach="r")

    async def test_it_ends_with_the_scheduler_file(self, teller):
        """Seen twice: a shared file system may be late for a moment."""
        teller._file.unlink()
        assert [await teller.keep(), await teller.keep()] == [True, False]

    async def test_it_goes_on_without_a_head_for_a_while_only(self, teller, monkeypatch):
        """Head and guardian may have died with their machine."""
        Head.there = False
        assert await teller.keep(reach="r")
        monkeypatch.setattr(lab_process, "_ALONE", 0.0)
        assert not await teller.keep(reach="r")
