"""One script in every place that one machine can be, and what it leaves there."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dask_hpc
from dask_hpc.cluster.connect import look
from dask_hpc.cluster.place import decide
from dask_hpc.errors import (
    ConfigurationError,
    HeadUnreachable,
    JobStartError,
    SchedulerFileMissing,
    WorkersTimeout,
)
from tests.helpers import wait_until
from tests.integration import hands
from tests.integration.account import Account

EXAMPLE = Path(__file__).parents[2] / "examples" / "anywhere.py"
SMALL = {"cores": 1, "memory": "500 MiB", "dashboard_port": 0}
#: One node with two cores, as Slurm tells a batch script.
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_JOB_CPUS_PER_NODE": "2",
    "SLURM_CPUS_ON_NODE": "2",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURMD_NODENAME": "here",
}
pytestmark = pytest.mark.timeout(120)


def square(n: int) -> int:
    return n * n


@pytest.fixture(autouse=True)
def _a_machine_without_a_batch_system(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Whoever runs the tests may have one, and be in a job of it."""
    path = account.path / "bin"
    path.mkdir()
    for name in ("sh", "bash", "env", "sed", "uname"):
        path.joinpath(name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(path))
    for name in set(os.environ):
        if name.startswith(("SLURM", "PBS", "LOCAL_", "OMPI", "PMI", "FLUX", "OAR", "LSB")):
            monkeypatch.delenv(name)
    for name in ("JOB_ID", "_CONDOR_JOB_AD"):
        monkeypatch.delenv(name, raising=False)
    yield
    account.wait_until_nothing_is_left()


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)


def run(code: str, account: Account) -> subprocess.CompletedProcess[str]:
    script = account.path / "script.py"
    script.write_text(f"import dask_hpc, sys\n{code}")
    return subprocess.run(
        [sys.executable, str(script)], text=True, capture_output=True, check=False, timeout=60
    )


def analysis() -> str:
    """Run the example to its end: what it said of the place."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], text=True, capture_output=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "327,346 flights arrived, 6.90 minutes late on average" in done.stdout
    (line,) = done.stderr.splitlines()
    return line.removeprefix("dask-hpc: connect: ")


# -- the example ----------------------------------------------------------------------------------


def test_the_example_runs_on_a_laptop() -> None:
    """It asks for more than this machine has."""
    assert analysis().startswith("local: no batch system's programs are on the PATH")


def test_the_example_runs_beside_a_cluster_that_goes_on(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in the environment; the script's end closes nothing of it."""
    file = account.path / "f.json"
    monkeypatch.setenv("DASK_HPC_SCHEDULER_FILE", str(file))
    with hands.cluster(file, 2) as processes:
        said = f"scheduler-file: $DASK_HPC_SCHEDULER_FILE names {file}"
        assert analysis() == said
        assert [process.poll() for process in processes] == [None, None, None]
        with dask_hpc.connect(wait=2) as client:
            assert client.submit(square, 3).result() == 9


@pytest.mark.usefixtures("in_a_job")
def test_the_example_runs_in_a_job_of_one_node() -> None:
    """On its cores."""
    assert analysis() == "allocation: this is slurm job 7 with 1 node"


# -- what is started, and its end -----------------------------------------------------------------


@pytest.mark.parametrize("place", ["local", "allocation"])
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("client.close()", 0),
        ("raise ValueError('boom')", 1),
        ("sys.exit(7)", 7),
        ("pass", 0),
    ],
)
@pytest.mark.usefixtures("in_a_job")
def test_whatever_ends_a_script_clears_away(
    account: Account, place: str, end: str, code: int
) -> None:
    """Closed, failed, left open: no process, no file, and the script's own exit code."""
    done = run(
        f"client = dask_hpc.connect(where={place!r}, **{SMALL})\n"
        f"print(client.submit(sum, [1, 2]).result())\n{end}\n",
        account,
    )
    assert (done.returncode, done.stdout) == (code, "3\n"), done.stderr
    words = [line for line in done.stderr.splitlines() if "dask-hpc: connect" not in line]
    assert bool(words) == (code == 1)
    account.wait_until_nothing_is_left()


@pytest.mark.usefixtures("in_a_job")
def test_a_job_is_used_as_it_is(account: Account) -> None:
    """All its cores, whatever one task has; each worker with the threads that were asked for."""
    options = {**SMALL, "cores": 8, "processes": 4, "queue": "q", "parallel_environment": "smp"}
    with dask_hpc.connect(wait=99, jobs=5, **options) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["name"][:8]) == (2, "slurm-7-")
        assert client.submit(square, 5).result() == 25
        assert client.cluster.scheduler_address.startswith("tls://")
        with pytest.raises(ConfigurationError, match="does not grow"):
            client.cluster.scale(2)
    with dask_hpc.connect(dashboard_port=0, wait=99) as client:
        assert [w["nthreads"] for w in client.scheduler_info()["workers"].values()] == [1, 1]


