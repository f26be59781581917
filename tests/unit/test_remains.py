"""What a cluster has left whose head ended and could not cancel its jobs, by its journal alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_hpc.cluster.known import remains
from dask_hpc.control.heads import myself
from dask_hpc.control.journal import Journal
from dask_hpc.control.reaper import JOURNAL, SCHEDULER_FILE


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a cluster with one submission that may live."""
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path))
    made = tmp_path / "out"
    made.mkdir()
    journal = Journal(made / JOURNAL)
    journal.append("opened", batch="sge", **myself())
    journal.append("intended", name="out-1", pool="default", count=2)
    journal.append("submitted", name="out-1", array="7")
    journal.append("closing")
    journal.close()
    return made


def write(directory: Path, event: str, **values: str) -> None:
    journal = Journal(directory / JOURNAL)
    journal.append(event, **values)  # type: ignore[arg-type]
    journal.close()


def test_jobs_in_the_queue_are_what_remains(directory: Path) -> None:
    """Nothing of it is alive, and the batch system to ask is known."""
    found = remains("out")
    assert found is not None
    assert (found.name, found.directory, found.batch, found.alive) == (
        *("out", directory, "sge"),
        False,
    )


def test_with_a_scheduler_file_it_is_a_cluster(directory: Path) -> None:
    """It is found as such, and its head is asked."""
    (directory / SCHEDULER_FILE).touch()
    assert remains("out") is None


@pytest.mark.parametrize("event", ["ended", "closed"])
def test_where_all_has_ended_nothing_remains(directory: Path, event: str) -> None:
    """Neither after an end in order nor once its jobs are known to have gone."""
    write(directory, event, name="out-1")
    assert remains("out") is None


def test_a_path_is_no_name(directory: Path) -> None:
    """Nothing is cleared away but below the user's home of clusters."""
    assert remains(f"../{directory.parent.name}/out") is None
    assert remains("other") is None
