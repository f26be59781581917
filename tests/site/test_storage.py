"""Real file systems: what is chosen on each, and that a network is spared.

Runs as root on the machine itself, since only root may mount.  The workers are started by hand: the
batch system plays no part.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Future

import dask_hpc
from tests.helpers import wait_until
from tests.integration.hands import SCHEDULER, WORKER, running, started, there
from tests.site.mounted import Mounts, mounts, watched

pytestmark = [pytest.mark.slurm, pytest.mark.root, pytest.mark.timeout(300)]

MIB = 1 << 20


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounts]:
    """Mounts of a test, and a user who has never used dask."""
    for name in [name for name in os.environ if name.startswith(("DASK_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "hpc"))
    place = tmp_path / "disks"
    place.mkdir()
    with mounts(place) as found:
        yield found


@contextmanager
def worker(
    home: Path, *arguments: str | Path, **environ: str
) -> Iterator[tuple[Client, list[str], subprocess.Popen[str]]]:
    """A cluster of one worker: its client, what it said of storage, its supervisor."""
    file = home / f"f{time.monotonic_ns()}.json"
    with running(*SCHEDULER, "--scheduler-file", file):
        there(file)
        command = (*WORKER, "--scheduler-file", file, "--nthreads", "1", *arguments)
        with running(*command, **environ) as process:
            said: list[str] = []
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if "scratch in" in line and "warning" not in line:
                    break
            started(process)
            try:
                with dask_hpc.connect(file) as client:
                    yield client, said, process
            finally:
                process.terminate()
                print(process.stderr.read())  # why, if the test fails


def told(client: Client) -> dict[str, Any]:
    (found,) = client.scheduler_info(n_workers=-1)["workers"].values()
    return {**found["scratch"], "status": found["status"]}


def thresholds() -> tuple[Any, ...]:
    import dask

    section = dask.config.get("distributed.worker.memory")
    return tuple(section[name] for name in ("target", "spill", "pause", "terminate"))


SPILLS = (0.6, 0.7, 0.8, 0.95)
PAUSES = (False, False, 0.8, 0.95)

#: File system, kind, whether workers spill there by themselves, a word of the reason.
CASES: dict[str, tuple[Callable[[Mounts], Path], str, bool, str]] = {
    "tmpfs": (Mounts.tmpfs, "memory", False, "memory too"),
    "disk": (lambda disks: disks.image("disk", "ext4"), "local disk", True, ""),
    "xfs": (lambda disks: disks.image("disk", "xfs"), "local disk", True, ""),
    "full disk": (Mounts.full, "local disk", False, "too little"),
    "quota": (Mounts.quota, "local disk", False, "your quota"),
    "fuse": (lambda disks: disks.fuse()[0], "network", False, "no disk of this node"),
    "overlay on a disk": (
        lambda disks: disks.overlay(disks.image("disk", "ext4")),
        *("local disk", True, ""),
    ),
    "overlay on tmpfs": (
        lambda disks: disks.overlay(disks.tmpfs()),
        *("memory", False, "memory too"),
    ),
    "a file on a network": (
        lambda disks: disks.image("disk", "ext4", where=disks.fuse()[0]),
        *("network", False, "no disk of this node"),
    ),
    "a file in memory": (
        lambda disks: disks.image("disk", "ext4", where=disks.tmpfs()),
        *("memory", False, "memory too"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_policy_follows_the_file_system(name: str, disks: Mounts, tmp_path: Path) -> None:
    """Workers spill to a disk with room, and pause on all others; scratch is there, and goes."""
    make, kind, spills, reason = CASES[name]
    point = make(disks)
    with worker(tmp_path, "--local-directory", point) as (client, said, process):
        seen = told(client)
        assert Path(seen["directory"]).parent == point
        assert (seen["kind"], seen["spill"]) == (kind, spills)
        assert reason in seen["why"]
        (values,) = client.run(thresholds).values()
        assert values == (SPILLS if spills else PAUSES)
        assert f"scratch in {point} (--local-directory: " in said[-1]
        process.terminate()
        process.wait(20)
    assert list(point.glob("dask-job-*")) == []


def test_a_read_only_disk_is_passed_over_with_a_warning(disks: Mounts, tmp_path: Path) -> None:
    """Scratch goes to the next candidate."""
    frozen, disk = disks.read_only(), disks.image("disk", "ext4")
    with worker(tmp_path, "--local-directory", frozen, TMPDIR=str(disk)) as (client, said, _):
        assert f"warning: no scratch in {frozen} (--local-directory: read-only)" in said[0]
        assert (told(client)["source"], told(client)["spill"]) == ("TMPDIR", True)


def test_the_first_disk_with_room_is_taken_before_memory_and_network(
    disks: Mounts, tmp_path: Path
) -> None:
    """Whatever comes before it."""
    job, site, disk = disks.full(), disks.fuse()[0], disks.image("disk", "ext4")
    environ = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1", "SLURM_TMPDIR": str(job)}
    with worker(tmp_path, "--scratch", site, TMPDIR=str(disk), **environ) as (client, _, _p):
        assert Path(told(client)["directory"]).parent == disk
        assert Path(told(client)["directory"]).name.startswith("dask-job-7-")


def test_a_network_whose_server_is_away_does_not_hold_the_job(
    disks: Mounts, tmp_path: Path
) -> None:
    """A look has five seconds; then the next candidate is looked at."""
    served, server = disks.fuse()
    disk = disks.image("disk", "ext4")
    server.suspend()
    began = time.monotonic()
    try:
        with worker(tmp_path, "--scratch", served, TMPDIR=str(disk)) as (client, said, _):
            assert time.monotonic() - began < 30
            assert "gave no answer within 5 s" in said[0]
            assert told(client)["source"] == "TMPDIR"
    finally:
        server.resume()


def test_space_that_a_dead_job_holds_is_there_for_the_next(disks: Mounts, tmp_path: Path) -> None:
    """What was left is removed before the room is judged."""
    disk = disks.image("disk", "ext4", 3 << 29)  # 1.5 GiB
    with worker(tmp_path, "--local-directory", disk) as (client, _, process):
        assert told(client)["spill"]
        held = Path(told(client)["directory"], "spilled")
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    with held.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 30)
    with worker(tmp_path, "--local-directory", disk) as (client, _, _p):
        assert told(client)["spill"]
    assert not held.exists()


def test_what_another_user_puts_there_is_left_alone(disks: Mounts, tmp_path: Path) -> None:
    """A directory that looks like ours, and a link under our name to what is ours."""
    disk, kept = disks.image("disk", "ext4"), tmp_path / "dask-job-kept"
    with worker(tmp_path, "--local-directory", disk) as (client, _, process):
        ours = Path(told(client)["directory"])
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    shutil.copytree(ours, kept)
    kept.chmod(0o700)
    theirs, link = disk / "dask-job-theirs", disk / "dask-job-link"
    shutil.copytree(ours, theirs)
    theirs.chmod(0o700)
    for path in (theirs, *theirs.rglob("*")):
        shutil.chown(path, "alice")
    link.symlink_to(kept)
    with worker(tmp_path, "--local-directory", disk):
        assert not ours.exists()
        assert (theirs / "owner.json").exists()
        assert (kept / "owner.json").exists()
        assert link.is_symlink()


# --- more than the memory ------------------------------------------------------------------------

#: From pausing to being killed it is 90 MiB, or 6 tasks: the machine may be busy.
TASKS, PIECE, LIMIT = 64, 15 * MIB, 600 * MIB


def produce(number: int) -> bytes:
    """A task of a quarter of a second with a result of 15 MiB."""
    threading.Event().wait(0.25)
    return bytes([number]) * PIECE


def pid_of_worker(client: Client) -> int:
    (pid,) = client.run(os.getpid).values()
    return int(pid)


def done(futures: list[Future]) -> list[Future]:
    return [future for future in futures if future.status == "finished"]


def test_more_than_the_memory_pauses_on_a_network_and_writes_nothing_there(
    disks: Mounts, tmp_path: Path
) -> None:
    """Twice a worker's memory, on a file system that counts: no spill, no death; then it ends."""
    served, server = disks.fuse()
    with (
        watched(server, tmp_path / "trace") as traffic,
        worker(tmp_path, "--local-directory", served, "--memory-limit", str(LIMIT)) as (client, *_),
    ):
        before = pid_of_worker(client)
        futures = client.map(produce, range(TASKS))
        wait_until(lambda: told(client)["status"] == "paused", 60)
        held = len(done(futures))
        assert LIMIT // 2 < held * PIECE < LIMIT
        total = 0
        while futures:  # a client that takes what is ready makes room for the rest
            for future in wait_until(lambda: done(futures), 60):
                total += len(future.result(60))
                futures.remove(future)
                future.release()
        assert total == TASKS * PIECE
        assert pid_of_worker(client) == before
        print(f"{held} results held when it paused, {traffic.written} bytes written")
        assert traffic.opened("/storage") == []
        assert traffic.written < MIB  # a trial of 64 KiB, and who we are


def test_the_same_spills_where_the_user_says_so(disks: Mounts, tmp_path: Path) -> None:
    """Which also shows that what is counted above would be seen."""
    served, server = disks.fuse()
    with (
        watched(server, tmp_path / "trace") as traffic,
        worker(tmp_path, "--spill", served, "--memory-limit", str(LIMIT)) as (client, said, _),
    ):
        assert "but that is no disk of this node" in said[0]
        futures = client.map(produce, range(TASKS // 2))
        wait_until(lambda: len(done(futures)) == TASKS // 2, 120)
        print(f"{traffic.written} bytes written")
        assert traffic.opened("/storage")
        assert traffic.written > 4 * PIECE
