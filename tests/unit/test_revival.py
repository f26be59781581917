"""Who is the head of a directory, who may become it, and how often it is started anew."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster.directory import ClusterDirectory, claim
from dask_hpc.cluster.known import find
from dask_hpc.control import heads, reaper, revival
from dask_hpc.control.heads import Holder, holders, myself
from dask_hpc.control.journal import Journal, ends, read, remembered
from dask_hpc.errors import ClusterDirectoryError
from dask_hpc.launch import rendezvous

#: A head, as far as its guardian can tell.
OPENS = """
import sys, time
from pathlib import Path
from dask_hpc.control.heads import myself
from dask_hpc.control.journal import Journal
Journal(Path(sys.argv[1])).append("opened", batch="local", **myself())
time.sleep(600)
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path))
    monkeypatch.setattr(revival, "PAUSE", 0.0)
    monkeypatch.setattr(revival, "LOOK", 0.05)
    monkeypatch.setattr(revival, "GONE", 0.2)
    directory = tmp_path / "c"
    directory.mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    return directory


@pytest.fixture
def dead() -> dict[str, Any]:
    """A process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return {**myself(), "pid": process.pid, "born": "another start 1"}


@pytest.fixture
def other() -> Iterator[dict[str, Any]]:
    """A process that runs."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield {**myself(), "pid": process.pid, "born": heads.born(process.pid)}
        process.kill()


def write(directory: Path, *events: tuple[str, dict[str, Any]]) -> None:
    journal = Journal(directory / reaper.JOURNAL)
    for event, values in events:
        journal.append(event, **values)  # type: ignore[arg-type]
    journal.close()


def kinds(directory: Path) -> list[str]:
    return [each["event"] for each in read(directory / reaper.JOURNAL)]


# -- who lives ------------------------------------------------------------------------------------


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone() -> None:
    """After a restart of the machine, or in a long time, another one has the number."""
    mine = myself()
    assert Holder(mine["host"], mine["pid"], mine["born"]).alive is True
    assert Holder(mine["host"], mine["pid"], "another start 1").alive is False
    assert Holder(mine["host"], mine["pid"]).alive is True  # as older versions wrote it
    assert Holder("elsewhere", mine["pid"], mine["born"]).alive is None


@pytest.mark.parametrize(("born", "alive"), [(myself()["born"], True), ("another start 1", False)])
def test_a_cluster_is_dead_whose_heads_number_is_anothers_now(
    directory: Path, born: str, alive: bool
) -> None:
    """As the scheduler file tells, with which commands begin."""
    words = {"batch": "local", "head": "detached", "born": born}
    path = directory / reaper.SCHEDULER_FILE
    rendezvous.write(path, {"address": "tcp://h:1"}, cluster="c", owner="me", tls=None, **words)
    assert find("c").alive is alive


