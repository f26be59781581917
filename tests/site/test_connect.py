"""``connect`` on a real Slurm: one script on the login node, in jobs, in steps, as ranks."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster.report import HISTORY
from tests.site.mpi import BED as MPI_BED
from tests.site.slurm import run, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "anywhere.py"
PROGRAM = Path(__file__).parent / "programs" / "connected.py"
HOME = Path.home() / ".dask-hpc"
ANSWER = "327,346 flights arrived, 6.90 minutes late on average"
PYTHON = sys.executable


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No job, no process on any node, no file but the identity and the accounts."""
    run_id = secrets.token_hex(4)
    os.environ["CONNECT_TEST"] = run_id  # every process of ours inherits it
    before = set(HOME.iterdir()) if HOME.exists() else set()
    yield
    del os.environ["CONNECT_TEST"]
    wait_until(lambda: not run("squeue", "-h", "-u", os.environ["USER"]), 60, "the queue is empty")
    wait_until(lambda: not marked(run_id), 30, "no process is left")
    made = set(HOME.iterdir()) - before if HOME.exists() else set()
    made.discard(HOME / HISTORY)
    assert {path.name for path in made} <= {"tls", "local"}


def marked(run_id: str) -> list[str]:
    """Processes of this machine (all its hosts) that inherited the mark; not our own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"CONNECT_TEST={run_id}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return [pid for pid in found if int(pid) != os.getpid()]


def told(*command: str) -> tuple[dict[str, Any], str]:
    """Run the program in some way: what it found, and the line on where it is."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("dask-hpc: connect: ")]
    (found,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert found["answer"] == 3
    return found, lines[0].removeprefix("dask-hpc: connect: ")


def in_job(log: Path, *options: str, command: str) -> str:
    """Run a command in a job to its end: all that it wrote."""
    done = subprocess.run(
        ("sbatch", "--wait", f"--output={log}", *options, f"--wrap={command}"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    return log.read_text()


@pytest.fixture
def log() -> Iterator[Path]:
    """A file that all nodes see."""
    path = Path.home() / f"connect-{secrets.token_hex(3)}.log"
    yield path
    path.unlink(missing_ok=True)


# -- the example, unchanged -----------------------------------------------------------------------


def test_on_the_login_node_jobs_are_submitted() -> None:
    """And are gone when the script ends."""
    done = subprocess.run(
        (PYTHON, EXAMPLE), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ANSWER in done.stdout
    assert done.stderr.startswith("dask-hpc: connect: batch: slurm: sbatch is ")


def test_in_a_job_of_one_node_its_cores_are_used(log: Path) -> None:
    """Nothing is submitted."""
    text = in_job(log, "--ntasks=4", command=f"{PYTHON} {EXAMPLE}")
    assert ANSWER in text
    assert "connect: allocation: this is slurm job" in text
    assert " with 1 node\n" in text


def test_in_a_job_of_several_nodes_all_are_used(log: Path) -> None:
    """Through srun."""
    text = in_job(log, "--nodes=3", "--ntasks-per-node=4", command=f"{PYTHON} {EXAMPLE}")
    assert ANSWER in text
    assert " with 3 nodes\n" in text


@pytest.mark.mpi
@pytest.mark.skipif(not MPI_BED.exists(), reason="testbeds/mpi-up.sh has not been run")
def test_in_a_step_of_several_ranks_they_get_roles() -> None:
    """Four ranks on two nodes: a client, a scheduler, two workers."""
    python = MPI_BED / "mpich" / "bin" / "python"
    done = subprocess.run(
        ("srun", "--mpi=pmi2", "--nodes=2", "--ntasks=4", str(python), str(EXAMPLE)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ANSWER) == 1
    assert "connect: mpi: srun started 4 ranks" in done.stderr


# -- the nodes of a job ---------------------------------------------------------------------------

ALL = json.dumps({"wait": 99})


def test_every_core_of_every_node_has_a_thread(log: Path) -> None:
    """Two tasks of two cores on each of two nodes, from within the job."""
    options = ("--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=2")
    text = in_job(log, *options, command=shlex.join([PYTHON, str(PROGRAM), ALL]))
    (found,) = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert found["place"] == "allocation"
    assert found["threads"] == 8
    assert len(found["hosts"]) == 2
    assert len(set(found["names"])) == len(found["names"]) == 8


def test_salloc_on_the_login_node_uses_its_nodes_and_not_the_login_node() -> None:
    """One node, and two."""
    for nodes in (1, 2):
        found, line = told(
            "salloc", "-Q", f"--nodes={nodes}", "--ntasks-per-node=2", PYTHON, str(PROGRAM), ALL
        )
        assert line.startswith("allocation: this is slurm job")
        assert len(found["hosts"]) == nodes
        assert os.uname().nodename not in found["hosts"]


def test_an_interactive_step_shares_its_cores_with_the_workers() -> None:
    """``srun -n 1`` in an allocation holds what the workers' step needs."""
    found, line = told(
        *("salloc", "-Q", "--nodes=2", "--ntasks-per-node=2"),
        *("srun", "--nodes=1", "--ntasks=1", PYTHON, str(PROGRAM), ALL),
    )
    assert line.startswith("allocation: ")
    assert len(found["hosts"]) == 2


def test_a_job_that_demands_jobs_of_its_own_gets_them(log: Path) -> None:
    """``where=`` wins over the job that the script is in."""
    asked = json.dumps({"where": "batch", "cores": 1, "memory": "500 MiB", "walltime": "5 min"})
    text = in_job(log, command=shlex.join([PYTHON, str(PROGRAM), asked]))
    (found,) = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert found["place"] == "batch"