@pytest.mark.usefixtures("in_a_job")
def test_several_nodes_are_reached_by_the_launcher(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One supervisor on each; names of workers tell the nodes apart; nothing stays."""
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    tools = account.path / "tools"
    tools.mkdir()
    launcher = tools / "each"
    launcher.write_text('#!/bin/sh\nfor NODE in a b; do export NODE; "$@" & done; wait\n')
    uname = tools / "uname"
    uname.write_text('#!/bin/sh\necho "node_$NODE.domain"\n')
    hosts = tools / "scontrol"
    hosts.write_text("#!/bin/sh\necho a; echo b\n")
    for tool in (launcher, uname, hosts):
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with dask_hpc.connect(launcher="each", wait=99, dashboard_port=0) as client:
        names = sorted(w["name"] for w in client.scheduler_info()["workers"].values())
        base = client.cluster.name
        assert names == [f"{base}-node_{n}.{k}" for n in "ab" for k in (0, 1)]
        assert sorted(client.run(os.getenv, "NODE").values()) == ["a", "a", "b", "b"]


@pytest.mark.usefixtures("in_a_job")
def test_workers_that_cannot_start_are_explained(account: Account) -> None:
    """With their last words; nothing waits for ever."""
    with pytest.raises(JobStartError, match=r"slurm job 7 .* have ended[\s\S]*no such licence"):
        dask_hpc.connect(job_script_prologue=["echo no such licence; exit 3"], **SMALL)
    assert account.left() != []  # the log
    shutil.rmtree(next(account.home.glob("slurm-7-*")))


@pytest.mark.usefixtures("in_a_job")
def test_a_jobs_workers_that_are_killed_are_an_error_and_no_hang(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody replaces them: what waits for a result is told."""
    client = dask_hpc.connect(name="doomed", **SMALL)
    (node,) = account.jobs()
    future = client.submit(pow, 2, 3)
    assert future.result() == 8
    os.kill(node.pid, signal.SIGKILL)
    wait_until(lambda: "have ended (exit code" in caplog.text)
    wait_until(lambda: client.status != "running" or future.cancelled())
    client.close()
    shutil.rmtree(account.home / "doomed")


async def test_it_works_in_an_event_loop(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a context manager and awaited, on a laptop and in a job."""
    async with dask_hpc.connect(asynchronous=True, **SMALL) as client:
        assert await client.submit(square, 4) == 16
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    client = await dask_hpc.connect(asynchronous=True, dashboard_port=0, wait=2)
    assert await client.submit(square, 5) == 25
    assert client.place == "allocation"
    await client.close()
    file = account.path / "f.json"
    with hands.cluster(file):
        async with dask_hpc.connect(file, asynchronous=True) as client:
            assert await client.submit(square, 6) == 36


# -- beside a cluster that runs -------------------------------------------------------------------


def test_a_cluster_is_named_by_argument_address_or_configuration(account: Account) -> None:
    """And every one of them is TLS with the user's own identity."""
    import dask

    file = account.path / "f.json"
    with hands.cluster(file):
        address = hands.there(file).address
        assert address.startswith("tls://")
        with dask_hpc.connect(file) as client:
            assert client.submit(square, 2).result() == 4
        for setting in ({"scheduler-address": address}, {"dask-hpc.scheduler-file": str(file)}):
            with dask.config.set(setting), dask_hpc.connect(cores=64, processes=64) as client:
                assert client.place == "scheduler-file"
                assert client.submit(square, 3).result() == 9


def test_a_cluster_that_is_not_there_is_an_error(account: Account) -> None:
    """No file in time; nobody behind it; no workers; no TLS."""
    file = account.path / "f.json"
    with pytest.raises(SchedulerFileMissing, match="there is no scheduler file"):
        dask_hpc.connect(file, timeout=0.1)
    with hands.cluster(file, workers=0):
        with pytest.raises(WorkersTimeout, match=r"had fewer than 1 workers for 0\.3 s"):
            dask_hpc.connect(file, timeout=0.3)
        with dask_hpc.connect(file, wait=0) as client:
            assert not client.scheduler_info()["workers"]
        text = file.read_text()
    file.write_text(text)
    file.chmod(0o600)
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(HeadUnreachable, match="does not answer"),
    ):
        dask_hpc.connect(file)
    file.write_text('{"address": "tcp://127.0.0.1:1"}')
    with pytest.raises(ConfigurationError, match="has no TLS: anyone could answer"):
        dask_hpc.connect(file)


# -- what is refused ------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_before_anything_starts(account: Account) -> None:
    """Places that are not there, and words that nobody knows."""
    with pytest.raises(ConfigurationError, match="this is no job"):
        dask_hpc.connect(where="allocation")
    with pytest.raises(ConfigurationError, match="there is no batch system here"):
        dask_hpc.connect(where="batch")
    with pytest.raises(ConfigurationError, match="did you mean memory="):
        dask_hpc.connect(memroy="1 GiB")
    with pytest.raises(ConfigurationError, match="wait=-1"):
        dask_hpc.connect(wait=-1)
    assert not account.home.exists()


def test_a_machine_with_a_batch_system_is_known_by_its_programs(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked of them yet."""
    for name in ("sbatch", "squeue", "scancel"):
        program = account.path / "bin" / name
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
    choice = decide(look())
    assert str(choice).startswith("batch: slurm: sbatch is /")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert str(decide(look())) == "mpi: Open MPI's mpirun started 4 ranks"


async def test_the_loop_is_not_needed_for_a_synchronous_client(account: Account) -> None:
    """As in a notebook: its own loop is in another thread."""
    with dask_hpc.connect(**SMALL) as client:
        assert client.submit(square, 7).result() == 49
    await asyncio.to_thread(account.wait_until_nothing_is_left)