def test_a_process_that_nobody_waited_for_has_ended() -> None:
    """The shell that started a head may not look after it at once."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    born = heads.born(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Holder(myself()["host"], process.pid, born).alive is False
    process.wait()


def test_the_last_head_holds_a_directory_and_then_whoever_claimed_it() -> None:
    """Claims before it are over."""
    events = [
        {"event": event, "host": "h", "pid": pid}
        for event, pid in (("opened", 1), ("claimed", 2), ("opened", 2), ("claimed", 3))
    ]
    assert [each.pid for each in holders(events)] == [2, 3]


@pytest.mark.parametrize(
    ("kinds", "over"),
    [
        ([], True),
        (["opened"], False),
        (["opened", "claimed", "restarting"], False),
        (["opened", "closing"], True),
        (["opened", "closing", "intended", "closed"], True),
        (["opened", "closing", "opened"], False),
    ],
)
def test_what_is_closing_is_taken_over_by_nobody(kinds: list[str], over: bool) -> None:
    """The user has said that it is to end."""
    assert ends({"event": each} for each in kinds) is over


# -- taking over ----------------------------------------------------------------------------------


async def test_a_dead_cluster_is_taken_over_with_its_journal(
    directory: Path, dead: dict[str, Any]
) -> None:
    """Nothing is cancelled; the next one to try finds us."""
    job = {"name": "c-1", "pool": "default", "count": 2}
    write(directory, ("opened", {**dead, "batch": "local"}), ("intended", job))
    claimed = await claim("c", log_directory=None, resume=True)
    assert claimed.path == directory
    assert kinds(directory) == ["opened", "intended", "claimed"]
    with pytest.raises(ClusterDirectoryError, match=f"its head is process {os.getpid()} on"):
        await claim("c", log_directory=None, resume=True)
    claimed.clear(keep_logs=False)
    assert remembered(read(claimed.journal)).left.keys() == {"c-1"}, "jobs would be orphaned"


async def test_of_two_that_take_over_at_once_the_first_does(
    directory: Path, dead: dict[str, Any], other: dict[str, Any]
) -> None:
    """Its claim is in the journal before ours; one of a process that has died counts nothing."""
    write(directory, ("opened", {**dead, "batch": "local"}), ("claimed", dead))
    await claim("c", log_directory=None, resume=True)
    journal = directory / reaper.JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]))
    write(directory, ("claimed", other))
    with pytest.raises(ClusterDirectoryError, match=f"process {other['pid']} on"):
        await claim("c", log_directory=None, resume=True)


@pytest.mark.parametrize("resume", [True, False])
async def test_a_head_of_another_host_is_dead_only_if_the_user_says_so(
    directory: Path, dead: dict[str, Any], resume: bool
) -> None:
    """Nobody else can tell."""
    write(directory, ("opened", {**dead, "host": "elsewhere", "batch": "local"}))
    with pytest.raises(ClusterDirectoryError, match=r"on elsewhere\n.*--force"):
        await claim("c", log_directory=None, resume=resume)
    await claim("c", log_directory=None, resume=resume, force=True)


@pytest.mark.parametrize("last", ["closing", "closed"])
async def test_what_has_ended_is_not_taken_over(
    directory: Path, dead: dict[str, Any], last: str
) -> None:
    """Nor what never was."""
    write(directory, ("opened", {**dead, "batch": "local"}), (last, {}))
    for name in ("c", "never"):
        with pytest.raises(ClusterDirectoryError, match=f"no cluster {name} to take over"):
            await claim(name, log_directory=None, resume=True)
    assert not directory.with_name("never").exists()


# -- starting anew --------------------------------------------------------------------------------


def opens(directory: Path) -> list[str]:
    return [sys.executable, "-c", OPENS, str(directory / reaper.JOURNAL)]


def test_the_command_is_ours_alone(directory: Path) -> None:
    """What others could write is not run."""
    revival.write_command(directory, ["true", "a b"])
    path = directory / revival.RESTART
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert revival.read_command(directory) == revival.Start(("true", "a b"), str(Path.cwd()))
    path.chmod(0o620)
    assert revival.read_command(directory) is None
    path.chmod(0o600)
    for text in ("[]", '{"command": [], "cwd": "/"}', "torn"):
        path.write_text(text)
        assert revival.read_command(directory) is None


def test_a_head_is_started_anew(directory: Path, dead: dict[str, Any]) -> None:
    """The guardian's work is done once it has opened the journal: it has one of its own."""
    write(directory, ("opened", {**dead, "batch": "local"}))
    revival.write_command(directory, opens(directory))
    words = "import sys; from pathlib import Path; from dask_hpc.control import revival\n"
    words += "sys.exit(not revival.revive(Path(sys.argv[1])))"
    subprocess.run([sys.executable, "-c", words, str(directory)], check=True, timeout=30)
    assert kinds(directory) == ["opened", "restarting", "opened"]
    (head,) = holders(read(directory / reaper.JOURNAL))
    assert head.alive
    assert revival.revive(directory), "there is one"
    assert kinds(directory) == ["opened", "restarting", "opened"]
    os.kill(head.pid, signal.SIGKILL)


