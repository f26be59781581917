"""When to look at workers' memory, and which of them must go before the kernel chooses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.node import memory_watch
from dask_hpc.node.cgroups import groups_of
from dask_hpc.node.limits import headroom
from dask_hpc.node.memory_watch import (
    FASTEST,
    LONGEST,
    SHORTEST,
    Group,
    MemoryWatch,
    Use,
    bounding,
    chosen,
    last,
    pause,
    tree,
    unreclaimable,
)

MIB = 1 << 20
V1 = "4:memory:/slurm/uid_1/job_7/step_batch\n0::/\n"


@given(st.floats(-1e12, 1e13))
def test_nobody_can_use_up_what_is_left_between_two_looks(left: float) -> None:
    """At the fastest, half of it; a look is never sooner nor later than the bounds."""
    seconds = pause(left)
    assert SHORTEST <= seconds <= LONGEST
    assert seconds == SHORTEST or seconds * FASTEST <= left / 2


def test_an_hour_of_plenty_costs_five_looks_a_second() -> None:
    """As many as the engine takes by itself."""
    assert pause(100e9) == LONGEST


@given(st.integers(16, 1 << 45), st.integers(1, 256))
def test_the_headroom_is_more_than_what_makes_a_worker_go(limit: int, workers: int) -> None:
    """Workers at their limits do not fill a job; nor does an idle one fill a small job."""
    assert last(limit) < headroom(limit, workers)


def test_cached_files_are_no_use_of_memory() -> None:
    """The kernel takes them back before it kills; those that it still writes it cannot."""
    stat = {"active_file": 100, "inactive_file": 50, "anon": 800, "file_writeback": 20}
    assert unreclaimable(1000, stat, 2) == 870
    v1 = {f"total_{name}": value for name, value in stat.items()} | {"active_file": 9}
    assert unreclaimable(1000, v1, 1) == 850
    assert unreclaimable(1000, {}, 2) == 1000


def test_the_worker_farthest_above_its_limit_goes() -> None:
    """Not the largest; and none where nobody uses much: something else fills the job."""
    uses = {1: Use(900 * MIB, 1000 * MIB), 2: Use(600 * MIB, 200 * MIB), 3: Use(MIB, 1000 * MIB)}
    assert chosen(uses) == 2
    assert chosen({3: uses[3]}) is None
    assert chosen({}) is None


def test_what_a_worker_has_started_is_its_own() -> None:
    """Programs of programs too; other workers, and what started them, are not."""
    parents = {1: 0, 2: 1, 3: 1, 4: 2, 5: 4, 6: 3}
    assert tree(2, parents) == {2, 4, 5}
    assert tree(9, parents) == {9}


def test_the_groups_with_the_jobs_limit_are_watched() -> None:
    """Others' jobs are in the groups above: their fill is not our workers' doing."""
    limits = {"step_batch": 500 * MIB, "job_7": 500 * MIB, "uid_1": 1 << 62, "slurm": 900 * MIB}

    def read(path: str) -> str:
        *_, group, name = path.split("/")
        return f"{limits[group]}\n" if name == "memory.limit_in_bytes" and group in limits else ""

    root = "/sys/fs/cgroup/memory/slurm/uid_1/job_7"
    assert bounding(groups_of(V1, "memory"), read) == (
        Group(f"{root}/step_batch", 1, 500 * MIB),
        Group(root, 1, 500 * MIB),
    )
    assert bounding(groups_of(V1, "memory"), lambda _: "") == ()
    assert bounding(None, read) == ()


def test_groups_of_version_2_are_watched_alike() -> None:
    """The step has no limit of its own, its job has one."""
    files = {
        "/sys/fs/cgroup/slurm/job_7/step_batch/memory.max": "max\n",
        "/sys/fs/cgroup/slurm/job_7/memory.max": "1073741824\n",
    }
    found = bounding(
        groups_of("0::/slurm/job_7/step_batch\n", "memory"), lambda path: files.get(path, "")
    )
    assert found == (Group("/sys/fs/cgroup/slurm/job_7", 2, 1 << 30),)


@pytest.mark.parametrize(
    ("version", "usage", "stat"),
    [
        (1, "memory.usage_in_bytes", "total_active_file 100\ntotal_inactive_file 200\n"),
        (2, "memory.current", "active_file 100\ninactive_file 200\n"),
    ],
)
def test_what_is_left_is_read_from_the_kernels_files(
    version: int, usage: str, stat: str, tmp_path: Path
) -> None:
    """And a group whose files are gone is nobody's any more."""
    group = Group(str(tmp_path), version, 10_000)
    assert memory_watch._left(group) == 10_000
    (tmp_path / usage).write_text("9000\n")
    (tmp_path / "memory.stat").write_text(stat)
    assert memory_watch._left(group) == 1300


class Nanny:
    """As much of a nanny as is looked at."""

    def __init__(self, pid: int | None, limit: int, fraction: float | bool = 0.95) -> None:
        self.pid = pid
        self.looked = asyncio.Event()
        self.memory_manager = SimpleNamespace(
            memory_limit=limit,
            memory_terminate_fraction=fraction,
            memory_monitor=lambda _: self.looked.set(),
        )


def watch(monkeypatch: pytest.MonkeyPatch, left: int, *nannies: Any) -> MemoryWatch:
    monkeypatch.setattr(memory_watch, "bounding", lambda _: (Group("/g", 1, MIB),))
    monkeypatch.setattr(memory_watch, "_left", lambda _: left)
    return MemoryWatch(nannies)


def test_a_nanny_looks_when_its_worker_is_above_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not at its next interval; the others are left in peace."""
    above, below, unborn = Nanny(os.getpid(), MIB), Nanny(os.getpid(), 1 << 50), Nanny(None, MIB)

    async def run() -> None:
        async with asyncio.timeout(10):
            task = asyncio.create_task(watch(monkeypatch, 64 * MIB, above, below, unborn).run())
            await above.looked.wait()
            task.cancel()

    asyncio.run(run())
    assert not below.looked.is_set()
    assert not unborn.looked.is_set()


PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"])
input()
"""


def test_when_the_job_is_full_a_worker_goes_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its programs would live on otherwise, and so would what they hold."""
    events: list[Any] = []
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "up\n"
        (child,) = psutil.Process(worker.pid).children()
        nanny: Any = Nanny(worker.pid, 1 << 40, fraction=0.95)
        nanny.worker_address = "tls://h:1"
        nanny.log_event = lambda topic, event: events.append((topic, event["pid"]))
        full = watch(monkeypatch, 0, nanny)
        members = tmp_path / "cgroup.procs"
        members.write_text(f"{worker.pid}\n{child.pid}\n{os.getpid()}\n")
        full._members = str(members)
        full._relieve()
        assert (events, child.is_running()) == ([], True), "an idle worker would free nothing"
        nanny.memory_manager.memory_limit = MIB
        full._relieve()
        full._relieve()  # it has not gone yet: nobody else must go
        assert worker.wait(10) == -signal.SIGKILL
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert events == [("worker-restart-memory", worker.pid)]


@pytest.mark.parametrize("nanny", [Nanny(1, 0), Nanny(1, MIB, fraction=False)])
def test_who_wants_no_limit_is_not_watched(nanny: Nanny, monkeypatch: pytest.MonkeyPatch) -> None:
    """--memory-limit 0, or terminate: false in the user's configuration."""
    asyncio.run(asyncio.wait_for(watch(monkeypatch, 0, nanny).run(), 10))
    assert not nanny.looked.is_set()
