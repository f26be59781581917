"""The command line with a real Slurm: what it shows is what Slurm says, and nothing stays."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.slurm import queue, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]

#: A node each, of which there are four.
JOB = (
    "--cores",
    "16",
    "--processes",
    "1",
    "--memory",
    "500 MiB",
    "--walltime",
    "10 min",
    "--set",
    "dashboard_port=0",
)


def call(*arguments: str, code: int = 0) -> str:
    """Run `dask-hpc ARGUMENTS` as from a shell of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "dask_hpc", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def name() -> Iterator[str]:
    name = f"shell-{secrets.token_hex(2)}"
    yield name
    subprocess.run(
        [sys.executable, "-m", "dask_hpc", "down", name],
        capture_output=True,
        timeout=60,
        check=False,
    )


def four_run_and_one_waits(name: str) -> bool:
    jobs = json.loads(call("jobs", name, "--json"))
    run = [job["node"] and job["deadline"] for job in jobs if job["state"] == "running"]
    return len(run) == 4 and all(run) and [job["reason"] for job in jobs if not job["node"]] != [""]


def test_a_cluster_outlives_the_shell_that_started_it(name: str) -> None:
    """Each command is a process of its own; jobs have Slurm's ids and reasons."""
    rehearsed = call("up", "--name", name, *JOB, "--jobs", "2", "--dry-run")
    assert f"sbatch --parsable --job-name={name}-xxxxxx --array=0-1" in rehearsed
    assert queue(name) == []

    call("up", "--name", name, *JOB, "--jobs", "2", "--timeout", "60")
    jobs = json.loads(call("jobs", name, "--json"))
    assert sorted(job["id"] for job in jobs) == sorted(line.split()[0] for line in queue(name))
    array = jobs[0]["id"].partition("_")[0]
    assert f"cluster: {name}\n" in call("status", f"slurm:{array}")
    assert "workers joined" in call("logs", name, jobs[0]["id"])

    call("scale", name, "--jobs", "5", "--wait", "--timeout", "2", code=4)
    wait_until(lambda: four_run_and_one_waits(name), 40, "Slurm's next answer tells all of that")
    assert f"cluster {name} is closed" in call("down", name)
    assert queue(name) == []


SCRIPT = """
import dask_hpc

with dask_hpc.connect() as client:
    print(client.submit(pow, 2, 10).result())
raise SystemExit(5)
"""


def test_a_script_brings_its_cluster_along(name: str, tmp_path: Path) -> None:
    """And ends with it; its exit code is the command's."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert call("run", "--name", name, *JOB, str(script), code=5) == "1024\n"
    assert queue(name) == []
