"""What a user set of the engine's memory settings, wherever and under whichever name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed
import pytest

from dask_hpc.cluster.pools import memory_environment
from dask_hpc.node import own_settings

assert distributed.__version__  # its defaults are registered on import


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user whose configuration is in this directory, and whose home is there as well."""
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path / "config")])
    monkeypatch.setattr(dask.config.collect, "__defaults__", ([str(tmp_path / "config")], None))
    monkeypatch.setattr(
        dask.config.refresh,
        "__defaults__",
        (None, dask.config.defaults, [str(tmp_path / "config")], None),
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    before = copy.deepcopy(dask.config.config)
    (tmp_path / "config").mkdir()
    yield tmp_path
    dask.config.config.clear()
    dask.config.config.update(before)


def refresh() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        dask.config.refresh()


@pytest.mark.usefixtures("files")
def test_nothing_is_set_by_the_engines_defaults() -> None:
    """Which are no word of the user's."""
    refresh()
    assert own_settings.own() == own_settings.changed() == {}


def test_a_file_counts_even_where_it_says_the_default(files: Path) -> None:
    """Who writes 0.6 wants 0.6."""
    text = "distributed:\n  worker:\n    memory:\n      target: 0.6\n      max-spill: 10 GB\n"
    (files / "config" / "d.yaml").write_text(text)
    refresh()
    assert own_settings.own() == {"target": 0.6, "max-spill": "10 GB"}
    assert own_settings.changed() == {"max-spill": "10 GB"}


@pytest.mark.usefixtures("files")
def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As does what a program sets."""
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE", "0.8")
    refresh()
    dask.config.set({"distributed.worker.memory.spill": False})
    assert own_settings.own() == {"pause": 0.8, "spill": False}


def test_names_of_2018_count(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine still translates them, in files and variables."""
    (files / "config" / "old.yaml").write_text("worker-memory-target: false\n")
    monkeypatch.setenv("DASK_WORKER_MEMORY_TERMINATE", "0.95")
    refresh()
    assert dask.config.get("distributed.worker.memory.target") is False
    assert own_settings.own() == {"target": False, "terminate": 0.95}


def test_the_directory_of_2018_counts_where_nothing_newer_speaks(files: Path) -> None:
    """``~/.dask/config.yaml``, which the engine no longer reads."""
    assert own_settings.from_old_directory({}) == {}
    (files / ".dask").mkdir()
    (files / ".dask" / "config.yaml").write_text(
        "worker-memory-target: false\nworker-memory-pause: 0.7\ncompression: lz4\n"
    )
    refresh()
    assert dask.config.get("distributed.worker.memory.pause") == 0.8
    assert own_settings.from_old_directory({"target": 0.4}) == {"pause": 0.7}


def test_what_was_set_on_the_login_node_goes_along_with_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is read there as it was written."""
    variables = memory_environment({"target": False, "max-spill": "5 GB", "pause": 0.7})
    collected = dask.config.collect(paths=[], env=variables)
    section = dask.config.get("distributed.worker.memory", config=collected)
    assert {name.replace("_", "-"): value for name, value in section.items()} == {
        "target": False,
        "max-spill": "5 GB",
        "pause": 0.7,
    }
