"""Real MPICH and real Open MPI, Debian's and PyPI's: up, compute, every way to end."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client

from tests.site.mpi import BED, RIGHT, WITHOUT_MPI4PY, WRONG, Pair, Running, running
from tests.site.slurm import run

PROGRAMS = Path(__file__).parent / "programs"
ON_SLURM = os.environ.get("SITE_BATCH") == "slurm"
pytestmark = [
    pytest.mark.mpi,
    pytest.mark.timeout(200),
    pytest.mark.skipif(not BED.exists(), reason="testbeds/mpi-up.sh has not been run"),
]
#: Once, beside which batch system does not matter.
alone = pytest.mark.skipif(os.environ.get("SITE_BATCH", "mpi") != "mpi", reason="needs no queue")
MPICH, OPENMPI, DEBIAN_OPENMPI = RIGHT[:3]
EACH_MPI = pytest.mark.parametrize("pair", [MPICH, OPENMPI, DEBIAN_OPENMPI], ids=str)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.json"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def dask_mpi(pair: Pair, ranks: int, *options: str | Path) -> list[str]:
    return pair.command(ranks, pair.venv / "bin/dask-mpi", *options)


def wait_for(file: Path, launch: Running, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert launch.process.poll() is None, launch.text()
        assert time.monotonic() < deadline, launch.text()
        time.sleep(0.05)
    launch.processes()


def addresses(client: Client) -> set[str]:
    return set(client.scheduler_info(n_workers=-1)["workers"])


def names(client: Client) -> list[str]:
    return sorted(w["name"] for w in client.scheduler_info(n_workers=-1)["workers"].values())


@alone
@pytest.mark.parametrize("pair", RIGHT, ids=str)
def test_a_cluster_comes_up_computes_and_ends_without_a_word(
    pair: Pair, file: Path, log: Path
) -> None:
    """Three workers, TLS, totals within the node; exit code 0 and two lines of text."""
    with running(dask_mpi(pair, 4, "--scheduler-file", file), log, pair.environ) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(3, timeout=30)
            assert client.scheduler.address.startswith("tls://")
            assert names(client) == ["dask_mpi-1", "dask_mpi-2", "dask_mpi-3"]
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            assert sum(w["memory_limit"] for w in workers) < psutil.virtual_memory().total
            assert client.submit(sum, [1, 2]).result() == 3
            client.shutdown()
        assert launch.ended() == 0
        said = lines(launch.text())
    assert [line.split(" at ")[0] for line in said[:1]] == ["dask-mpi: scheduler"]
    assert len(said) == 2
    assert said[1].startswith("dask-mpi: dashboard: ")
    assert not file.exists()


@alone
@EACH_MPI
def test_an_inclusive_worker_and_the_peers_options(pair: Pair, file: Path, log: Path) -> None:
    """Names, threads, memory, resources and ports are what was asked for."""
    options = (
        *("--inclusive-workers", "--scheduler-rank", "1", "--no-dashboard", "--name", "w"),
        *("--nthreads", "2", "--memory-limit", "200 MiB", "--interface", "lo"),
        *("--worker-options", '{"resources": {"GPU": 1}}', "--worker-class", "distributed.Worker"),
    )
    command = dask_mpi(pair, 3, "--scheduler-file", file, *options)
    with running(command, log, pair.environ) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(3, timeout=30)
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            assert names(client) == ["w-0", "w-1", "w-2"]
            assert {(w["nthreads"], w["memory_limit"]) for w in workers} == {(2, 200 << 20)}
            assert {w["resources"]["GPU"] for w in workers} == {1}
            assert {w["host"] for w in workers} == {"127.0.0.1"}
            client.shutdown()
        assert launch.ended() == 0
        assert "dashboard" not in launch.text()


@alone
def test_a_launch_joins_a_cluster_that_runs(file: Path, log: Path, tmp_path: Path) -> None:
    """``--no-scheduler`` makes every rank a worker of it."""
    with running(dask_mpi(MPICH, 2, "--scheduler-file", file), log) as first:
        wait_for(file, first)
        more = dask_mpi(MPICH, 2, "--no-scheduler", "--scheduler-file", file, "--name", "more")
        with (
            running(more, tmp_path / "more") as second,
            Client(scheduler_file=str(file)) as client,
        ):
            client.wait_for_workers(3, timeout=30)
            assert names(client) == ["dask_mpi-1", "more-0", "more-1"]
            client.shutdown()
            assert (first.ended(), second.ended()) == (0, 0)


@alone
@EACH_MPI
def test_the_ranks_that_wait_use_no_cpu(pair: Pair, file: Path, log: Path) -> None:
    """Two seconds of an idle launch of eight ranks cost less than a third of one core."""
    with running(dask_mpi(pair, 8, "--scheduler-file", file), log, pair.environ) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(7, timeout=30)
            time.sleep(1)
            everyone = [psutil.Process(launch.process.pid), *launch.processes()]
            before = sum(sum(p.cpu_times()[:2]) for p in everyone)
            time.sleep(2)
            used = sum(sum(p.cpu_times()[:2]) for p in everyone) - before
            assert used < 0.66
            client.shutdown()
        assert launch.ended() == 0


@alone
@EACH_MPI
def test_a_killed_worker_comes_back_and_killed_workers_end_nothing(
    pair: Pair, file: Path, log: Path
) -> None:
    """Neither one worker's end nor that of all of a node is the scheduler's."""
    with running(dask_mpi(pair, 3, "--scheduler-file", file), log, pair.environ) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            before = addresses(client)
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
            deadline = time.monotonic() + 90
            while addresses(client) == before or len(addresses(client)) < 2:
                assert time.monotonic() < deadline, launch.text()
            client.wait_for_workers(2, timeout=30)
            scheduler, supervisor = launch.programs()[:2]
            assert supervisor.ppid() == scheduler.pid
            supervisor.kill()
            while names(client):
                assert time.monotonic() < deadline
            client.shutdown()
        assert launch.ended() == 0
        assert "were killed (SIGKILL); the others go on" in launch.text()


@alone
@EACH_MPI
@pytest.mark.parametrize("whom", ["scheduler", "rank"])
def test_a_killed_scheduler_ends_the_launch(pair: Pair, whom: str, file: Path, log: Path) -> None:
    """With an error, everywhere, and without leaving a process."""
    with running(dask_mpi(pair, 3, "--scheduler-file", file), log, pair.environ) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            launch.processes()
        (scheduler, *_) = launch.programs()
        (scheduler if whom == "scheduler" else scheduler.parent()).kill()
        assert launch.ended() != 0
        if whom == "scheduler":
            assert "was killed (signal 9): the launch ends" in launch.text()


@alone
@EACH_MPI
def test_sigterm_ends_all(pair: Pair, file: Path, log: Path) -> None:
    """As batch systems and people send it, to mpirun."""
    with running(dask_mpi(pair, 3, "--scheduler-file", file), log, pair.environ) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            launch.processes()
        launch.process.send_signal(signal.SIGTERM)
        assert launch.ended() != 0


@alone
@EACH_MPI
@pytest.mark.parametrize(
    ("ranks", "options", "code", "words"),
    [
        (1, (), 78, "a launch of 1 rank is too small: it needs 2"),
        (2, ("--scheduler-rank", "2"), 78, "too small: it needs 3"),
        (3, ("--nosuch",), 2, "No such option"),
        (3, ("--protocol", "tcp"), 78, "neither encryption nor authentication"),
        (3, ("--worker-options", "{"), 78, "--worker-options is no JSON"),
        (3, ("--worker-class", "os.path.join"), 78, "neither a Worker nor a Nanny"),
        (3, ("--interface", "nosuch0"), 78, "there is no nosuch0"),
    ],
    ids=["one rank", "scheduler rank", "option", "tcp", "json", "class", "interface"],
)
def test_what_cannot_be_is_said_once(
    pair: Pair, ranks: int, options: tuple[str, ...], code: int, words: str, file: Path, log: Path
) -> None:
    """One message from one rank, an exit code, no waiting."""
    command = dask_mpi(pair, ranks, "--scheduler-file", file, *options)
    with running(command, log, pair.environ) as launch:
        assert launch.ended() == code
        text = launch.text()
    assert text.count(words) == 1, text
    assert "Traceback" not in text


@alone
@pytest.mark.parametrize("pair", WRONG, ids=str)
def test_a_wrong_pair_is_named(pair: Pair, file: Path, log: Path) -> None:
    """Which mpirun, which library, what to change."""
    with running(dask_mpi(pair, 3, "--scheduler-file", file), log, pair.environ) as launch:
        assert launch.ended() == 78
        text = launch.text()
    assert text.count("the launcher and the MPI library do not fit") == 1, text
    assert re.search(r"MPI's mpirun|MPICH's mpirun", text)
    assert re.search(r"mpi4py is bound to (Open MPI v[45]|MPICH Version: *[45])", text)
    assert "-> start with the mpirun of" in text
    assert "Traceback" not in text


@alone
@pytest.mark.parametrize("pair", WRONG, ids=str)
def test_a_wrong_pair_is_named_to_a_program_too(pair: Pair, log: Path) -> None:
    """As an error of the first rank; the others end with it."""
    command = pair.command(4, pair.venv / "bin/python", PROGRAMS / "mpi_initialize.py")
    with running(command, log, {**pair.environ, "WORKERS": "2"}) as launch:
        assert launch.ended() != 0
        assert launch.text().count("WrongPair: the launcher and the MPI library") == 1


@alone
@pytest.mark.parametrize("mpirun", ["PyPI mpich", "Debian Open MPI"])
def test_without_mpi4py_the_launchers_environment_is_enough(
    mpirun: str, file: Path, log: Path
) -> None:
    """And a note says how to get it."""
    with running(dask_mpi(Pair(mpirun, WITHOUT_MPI4PY), 3, "--scheduler-file", file), log) as one:
        wait_for(file, one)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            client.shutdown()
        assert one.ended() == 0
        assert one.text().count("pip install mpi4py") == 1


@alone
def test_no_mpi_goes_on_with_a_wrong_pair(file: Path, log: Path) -> None:
    """``--no-mpi`` looks at the launcher's environment alone."""
    with running(dask_mpi(WRONG[0], 3, "--no-mpi", "--scheduler-file", file), log) as launch:
        wait_for(file, launch)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=30)
            client.shutdown()
        assert launch.ended() == 0


