"""Heads whose job has not come up: what is said of them, and what is there if two are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dask_hpc.batch.client import BatchClient
from dask_hpc.cli.entry import hpc
from dask_hpc.cluster import pending
from dask_hpc.cluster.known import clusters, find
from dask_hpc.cluster.pending import Note, seen
from dask_hpc.drivers.base import Listing
from dask_hpc.errors import BatchSystemUnavailable, HPCError, UnknownCluster
from dask_hpc.launch import rendezvous
from dask_hpc.model.job import JobId, JobState, JobStatus

NOTE = Note("slurm", "study-head-ab12", 1000.0, "77")
LATER = 2000.0


def listing(state: JobState, reason: str = "") -> Listing:
    return Listing({JobId("77", 0): JobStatus(state, reason)}, {"study-head-ab12": "77"})


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0o700)
    directory = tmp_path / "study"
    directory.mkdir(mode=0o700)
    return directory


# -- what is said ---------------------------------------------------------------------------------


def test_a_job_that_waits_or_runs_is_told_with_its_reason() -> None:
    """In the words of `ls`; one whose id was lost is found by its name."""
    waits = listing(JobState.PENDING, "Resources")
    line = "its head's job 77 waits in the queue (Resources)"
    assert seen(NOTE, waits, LATER) == pending.Seen(live=True, line=line)
    assert seen(replace(NOTE, array=None), waits, LATER).live
    runs = pending.Seen(live=True, line="its head's job 77 runs: the head starts")
    assert seen(NOTE, listing(JobState.RUNNING), LATER) == runs


def test_a_job_that_has_ended_is_dead_with_what_its_head_said() -> None:
    """Ended, or listed no more."""
    error = HPCError("it cannot listen", hint="ask")
    for listed in (listing(JobState.FAILED), Listing({})):
        told = seen(NOTE, listed, LATER, error)
        assert told.live is False
        assert told.line == "its head's job 77 has ended before the head was up: it cannot listen"


@pytest.mark.parametrize(("array", "grace"), [("77", 15), (None, 30)])
def test_what_is_not_listed_yet_is_not_gone(array: str | None, grace: float) -> None:
    """Nor what is not known because the batch system is silent."""
    note = replace(NOTE, array=array)
    assert seen(note, Listing({}), note.at + grace - 1).live is None
    assert seen(note, Listing({}), note.at + grace + 1).live is False
    assert seen(note, None, LATER).live is None
    assert "slurm does not answer" in seen(note, None, LATER).line


async def test_each_batch_system_is_asked_once_and_not_for_ever(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs or fails is one that does not answer."""
    asked = []

    async def query(client: BatchClient, arrays: dict[str, str | None]) -> Listing:
        asked.append((client.driver.name, arrays))
        if client.driver.name == "pbs":
            raise BatchSystemUnavailable("no")
        if client.driver.name == "lsf":
            await asyncio.sleep(60)
        return listing(JobState.PENDING)

    monkeypatch.setattr(BatchClient, "query", query)
    notes = [NOTE, replace(NOTE, name="b", array="78"), replace(NOTE, batch="pbs")]
    notes.append(replace(NOTE, batch="lsf"))
    places = [directory.with_name(str(i)) for i in range(4)]
    for place, note in zip(places, notes, strict=True):
        place.mkdir()
        pending.write(place, note)
    found = await pending.look([*places, directory], 0.1)
    assert sorted(asked) == [
        ("lsf", {"study-head-ab12": "77"}),
        ("pbs", {"study-head-ab12": "77"}),
        ("slurm", {"study-head-ab12": "77", "b": "78"}),
    ]
    assert [found[place].live for place in places] == [True, False, None, None]
    assert directory not in found, "it has no note: its head is up"


# -- what there is --------------------------------------------------------------------------------


def scheduler_file(directory: Path) -> None:
    address = {"address": "tcp://127.0.0.1:1"}
    words = {"batch": "slurm", "head": "detached", "control": 1}
    path = directory / "scheduler.json"
    rendezvous.write(path, address, cluster="study", owner="me", tls=None, **words)


def test_of_a_head_that_is_up_and_one_that_waits_the_last_is_the_cluster(directory: Path) -> None:
    """A dead one may have been of the same name; a note that was left behind is no cluster."""
    scheduler_file(directory)
    assert not find("study").pending
    pending.write(directory, replace(NOTE, at=find("study").opened + 1))
    (known,) = clusters()
    assert (known.pending, known.head, known.head_job, known.batch) == (True, "job", "77", "slurm")
    assert find("slurm:77") == known
    pending.write(directory, NOTE)
    assert not find("study").pending
    (directory / "scheduler.json").unlink()
    assert find("study").pending
    pending.forget(directory)
    with pytest.raises(UnknownCluster):
        find("study")


def test_without_such_a_head_no_batch_system_is_asked(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `ls`, which is to be quick; of one whose job has ended it tells what clears it away."""
    scheduler_file(directory)
    monkeypatch.setattr(pending, "_listing", None)
    assert CliRunner().invoke(hpc, ["ls"]).exit_code == 0

    async def nothing(*_: object) -> Listing:
        await asyncio.sleep(0)
        return Listing({})

    monkeypatch.setattr(pending, "_listing", nothing)
    (directory / "scheduler.json").unlink()
    pending.write(directory, NOTE)
    (directory / "error.json").write_text('{"error": "HPCError", "message": "it cannot listen"}')
    (row,) = CliRunner().invoke(hpc, ["ls"]).stdout.splitlines()[1:]
    assert row.split()[:3] == ["study", "slurm", "dead"]
    assert row.endswith("cannot listen; `dask-hpc down study` clears it away")
    result = CliRunner().invoke(hpc, ["status", "study"])
    assert result.exit_code == 3
    assert "study is not up: its head's job 77 has ended" in result.stderr
