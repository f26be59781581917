"""Scratch directories: private, recognised when their owner is dead, removed with care."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dask_hpc.node import leftovers
from dask_hpc.node.filesystems import Kind
from dask_hpc.node.leftovers import Directory, Lock, Owner

ME = leftovers.myself("7.1")
OTHER = replace(ME, pid=1 << 22, started=1)


@pytest.mark.parametrize(
    ("owner", "lock", "kind", "running", "expected"),
    [
        (OTHER, Lock.FREE, Kind.DISK, True, True),  # the process id was given to another since
        (OTHER, Lock.HELD, Kind.DISK, False, False),  # it lives where we cannot see it
        (OTHER, Lock.NONE, Kind.DISK, False, True),
        (OTHER, Lock.NONE, Kind.DISK, True, False),
        (replace(OTHER, locked=False), Lock.FREE, Kind.DISK, True, False),
        (replace(OTHER, namespace=1), Lock.NONE, Kind.DISK, False, False),
        (replace(OTHER, boot="x"), Lock.FREE, Kind.DISK, False, True),
        (replace(OTHER, boot="x"), Lock.NONE, Kind.DISK, True, True),
        (replace(OTHER, boot="x"), Lock.FREE, Kind.NETWORK, False, False),
        (replace(OTHER, boot="x"), Lock.NONE, Kind.UNKNOWN, False, False),
        (OTHER, Lock.FREE, Kind.NETWORK, False, True),
    ],
)
def test_a_directory_is_dead_only_if_that_is_known(
    owner: Owner, lock: Lock, kind: Kind, running: bool, expected: bool
) -> None:
    """The lock decides, where there is one; on a network other hosts are left alone."""
    assert leftovers.dead(owner, ME, lock, kind=kind, running=running) is expected


def left(parent: Path, owner: Owner = OTHER, name: str = "dask-job-6-abc") -> Path:
    """What a killed supervisor leaves."""
    directory = parent / name
    (directory / "dask-scratch-space" / "worker-1" / "storage").mkdir(parents=True)
    directory.chmod(0o700)
    (directory / "dask-scratch-space" / "worker-1" / "storage" / "x").write_text("spilled")
    marker = directory / "owner.json"
    marker.touch(0o600)
    marker.write_text(json.dumps(asdict(owner)))
    return directory


def clear(parent: Path, kind: Kind = Kind.DISK) -> list[str]:
    return leftovers.clear(str(parent), ME, kind)


def test_what_a_dead_supervisor_left_is_removed(tmp_path: Path) -> None:
    """All of it, and nothing beside it."""
    left(tmp_path)
    (tmp_path / "mine").write_text("kept")
    assert clear(tmp_path) == ["dask-job-6-abc"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_a_living_supervisor_has_stays(tmp_path: Path) -> None:
    """Its lock is held, by whichever process."""
    mine = Directory(str(tmp_path), ME)
    code = (
        "import sys; from dask_hpc.node import filesystems, leftovers as l;"
        "print(l.clear(sys.argv[1], l.myself(''), filesystems.Kind.DISK))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert clear(tmp_path) == []
    assert Path(mine.path).is_dir()
    mine.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_private_and_says_whose_it_is(tmp_path: Path) -> None:
    """Spilled data are nobody else's business, whatever the umask."""
    before = os.umask(0)
    try:
        mine = Directory(str(tmp_path), ME)
    finally:
        os.umask(before)
    path = Path(mine.path)
    assert path.name.startswith("dask-job-7.1-")
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "owner.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((path / "owner.json").read_text()) == asdict(ME)
    mine.remove()


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """Neither as the directory, nor in it, nor as its file."""
    victim = left(tmp_path, name="victim")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "dask-job-link").symlink_to(victim)
    inside = left(scratch, name="dask-job-inside")
    (inside / "link").symlink_to(victim)
    (inside / "dask-scratch-space" / "deep").symlink_to(victim)
    marked = left(scratch, name="dask-job-marked")
    (marked / "owner.json").unlink()
    (marked / "owner.json").symlink_to(victim / "owner.json")
    assert clear(scratch) == ["dask-job-inside"]
    assert (victim / "dask-scratch-space" / "worker-1" / "storage" / "x").exists()
    assert {path.name for path in scratch.iterdir()} == {"dask-job-link", "dask-job-marked"}


@pytest.mark.parametrize("spoil", ["open", "no file", "no json", "other fields", "a pipe"])
def test_what_is_not_exactly_ours_stays(tmp_path: Path, spoil: str) -> None:
    """A directory that others can read may be anybody's plaything."""
    directory = left(tmp_path)
    marker = directory / "owner.json"
    if spoil == "open":
        directory.chmod(0o750)
    else:
        marker.unlink()
    if spoil == "no json":
        marker.touch(0o600)
        marker.write_text("{")
    if spoil == "other fields":
        marker.touch(0o600)
        marker.write_text('{"pid": 1, "rm": "-rf"}')
    if spoil == "a pipe":
        os.mkfifo(marker, 0o600)
    assert clear(tmp_path) == []
    assert directory.is_dir()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no flock(2), as Lustre without the option."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_process_tells(tmp_path: Path) -> None:
    """By its number and its start, in the same namespace of processes."""
    mine = Directory(str(tmp_path), ME)
    assert not json.loads((Path(mine.path) / "owner.json").read_text())["locked"]
    dead = left(tmp_path, replace(OTHER, locked=False))
    assert clear(tmp_path) == [dead.name]
    assert Path(mine.path).is_dir()
    mine.remove()


def test_what_cannot_be_removed_is_no_error(tmp_path: Path) -> None:
    """The directory that scratch was in may be gone at the end."""
    mine = Directory(str(tmp_path), ME)
    Path(mine.path).rename(tmp_path / "elsewhere")
    mine.remove()
    assert leftovers.clear("/nonexistent", ME, Kind.DISK) == []