# --- programs ------------------------------------------------------------------------------------


def program(pair: Pair, ranks: int, name: str) -> list[str]:
    return pair.command(ranks, pair.venv / "bin/python", PROGRAMS / name)


@alone
@EACH_MPI
@pytest.mark.parametrize("name", ["mpi_initialize.py", "mpi_execute.py"])
@pytest.mark.parametrize(("how", "code"), [("", 0), ("raise", 1), ("exit", 7)])
@pytest.mark.parametrize("client_rank", [0, 1])
def test_a_program_ends_as_its_client_does(
    pair: Pair, name: str, how: str, code: int, client_rank: int, log: Path
) -> None:
    """Its exit code, its traceback, and nothing else; client and scheduler may share a rank."""
    environ = {"HOW": how, "CLIENT_RANK": str(client_rank), "WORKERS": "2", **pair.environ}
    with running(program(pair, 3 + client_rank, name), log, environ) as launch:
        assert launch.ended() == code
        text = launch.text()
    said = lines(text)
    assert text.count("ValueError: boom") == (1 if how == "raise" else 0)
    if name == "mpi_initialize.py":
        assert said[0] == "answer 3 over tls://"
    else:
        assert said[0] == "answer 6"
    if how == "":
        rest = [f"after {rank}" for rank in range(3 + client_rank)]
        assert sorted(said[1:]) == (rest if name == "mpi_execute.py" else [])


