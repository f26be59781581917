"""Scratch of real workers: where it is, what they do when they are full, what is left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import dask_hpc
from dask_hpc.node import mounts, storage
from dask_hpc.node.filesystems import Kind
from dask_hpc.node.scratch import Keeper
from dask_hpc.node.storage import Candidate
from tests.helpers import wait_until
from tests.integration.account import Account
from tests.integration.hands import SCHEDULER, WORKER, running, started, there

#: tmpfs on every Linux.
SHM = Path("/dev/shm")
MIB = 1 << 20


@contextmanager
def worker(account: Account, *arguments: str, **environ: str) -> Iterator[tuple[Client, Any, str]]:
    """A cluster of one worker: its client, its process, and the line about its scratch."""
    file = account.home / "f.json"
    with running(*SCHEDULER, "--scheduler-file", file):
        there(file)
        command = (*WORKER, "--scheduler-file", file, "--nthreads", "1", *arguments)
        with running(*command, **environ) as process:
            line = next(each for each in process.stderr if "scratch in" in each)
            started(process)
            with dask_hpc.connect(file) as client:
                yield client, process, line


def told(client: Client) -> dict[str, Any]:
    (found,) = client.scheduler_info(n_workers=-1)["workers"].values()
    return {**found["scratch"], "status": found["status"], "engine": found["local_directory"]}


def jobs_in(directory: Path) -> list[Path]:
    return list(directory.glob("dask-job-*"))


@pytest.fixture
def shm() -> Iterator[Path]:
    """A directory in tmpfs."""
    path = SHM / f"dask-hpc-test-{os.getpid()}"
    path.mkdir(mode=0o700)
    yield path
    import shutil

    shutil.rmtree(path)


def memory_settings() -> dict[str, Any]:
    import dask

    section: dict[str, Any] = dask.config.get("distributed.worker.memory")
    return {name: section[name] for name in ("target", "spill", "pause", "terminate")}


def test_scratch_is_private_told_to_the_client_and_gone_at_the_end(account: Account) -> None:
    """In one directory of mode 0700 for all that the engine writes."""
    scratch = account.home / "scratch"
    with worker(account, "--local-directory", str(scratch)) as (client, process, line):
        (directory,) = jobs_in(scratch)
        assert directory.stat().st_mode & 0o777 == 0o700
        seen = told(client)
        assert seen["directory"] == str(directory)
        assert seen["engine"].startswith(f"{directory}/")
        assert f"scratch in {scratch} (--local-directory: {seen['type']}" in line
        before = set((directory / "dask-scratch-space").glob("jobworker-*[!k]"))
        pid = client.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: client.submit(os.getpid, pure=False).result() != pid)
        after = set((directory / "dask-scratch-space").glob("jobworker-*[!k]"))
        assert len(after) == 1
        assert not after & before
        process.terminate()
        process.wait(20)
    assert jobs_in(scratch) == []


def test_what_a_killed_supervisor_left_is_removed_by_the_next(account: Account) -> None:
    """While what a living one has stays."""
    scratch = account.home / "scratch"
    with worker(account, "--local-directory", str(scratch)) as (_, process, _line):
        (dead,) = jobs_in(scratch)
        process.kill()
        process.wait(20)
    assert dead.is_dir()
    with worker(account, "--local-directory", str(scratch)):
        (living,) = jobs_in(scratch)
        assert living != dead


def test_a_signal_during_the_removal_does_not_stop_it(tmp_path: Path) -> None:
    """As when a cluster closes: its job ends by itself, and is cancelled in the same moment."""

    class Slow:
        def remove(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            (tmp_path / "x").rmdir()

    def raises(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    (tmp_path / "x").mkdir()
    before = signal.signal(signal.SIGTERM, raises)
    try:
        with Keeper() as keeper:
            keeper._directory = Slow()  # type: ignore[assignment]
        assert signal.getsignal(signal.SIGTERM) is raises
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "x").exists()


def test_on_tmpfs_workers_do_not_spill_unless_the_user_says_so(account: Account, shm: Path) -> None:
    """It would move bytes from memory to memory; an old name in an old place is the user's too."""
    with worker(account, "--local-directory", str(shm)) as (client, _, line):
        assert (told(client)["kind"], told(client)["spill"]) == ("memory", False)
        assert "do not spill" in line
        (settings,) = client.run(memory_settings).values()
        assert settings == {"target": False, "spill": False, "pause": 0.8, "terminate": 0.95}
    old = account.path / ".dask"
    old.mkdir()
    (old / "config.yaml").write_text("worker-memory-target: 0.5\nworker-memory-pause: 0.7\n")
    with worker(account, "--local-directory", str(shm)) as (client, _, _line):
        assert told(client)["spill"]
        (settings,) = client.run(memory_settings).values()
        assert settings == {"target": 0.5, "spill": 0.7, "pause": 0.7, "terminate": 0.95}


