"""Being warned before the walltime ends: what each system is asked, and what the job knows."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.drivers import warning
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from dask_hpc.model.grace import WARNING
from dask_hpc.model.job import JobSpec
from tests.helpers import wait_until


def spec(**changes: Any) -> JobSpec:
    return JobSpec(
        **{
            "command": ("true",),
            "cores": 1,
            "log_directory": Path("/logs"),
            "walltime": 3600,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("batch", "nodes", "line", "told"),
    [
        ("slurm", 1, "--signal=B:USR1@60", "USR1@60"),
        ("slurm", 2, "--signal=USR1@60", "USR1@60"),
        ("flux", 1, "--signal=USR1@60s", "USR1@60"),
        ("oar", 1, "--checkpoint 60", "USR2@60"),
        ("sge", 1, "-notify", None),
        ("oar", 2, None, None),
        ("sge", 2, None, None),
        ("pbs", 1, None, None),
        ("lsf", 1, None, None),
        ("htcondor", 1, None, None),
        ("local", 1, None, None),
    ],
)
def test_a_warning_is_asked_for_where_the_system_can(
    batch: str, nodes: int, line: str | None, told: str | None
) -> None:
    """On every node of the job, or not at all; and the job knows how early it comes."""
    own, system = spec(nodes=nodes), driver(batch)
    assert warning.directives(own, system) == (() if line is None else (line,))
    assert warning.exported(own, system) == (() if told is None else ((WARNING, told),))


@pytest.mark.parametrize("walltime", [None, 599])
@pytest.mark.parametrize("batch", ["slurm", "flux", "oar"])
def test_a_short_job_is_not_warned(batch: str, walltime: int | None) -> None:
    """Slurm may be a minute early: a job of two minutes would be warned as it starts."""
    short = spec(walltime=walltime)
    assert warning.directives(short, driver(batch)) == ()
    assert warning.exported(short, driver(batch)) == ()


@pytest.mark.parametrize(
    ("batch", "own", "told"),
    [
        ("slurm", "--signal=B:USR2@300", "USR2@300"),
        ("slurm", "--signal=R:SIGTERM@120", "SIGTERM@120"),
        ("slurm", "--signal=B:USR1", "USR1@60"),
        ("slurm", "--exclusive --signal RB:USR1@90", "USR1@90"),
        ("flux", "--signal=USR2@90s", "USR2@90"),
        ("flux", "--signal=@30", "USR1@30"),
        ("oar", "--checkpoint 200", "USR2@200"),
    ],
)
def test_the_users_own_directive_wins(batch: str, own: str, told: str) -> None:
    """And it is theirs that the job knows of, however short it is."""
    mine = spec(directives=(own,), walltime=60)
    assert warning.directives(mine, driver(batch)) == ()
    assert warning.exported(mine, driver(batch)) == ((WARNING, told),)


@pytest.mark.parametrize("own", ["--signal=B:12@300", "--signalling=B:USR1@60"])
def test_a_number_or_another_option_tells_the_job_nothing_wrong(own: str) -> None:
    """A signal that is not known by its name is not announced with a time."""
    assert warning.exported(spec(directives=(own,), walltime=60), driver("slurm")) == ()


def test_a_skipped_option_is_neither_asked_for_nor_told() -> None:
    """job_directives_skip=["--signal"] turns it off."""
    text = job_script(spec(directives_skip=("--signal",)), driver("slurm"))
    assert "signal" not in text
    assert WARNING not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_with_an_epilogue_the_shell_hands_on_what_it_is_sent(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Slurm's B: signals the batch shell alone, which would die of it before the workers knew."""
    there = tmp_path / "there"
    child = (
        "import signal, sys, pathlib, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(7))\n"
        f"pathlib.Path({str(there)!r}).touch()\n"
        "while True: time.sleep(0.01)\n"
    )
    text = job_script(
        spec(command=("python3", "-c", child), epilogue=("echo clean",)), driver("slurm")
    )
    with subprocess.Popen(
        ["bash", "-c", text], stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    ) as shell:
        wait_until(there.exists)
        shell.send_signal(number)
        out, _ = shell.communicate(timeout=20)
    assert (out, shell.returncode) == ("clean\n", 7)