def test_a_head_that_is_still_dying_is_no_other_one(
    directory: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guardian hears of its end before the process is gone."""
    monkeypatch.setattr(revival, "GONE", 20.0)
    write(directory, ("opened", {**other, "batch": "local"}))
    threading.Timer(0.3, os.kill, (other["pid"], signal.SIGKILL)).start()
    assert not revival.revive(directory), "there is no command to start one"


def test_a_head_that_dies_again_and_again_is_given_up(
    directory: Path, dead: dict[str, Any]
) -> None:
    """Three starts in an hour; those of another day do not count."""
    long_ago = ("restarting", {"at": time.time() - 2 * revival.WITHIN})
    write(directory, ("opened", {**dead, "batch": "local"}), long_ago)
    revival.write_command(directory, [sys.executable, "-c", "raise SystemExit('no')"])
    assert not revival.revive(directory)
    assert kinds(directory).count("restarting") == 1 + revival.MOST
    assert (directory / revival.LOG).read_text() == "no\n" * revival.MOST
    assert stat.S_IMODE((directory / revival.LOG).stat().st_mode) == 0o600


def test_a_start_that_hangs_is_ended(
    directory: Path, dead: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else there would be two heads, some day."""
    monkeypatch.setattr(revival, "START", 0.2)
    monkeypatch.setattr(revival, "MOST", 1)
    write(directory, ("opened", {**dead, "batch": "local"}))
    mark = directory / "pid"
    words = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(99)"
    monkeypatch.setattr(revival, "START", 1.0)
    revival.write_command(directory, [sys.executable, "-c", words, str(mark)])
    assert not revival.revive(directory)
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


@pytest.mark.parametrize(
    ("said", "restarts", "then"),
    [
        (b"bye", False, ""),
        (b"", False, "reaps"),
        (b"up;bye", True, ""),
        (b"up;", True, "revives"),
        (b"", True, ""),  # the guardian of the head before it is still in charge
        (b"up;", False, "reaps"),
    ],
)
def test_what_a_guardian_does(
    said: bytes, restarts: bool, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what its head has said before it was gone."""
    done = []

    async def reap(_: Path) -> bool:
        await asyncio.sleep(0)
        done.append("reaps")
        return True

    def revive(_: Path) -> bool:
        done.append("revives")
        return True

    waits, told = os.pipe()
    os.write(told, said)
    os.close(told)
    words = iter([os.read(waits, 64), b""])
    os.close(waits)
    monkeypatch.setattr(reaper.os, "read", lambda *_: next(words))
    monkeypatch.setattr(reaper, "reap", reap)
    monkeypatch.setattr(revival, "revive", revive)
    reaper.guard(tmp_path, restarts=restarts)
    assert "".join(done) == then


def test_a_guardian_without_the_commands_removes_the_scheduler_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs without a head end by themselves; nothing else would come of trying for half an hour."""
    file = tmp_path / reaper.SCHEDULER_FILE
    file.touch()
    words = iter([b"up;", b""])
    monkeypatch.setattr(reaper.os, "read", lambda *_: next(words))
    monkeypatch.setattr(reaper, "reap", None)  # would raise
    reaper.guard(tmp_path, cancels=False)
    assert not file.exists()


async def test_clearing_away_leaves_no_command(directory: Path, dead: dict[str, Any]) -> None:
    """A head that is given up is not started by anybody."""
    write(directory, ("opened", {**dead, "batch": "local"}))
    revival.write_command(directory, ["true"])
    assert await reaper.reap(directory, patience=1)
    assert not (directory / revival.RESTART).exists()
    assert kinds(directory) == ["opened", "closed"]
    ClusterDirectory(directory, directory / "logs").clear(keep_logs=False)
    assert not directory.exists()