@alone
@EACH_MPI
def test_without_exit_every_rank_goes_on(pair: Pair, log: Path) -> None:
    """The client says when the cluster ends; MPI is as it was."""
    with running(program(pair, 4, "mpi_no_exit.py"), log, pair.environ) as launch:
        assert launch.ended() == 0
        assert sorted(lines(launch.text())) == ["answer 3", *["clients 1"] * 4]


@alone
@EACH_MPI
def test_a_program_of_too_few_ranks_is_told_so(pair: Pair, log: Path) -> None:
    """Once, by name."""
    with running(program(pair, 2, "mpi_initialize.py"), log, pair.environ) as launch:
        assert launch.ended() == 1
        assert launch.text().count("TooFewRanks: a launch of 2 ranks is too small") == 1


@alone
@EACH_MPI
@pytest.mark.parametrize("client_rank", [0, 1])
def test_a_killed_scheduler_ends_a_program(pair: Pair, client_rank: int, log: Path) -> None:
    """Although its client waits for a result that nobody will ever have."""
    environ = {"HOW": "wait", "CLIENT_RANK": str(client_rank), "WORKERS": "2", **pair.environ}
    with running(program(pair, 4, "mpi_initialize.py"), log, environ) as launch:
        deadline = time.monotonic() + 90
        while "answer" not in launch.text():
            assert time.monotonic() < deadline, launch.text()
            time.sleep(0.05)
        launch.programs()[0].kill()
        assert launch.ended() == 1
        assert launch.text().count("was killed (signal 9): the launch ends") == 1


