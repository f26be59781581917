"""Scratch of Slurm jobs, as an ordinary user: told, private, cleared away, counted in memory."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from dask_hpc import SLURMCluster
from tests.site.slurm import queue, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]

MIB = 1 << 20


def cluster(name: str, **options: Any) -> SLURMCluster:
    options = {"cores": 1, "memory": "400 MiB", "walltime": "10 min", **options}
    return SLURMCluster(name=name, dashboard_port=0, **options)


def scratch(client: Client) -> list[dict[str, Any]]:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return [worker["scratch"] for worker in workers]


def directories(client: Client) -> set[Path]:
    return {Path(each["directory"]) for each in scratch(client)}


def kill_supervisor() -> None:
    import psutil

    own = psutil.Process()
    top = [each for each in own.parents() if each.cmdline() == own.cmdline()][-1]
    top.send_signal(signal.SIGKILL)


def test_scratch_of_a_killed_job_is_removed_by_the_next_and_that_of_others_stays() -> None:
    """Hosts of their own process ids share this /tmp: only the lock tells who lives."""
    with cluster("scratch") as c:
        c.scale(jobs=2)
        c.wait_for_workers(2, timeout=60)
        with c.get_client() as client:
            before = directories(client)
            assert len(before) == 2
            assert {path.stat().st_mode & 0o777 for path in before} == {0o700}
            assert {path.name.startswith("dask-job-") for path in before} == {True}
            assert {each["spill"] for each in scratch(client)} == {True}
            victim, address = next(
                (Path(worker["scratch"]["directory"]), address)
                for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()
            )
            client.run(kill_supervisor, workers=[address], on_error="ignore")
            wait_until(
                lambda: len(directories(client) - {victim}) == 2, 90, "another job takes its place"
            )
            now = directories(client)
            assert len(now & before) == 1
            assert not victim.exists()
            assert all(path.is_dir() for path in now)
    wait_until(lambda: not queue("scratch"), 60, "the jobs have ended")
    wait_until(lambda: not any(path.exists() for path in now), 30, "scratch is gone")


IN_MEMORY = Path("/dev/shm/dask-hpc-test")


def fill_memory(size: int) -> None:
    with IN_MEMORY.open("wb") as file:
        file.writelines(b"x" * MIB for _ in range(size // MIB))


def empty_memory() -> None:
    IN_MEMORY.unlink()


def test_files_in_memory_make_the_workers_of_a_job_pause_before_it_is_killed() -> None:
    """The control group counts them; all its workers share them, and go on when they are gone."""
    options = {"cores": 2, "processes": 2, "memory": "800 MiB", "local_directory": "/dev/shm"}
    with cluster("shm", **options) as c:
        c.scale(jobs=1)
        c.wait_for_workers(2, timeout=60)
        with c.get_client() as client:
            assert {each["kind"] for each in scratch(client)} == {"memory"}

            def states() -> set[str]:
                workers = client.scheduler_info(n_workers=-1)["workers"].values()
                return {worker["status"] for worker in workers}

            (one, _) = client.scheduler_info(n_workers=-1)["workers"]
            client.run(fill_memory, 560 * MIB, workers=[one])
            wait_until(lambda: states() == {"paused"}, 30, "both workers pause")
            assert len(queue("shm")) == 1
            client.run(empty_memory, workers=[one])
            wait_until(lambda: states() == {"running"}, 30, "both workers go on")
