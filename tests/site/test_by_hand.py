"""Workers in an array that nobody of us submitted, and a scheduler by hand, on real systems."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

from dask_hpc.cluster.dask_config import name_in_dask_config
from dask_hpc.cluster.security import ensure_identity
from tests.site.beds import BED
from tests.site.slurm import run, wait_until

COUNT = 10
SOON = 60
USER = os.environ.get("USER", "")
#: How people submit an array of one command.
ARRAYS = {
    "sge": ("qsub", "-b", "y", "-V", "-cwd", "-j", "y", "-t", f"1-{COUNT}"),
    "slurm": ("sbatch", f"--array=1-{COUNT}", "--mem=300"),
}
pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(BED.batch not in ARRAYS, reason="the arrays of two systems are enough"),
]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that all nodes see, and an identity that this Python knows."""
    name_in_dask_config(ensure_identity())
    path = Path.home() / f"hand-{secrets.token_hex(3)}"
    path.mkdir(mode=0o700)
    monkeypatch.chdir(path)
    yield path
    wait_until(lambda: path.name not in BED.jobs(USER), SOON, "the queue is empty")
    shutil.rmtree(path)


@contextmanager
def scheduler(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``dask-scheduler`` on the login node."""
    process = subprocess.Popen(
        ["dask-scheduler", "--scheduler-file", str(file), "--no-dashboard"],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(file.exists, 30, "the scheduler has written its file")
        yield process
    finally:
        process.terminate()
        process.wait(20)


def submit_workers(folder: Path, file: Path) -> None:
    """Submit the array as a user would."""
    worker = [shutil.which("dask-worker"), "--scheduler-file", str(file), "--memory-limit", "0"]
    if BED.batch == "sge":
        run(*ARRAYS["sge"], "-N", folder.name, "-o", str(folder), *worker)
    else:
        words = " ".join(map(str, worker))
        run(*ARRAYS["slurm"], "-J", folder.name, f"--output={folder}/%a.log", f"--wrap={words}")


def check(file: Path) -> None:
    """A plain client sees ten workers, each with a name of its own, and they compute."""
    with Client(scheduler_file=str(file)) as client:
        client.wait_for_workers(COUNT, timeout=SOON)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        names = {str(worker["name"]) for worker in workers}
        print(f"\n{BED.batch}: {sorted(names)[:3]}")
        assert len(names) == COUNT
        indices = {name.split("-")[-3].rpartition(".")[2] for name in names}
        assert indices == {str(index) for index in range(1, COUNT + 1)}
        assert client.scheduler.address.startswith("tls://")
        assert client.gather(client.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        client.shutdown()


def test_an_array_of_workers_joins_a_scheduler_on_the_login_node(folder: Path) -> None:
    """All of them, under names of their own, and end with it."""
    file = folder / "f.json"
    with scheduler(file) as process:
        submit_workers(folder, file)
        check(file)
        assert process.wait(20) == 0
    assert not file.exists()


def test_an_array_that_runs_before_its_scheduler_waits_for_it(folder: Path) -> None:
    """The file is all they need."""
    file = folder / "f.json"
    submit_workers(folder, file)
    logs = "*.log" if BED.batch == "slurm" else f"{folder.name}.o*"
    wait_until(lambda: len(list(folder.glob(logs))) == COUNT, SOON, "all jobs run")
    with scheduler(file):
        check(file)


@pytest.mark.slurm
@pytest.mark.long  # test_leaving.py has it for a cluster's jobs
def test_a_requeued_job_comes_back_as_itself_and_loses_no_data(folder: Path) -> None:
    """Its workers have the names of before, its log has both lives."""
    file = folder / "f.json"
    worker = f"{shutil.which('dask-worker')} --scheduler-file {file} --memory-limit 0"
    script = f"--wrap={worker} --name w$SLURM_ARRAY_TASK_ID"
    options = ("--parsable", "--array=0-1", "--mem=300", "--requeue", "--open-mode=append")
    with scheduler(file):
        job = run("sbatch", *options, "-J", folder.name, f"--output={folder}/%a.log", script)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=SOON)
            before = addresses(client)
            data = client.scatter({"x": 7}, workers=[before["w0"]])["x"]
            run("scontrol", "requeue", f"{job.strip()}_0")
            wait_until(lambda: list(addresses(client)) == ["w1"], 30, "it has left")
            assert data.result(timeout=10) == 7
            wait_until(lambda: set(addresses(client)) == {"w0", "w1"}, 90, "it is back")
            assert addresses(client)["w0"] != before["w0"]
            client.shutdown()
    log = (folder / "0.log").read_text()
    assert "SIGTERM: 1 workers leave, within" in log
    assert log.count("1 workers joined") == 2


def addresses(client: Client) -> dict[str, str]:
    """Of each worker, by its name."""
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    return {str(worker["name"]): address for address, worker in workers}
