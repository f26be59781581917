"""The scheduler file: written whole, read with care, waited for in patience."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import SchedulerFileBroken, SchedulerFileForeign, SchedulerFileMissing
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "tls://10.77.0.1:8786"
NAMES = st.text(min_size=1, max_size=20)
TEXT = json.dumps({"address": ADDRESS, "dask_hpc": {"cluster": "mine", "tls": None}})


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.looks += 1
        self.now += seconds


@pytest.fixture(autouse=True)
def _files_of_our_own() -> Iterator[None]:
    """Write test files as a user with a strict umask would."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.json"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rendezvous") / "scheduler.json"


@given(cluster=NAMES, owner=NAMES, tls=st.none() | st.builds(TLSFiles, NAMES, NAMES, NAMES))
def test_what_is_written_is_read_back(
    shared: Path, cluster: str, owner: str, tls: TLSFiles | None
) -> None:
    """Whatever the names; with the writer's host and process."""
    identity = {"type": "Scheduler", "address": ADDRESS, "workers": {}}
    rendezvous.write(shared, identity, cluster=cluster, owner=owner, tls=tls)
    found = rendezvous.read(shared)
    assert (found.address, found.cluster, found.owner) == (ADDRESS, cluster, owner)
    assert found.tls == tls
    assert found.pid == os.getpid()
    assert f"by process {os.getpid()} on" in found.writer
    assert shared.stat().st_mode & 0o777 == 0o600
    assert json.loads(shared.read_text())["type"] == "Scheduler"


def test_the_engines_own_file_is_read(path: Path) -> None:
    """A scheduler started without us has an address and no more."""
    path.write_text(json.dumps({"type": "Scheduler", "address": "tcp://1.2.3.4:8786"}))
    found = rendezvous.read(path)
    assert (found.address, found.tls, found.cluster) == ("tcp://1.2.3.4:8786", None, "")
    assert found.written == path.stat().st_mtime


def test_a_missing_file_is_missing(path: Path) -> None:
    """Also where its directory is missing, or is a file."""
    path.with_name("file").write_text("")
    for where in (path, path / "deeper", path.with_name("file") / "deeper"):
        with pytest.raises(SchedulerFileMissing, match="no scheduler file"):
            rendezvous.read(where)


@pytest.mark.parametrize(
    "content",
    [
        *(TEXT[:size] for size in (0, 1, 20, len(TEXT) - 1)),
        "[]",
        '"address"',
        "null",
        "{}",
        '{"address": 3}',
        '{"address": ["://"]}',
        '{"address": "nowhere"}',
        '{"address": "tcp://h:1", "dask_hpc": [1]}',
        '{"address": "tcp://h:1", "dask_hpc": {"pid": "x"}}',
        '{"address": "tcp://h:1", "dask_hpc": {"tls": {"ca_file": "x"}}}',
        '{"address": "tcp://h:1", "dask_hpc": {"tls": {"ca_file": 1, "newer": 2}}}',
        "\udcff",
    ],
)
def test_half_a_file_or_another_one_is_broken(path: Path, content: str) -> None:
    """Whatever stands in it: one error, which says how many bytes there are."""
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SchedulerFileBroken, match=r"half-written .* bytes"):
        rendezvous.read(path)


def test_a_directory_is_no_scheduler_file(path: Path) -> None:
    """Broken, not a stray OSError."""
    path.mkdir()
    with pytest.raises(SchedulerFileBroken):
        rendezvous.read(path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int) -> None:
    """They could send us anywhere."""
    path.write_text(TEXT)
    path.chmod(mode)
    with pytest.raises(SchedulerFileForeign, match=f"mode {mode:o}"):
        rendezvous.read(path)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it may be read, and at once: waiting does not make it ours."""
    path.write_text(TEXT)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    clock = Clock()
    with pytest.raises(SchedulerFileForeign, match="belongs to user id"):
        rendezvous.wait(path, 60, sleep=clock.sleep, clock=clock)
    assert clock.looks == 0


@given(timeout=st.floats(0, 300))
def test_waiting_ends_on_time_and_looks_once_a_second(shared: Path, timeout: float) -> None:
    """A thousand nodes that wait must not drown the file system."""
    clock = Clock()
    with pytest.raises(SchedulerFileMissing, match=r"after .* of waiting"):
        rendezvous.wait(shared.with_name("nothing"), timeout, sleep=clock.sleep, clock=clock)
    assert clock.now - 1000 == pytest.approx(timeout)
    assert clock.looks <= timeout / 0.75 + 2


def test_a_file_that_stays_broken_is_told_as_broken(path: Path) -> None:
    """Half a file is waited for: its writer may be at work."""
    path.write_text(TEXT[:20])
    clock = Clock()
    with pytest.raises(SchedulerFileBroken, match="after 5 s of waiting"):
        rendezvous.wait(path, 5, sleep=clock.sleep, clock=clock)
    assert clock.now == pytest.approx(1005)


def test_waiting_ends_when_the_file_is_there(path: Path) -> None:
    """Without a timeout too."""
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.looks == 3:
            path.write_text(TEXT)
            path.chmod(0o600)

    assert rendezvous.wait(path, None, sleep=sleep, clock=clock).address == ADDRESS
    assert clock.looks == 3


def test_a_reader_never_sees_half_a_file(path: Path) -> None:
    """Replaced 200 times under a reader's eyes, it is always one whole file or another."""
    identity: dict[str, Any] = {"address": ADDRESS, "padding": "x" * 100_000}
    rendezvous.write(path, identity, cluster="0", owner="me", tls=None)
    done = threading.Event()

    def replace() -> None:
        try:
            for number in range(200):
                rendezvous.write(path, identity, cluster=str(number), owner="me", tls=None)
        finally:
            done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(int(rendezvous.read(path).cluster))
    writer.join(timeout=20)
    assert seen == sorted(seen)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing beside it."""
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        rendezvous.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