def test_files_in_memory_have_a_worker_pause(account: Account, shm: Path) -> None:
    """And it goes on when they are gone."""
    arguments = ("--local-directory", str(shm), "--memory-limit", "300 MiB")
    with worker(account, *arguments) as (client, _, _line):
        file = Path(told(client)["directory"], "users")
        file.write_bytes(b"x" * (200 * MIB))
        wait_until(lambda: told(client)["status"] == "paused")
        file.unlink()
        wait_until(lambda: told(client)["status"] == "running")


def test_the_setting_of_dask_itself_names_the_directory(account: Account, shm: Path) -> None:
    """``temporary-directory``, which goes before the environment."""
    with worker(account, TMPDIR=str(shm), DASK_TEMPORARY_DIRECTORY=str(account.home)) as (c, _, _l):
        assert told(c)["source"] == "temporary-directory"
        assert Path(told(c)["directory"]).parent == account.home


def test_a_directory_to_spill_into_that_cannot_be_used_ends_the_job(account: Account) -> None:
    """With the reason in its last line."""
    with (
        running(*SCHEDULER, "--scheduler-file", account.home / "f.json"),
        running(
            *(*WORKER, "--scheduler-file", account.home / "f.json", "--spill", "/proc/x")
        ) as process,
    ):
        _, log = process.communicate(timeout=30)
    assert process.returncode == 78
    assert "ended: workers cannot spill to /proc/x (--spill: " in log.splitlines()[-1]


# --- looking -------------------------------------------------------------------------------------


def test_a_look_says_what_a_directory_is_on(tmp_path: Path, shm: Path) -> None:
    """And leaves nothing there."""
    seen = mounts.look(Candidate(str(shm), "x"), 10)
    assert (seen.kind, seen.problem, str(seen.system)) == (Kind.MEMORY, "", "tmpfs: memory")
    link = tmp_path / "link"
    link.symlink_to(shm)
    assert mounts.look(Candidate(str(link), "x"), 10).kind is Kind.MEMORY
    assert list(shm.iterdir()) == []


def test_a_directory_that_is_not_there_is_made_only_where_somebody_asked(tmp_path: Path) -> None:
    """Private, as what will be in it."""
    missing = tmp_path / "a" / "b"
    assert "no such file" in mounts.look(Candidate(str(missing), "TMPDIR"), 10).problem
    asked = mounts.look(Candidate(str(missing), "--local-directory", may_make=True), 10)
    assert asked.problem == ""
    assert missing.stat().st_mode & 0o777 == 0o700
    assert "not a directory" in mounts.look(Candidate("/etc/passwd", "TMPDIR"), 10).problem


def test_a_directory_in_which_anyone_may_replace_things_is_not_used(tmp_path: Path) -> None:
    """Spilled results are pickles, which run code; a sticky bit keeps others' hands off."""
    tmp_path.chmod(0o777)
    assert "anyone may replace" in mounts.look(Candidate(str(tmp_path), "TMPDIR"), 10).problem
    tmp_path.chmod(0o1777)
    assert mounts.look(Candidate(str(tmp_path), "TMPDIR"), 10).problem == ""


def test_a_file_system_that_does_not_answer_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount whose server is away must not hold the job."""
    answer = threading.Event()
    monkeypatch.setattr(mounts, "_look", lambda candidate: answer.wait(60))
    seen = mounts.look(Candidate(str(tmp_path), "TMPDIR"), 0.1)
    answer.set()
    assert seen.problem == "its file system gave no answer within 0.1 s"
    assert storage.choose([seen, seen_disk(tmp_path)], storage.AUTO).look is not seen


def seen_disk(path: Path) -> storage.Look:
    system = mounts.filesystems.FileSystem("xfs", Kind.DISK)
    return storage.Look(candidate=Candidate(str(path), "x"), system=system, free=storage.ROOM)