# --- Slurm ---------------------------------------------------------------------------------------

on_slurm = pytest.mark.skipif(not ON_SLURM, reason="needs testbeds/slurm-up.sh (SITE_BATCH=slurm)")


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that the nodes see."""
    path = Path.home() / f"mpi-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    for each in path.iterdir():
        each.unlink()
    path.rmdir()


SRUN = ("srun", "-N", "4", "-n", "8", "-t", "2", "-J", "dask-mpi-test")
BY_SLURM = {
    "no mpi4py": (SRUN, WITHOUT_MPI4PY),
    "bare srun": (SRUN, BED / "mpich"),
    "pmi2 and mpich": ((*SRUN, "--mpi=pmi2"), BED / "mpich"),
    "pmix and Debian's": ((*SRUN, "--mpi=pmix"), BED / "plain"),
}


@on_slurm
@pytest.mark.parametrize("how", BY_SLURM)
def test_srun_over_four_nodes(how: str, shared: Path) -> None:
    """With and without mpi4py: one supervisor a node, workers on each, an end without errors."""
    srun, venv = BY_SLURM[how]
    file = shared / "scheduler.json"
    command = [*srun, str(venv / "bin/dask-hpc"), "mpi", "--scheduler-file", str(file)]
    with running(command, shared / "log") as launch:
        wait_for(file, launch, 60)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(7, timeout=60)
            hosts = client.run(lambda: __import__("socket").gethostname())
            assert len(set(hosts.values())) == 4
            assert client.submit(sum, [1, 2]).result() == 3
            client.shutdown()
        assert launch.process.wait(30) == 0, launch.text()
        text = launch.text()
    assert "rror" not in text
    assert ("note: " in text) == (how in ("no mpi4py", "bare srun"))
    assert run("squeue", "-h", "-n", "dask-mpi-test") == ""


@on_slurm
def test_srun_without_a_scheduler_file_goes_by_mpi(shared: Path) -> None:
    """The address goes by MPI; without MPI there is a clear error."""
    command = [*SRUN, "--mpi=pmi2", str(BED / "mpich/bin/dask-hpc"), "mpi"]
    with running(command, shared / "log") as launch:
        deadline = time.monotonic() + 60
        while "scheduler at" not in launch.text():
            assert time.monotonic() < deadline, launch.text()
            time.sleep(0.05)
        address = launch.text().split("scheduler at ")[1].split()[0]
        with Client(address) as client:
            client.wait_for_workers(7, timeout=60)
            client.shutdown()
        assert launch.process.wait(30) == 0, launch.text()
    command = [*SRUN, str(WITHOUT_MPI4PY / "bin/dask-hpc"), "mpi"]
    with running(command, shared / "log") as launch:
        assert launch.process.wait(60) == 78
        assert launch.text().count("pip install mpi4py") == 1


@on_slurm
@pytest.mark.parametrize("whom", ["worker node", "scheduler"])
def test_a_killed_node_program_under_srun(whom: str, shared: Path) -> None:
    """A node's workers cost that node; the scheduler costs all, with an error."""

    def kill_soon(generation: int) -> None:
        import threading

        victim = psutil.Process()
        for _ in range(generation):
            victim = victim.parent()
        threading.Timer(0.5, victim.kill).start()

    srun, venv = BY_SLURM["pmi2 and mpich"]
    file = shared / "scheduler.json"
    command = [*srun, str(venv / "bin/dask-hpc"), "mpi", "--scheduler-file", str(file)]
    with running(command, shared / "log") as launch:
        wait_for(file, launch, 60)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(7, timeout=60)
            if whom == "scheduler":
                client.run_on_scheduler(kill_soon, 0)
            else:  # a worker, the fork server, the node's program
                hosts = client.run(lambda: __import__("socket").gethostname())
                head = client.run_on_scheduler(lambda: __import__("socket").gethostname())
                victim = next(address for address, host in hosts.items() if host != head)
                client.run(kill_soon, 2, workers=[victim])
                deadline = time.monotonic() + 90
                while len(names(client)) > 5:
                    assert time.monotonic() < deadline, launch.text()
                assert client.submit(sum, [1, 2]).result() == 3
                client.shutdown()
            code = launch.process.wait(60)
        text = launch.text()
    if whom == "scheduler":
        assert code != 0
        assert "the launch ends" in text
    else:
        assert code == 0, text
        assert "the others go on" in text
