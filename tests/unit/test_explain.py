"""Failures are explained by what the batch system knows, then by what the log says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dask_hpc.control.explain import cause, quote_tail, telling
from dask_hpc.model.job import JobState, JobStatus

FAILED = JobStatus(JobState.FAILED, exit_code=1)


@pytest.mark.parametrize(
    ("log", "text", "hint"),
    [
        ("/usr/bin/python3: No module named dask_hpc", "no dask_hpc", "python="),
        (
            "Traceback ...\nModuleNotFoundError: No module named 'distributed'",
            "no distributed",
            "python=",
        ),
        ("ModuleNotFoundError: No module named 'xarray'", "no module xarray", "install"),
        (
            "/var/spool/slurm_script: line 9: /opt/no/bin/python: No such file or directory",
            "/opt/no/bin/python",
            "python=",
        ),
        (
            "slurm_script: line 9: exec: /x/python3.12: cannot execute: required file not found",
            "/x/python3.12",
            "python=",
        ),
        (
            "FATAL:   could not open image /images/x.sif: lstat /images/x.sif: no such file",
            "container did not start: could not open image /images/x.sif",
            "python=",
        ),
        (
            "dask-hpc worker: ended: cannot reach the head at tls://10.0.0.1:4 within 60 s",
            "cannot reach the head",
            "interface=",
        ),
        ("job.sh: line 9: 12345 Killed    python -c 'x'", "more memory", "memory="),
        ("slurm_script: line 3: modul: command not found", "modul", ""),
        ("OSError: [Errno 28] No space left on device", "full", "local_directory"),
    ],
)
def test_the_log_names_the_cause(log: str, text: str, hint: str) -> None:
    """Each common mistake is recognised in the words that programs use for it."""
    found = cause(FAILED, log)
    assert text in found.text
    assert hint in found.hint


def test_of_several_nodes_the_one_that_fell_silent_first_is_quoted(tmp_path: Path) -> None:
    """The job's own log where no node has written one; another job's nodes never."""
    job = tmp_path / "a.b-7f-1.log"
    assert telling(job) == job
    for seconds, name in ((30, "a.b-7f-1.0"), (20, "a.b-7f-1.1"), (10, "a.b-7f-11.0")):
        path = tmp_path / f"{name}.log"
        path.write_text(name)
        os.utime(path, (seconds, seconds))
    assert telling(job).name == "a.b-7f-1.1.log"


def test_what_the_batch_system_knows_wins() -> None:
    """A job out of memory may log anything in its last moment."""
    found = cause(JobStatus(JobState.OUT_OF_MEMORY), "dask-hpc worker: ended: signal 15")
    assert "memory" in found.text
    assert "walltime" in cause(JobStatus(JobState.TIMEOUT), "").text


def test_without_a_log_the_exit_code_is_told() -> None:
    """Nothing known is said to be nothing known."""
    assert cause(FAILED, "").text == "its script failed with exit code 1"


def test_the_tail_is_short_and_indented() -> None:
    """Twelve lines at most, blank ones left out."""
    lines = quote_tail("\n\n".join(str(i) for i in range(50))).splitlines()
    assert lines[0] == "    | 38"
    assert len(lines) == 12
    assert quote_tail("") == "    | (nothing)"


def test_a_job_killed_outright_is_suspected_of_its_memory() -> None:
    """Batch systems that do not tell why the kernel killed a job show signal 9, or 137."""
    for status in (JobStatus(JobState.FAILED, signal=9), JobStatus(JobState.FAILED, exit_code=137)):
        found = cause(status, "")
        assert "more memory than it asked for" in found.text
        assert "memory=" in found.hint
    assert "memory" not in cause(JobStatus(JobState.FAILED, signal=15), "").text
