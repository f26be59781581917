"""Memory on a real Slurm whose task/cgroup limits it: we end a worker before the kernel does."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, KilledWorker, wait

from dask_hpc import SLURMCluster
from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.security import ensure_identity
from dask_hpc.node.cgroups import own_groups
from tests.site.slurm import job_state, queue, run, wait_until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists(),
        reason="the test bed limits memory by control groups of version 1",
    ),
]
MIB = 1 << 20
WORKERS = 8
JOB = 3000  # MiB
HELD = 180  # MiB of each of the others: a worker of the engine's size does not fit beside them
RUN = secrets.token_hex(2)


def hold(number: int) -> Any:
    return np.full(HELD * MIB, number, dtype="u1")


def eat(threads: int) -> None:
    """Take memory as fast as so many threads can, without end."""
    from threading import Thread

    def grow() -> None:
        taken = []
        while True:
            taken.append(np.ones(4 * MIB))

    all_threads = [Thread(target=grow) for _ in range(threads)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()


def eat_outside() -> None:
    """Start a program that takes memory without end: the engine does not see it."""
    program = "taken = []\nwhile True: taken.append(b'1' * (32 << 20))"
    subprocess.run([sys.executable, "-c", program], check=True)


def kernel_kills() -> int:
    """How often the kernel has killed in this job's control group."""
    groups = own_groups("memory")
    assert groups is not None
    assert "job_" in groups.directories[0]
    texts = [Path(each, "memory.oom_control").read_text() for each in groups.directories[:3]]
    return max(int(text.split("oom_kill ")[1]) for text in texts)


def restarts(client: Client) -> int:
    return len(client.get_events("worker-restart-memory") or ())


def fill(client: Client) -> tuple[list[str], list[Any]]:
    """Have each worker but the first hold a result of its own."""
    first, *others = client.scheduler_info(n_workers=-1)["workers"]
    held = [
        client.submit(hold, number, workers=[address], pure=False)
        for number, address in enumerate(others)
    ]
    wait(held, timeout=60)
    return [first, *others], held


def kept(held: list[Any]) -> int:
    """How many results are still what and where they were."""
    futures = [future for future in held if future.status == "finished"]
    return sum(int(future.result()[-1]) == number for number, future in enumerate(futures))


@pytest.mark.parametrize(
    ("task", "argument"), [(eat, (1,)), (eat, (4,)), (eat_outside, ())], ids=["1", "4", "program"]
)
def test_a_task_that_eats_memory_costs_its_worker_and_nothing_else(
    task: Any, argument: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    """Restarted by us: the kernel kills nobody, Slurm calls nothing out of memory."""
    name = f"eats-{request.node.callspec.id}-{RUN}"
    options = {"cores": WORKERS, "processes": WORKERS, "memory": f"{JOB} MiB"}
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        cluster = SLURMCluster(name=name, walltime="10 min", dashboard_port=0, **options)
    with cluster as c:
        c.scale(jobs=1)
        c.wait_for_workers(WORKERS, timeout=60)
        with c.get_client() as client:
            (first, *others), held = fill(client)
            limits = [w["memory_limit"] for w in client.scheduler_info(-1)["workers"].values()]
            assert sum(limits) < JOB * MIB
            pids = client.run(os.getpid, workers=others)
            with pytest.raises(KilledWorker):
                client.submit(task, *argument, workers=[first], pure=False).result(timeout=120)
            c.wait_for_workers(WORKERS, timeout=60)
            assert restarts(client) == 1
            assert client.run(os.getpid, workers=others) == pids
            assert kept(held) == WORKERS - 1
            assert set(client.run(kernel_kills).values()) == {0}
        job = queue(name)[0].split()[0]
        c.scale(jobs=0)  # its workers retire, and the job ends by itself
        state = job_state(job)
    print(f"\ndask-hpc, {name}: 0 kernel kills, 1 restart, {WORKERS - 1} results kept, {state}")
    assert not state.startswith("OUT_OF_ME")


@contextmanager
def plain_workers(folder: Path) -> Iterator[tuple[Path, str]]:
    """Dask's own workers, started in a job as its guide says; their scheduler file, and the job."""
    file = folder / "scheduler.json"
    program = shutil.which("dask")
    name_in_dask_config(ensure_identity())
    with subprocess.Popen(
        ["dask-scheduler", "--scheduler-file", str(file), "--no-dashboard"],
        env={
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "PYTHONPATH": str(Path.cwd()),  # these tests are in what the client sends
        },
        stderr=subprocess.DEVNULL,
    ) as scheduler:
        try:
            wait_until(file.exists, 30, "the scheduler has written its file")
            worker = f"{program} worker --scheduler-file {file} --nworkers {WORKERS} --nthreads 1"
            asked = ("-c", str(WORKERS), f"--mem={JOB}", f"--output={folder}/log")
            words = f"export PYTHONPATH={Path.cwd()}; exec {worker} --no-dashboard"
            job = run("sbatch", "--parsable", *asked, f"--wrap={words}").strip()
            yield file, job
        finally:
            scheduler.terminate()


def test_beside_it_dasks_own_workers_are_killed_by_the_kernel() -> None:
    """The same job, the same task: each worker believes that the machine is its own."""
    folder = Path.home() / f"plain-{RUN}"
    folder.mkdir(mode=0o700)
    with plain_workers(folder) as (file, job):
        try:
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(WORKERS, timeout=60)
                (first, *_), held = fill(client)
                limits = [w["memory_limit"] for w in client.scheduler_info(-1)["workers"].values()]
                with pytest.raises(KilledWorker):
                    client.submit(eat, 1, workers=[first], pure=False).result(timeout=120)
                kills = max(client.run(kernel_kills, on_error="ignore").values())
                known, keeps = restarts(client), kept(held)
                client.shutdown()  # its workers leave, and the job ends by itself
            wait_until(lambda: not run("squeue", "-h", "-j", job, check=False), 30, "it ends")
        finally:
            run("scancel", job, check=False)
            state = job_state(job)
            shutil.rmtree(folder)
    print(
        f"\ndask worker: limits add up to {sum(limits) / MIB:.0f} MiB of {JOB}, {kills} kernel"
        f" kills, {known} restarts of its own, {keeps} results kept, {state}"
    )
    assert sum(limits) > JOB * MIB
    assert (kills > 0, known) == (True, 0)
    assert state == "OUT_OF_MEMORY"
