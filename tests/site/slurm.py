"""What the Slurm tests share: the queue as the batch system shows it, and ways to wait for it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def run(*argv: str, check: bool = True, timeout: float = 60) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{argv} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def queue(name: str, user: str | None = None) -> list[str]:
    """Live jobs of one cluster, as ``ID STATE``."""
    lines = run("squeue", "-h", "-r", "-u", user or getpass.getuser(), "-o", "%i %T %j")
    return [line.rpartition(" ")[0] for line in lines.splitlines() if f" {name}-" in line]


def submitted(name: str, user: str | None = None) -> Counter[str]:
    """Every job that one cluster ever had (Slurm keeps them for five minutes), by state."""
    lines = run("squeue", "-h", "-r", "-t", "all", "-u", user or getpass.getuser(), "-o", "%T %j")
    return Counter(line.split()[0] for line in lines.splitlines() if f" {name}-" in line)


def wait_until(true: Callable[[], object], timeout: float, what: str) -> None:
    """Look until something is so; the only place where these tests pass time."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.1)


@contextmanager
def counted_commands(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    programs: Iterable[str] = ("sbatch", "squeue", "scancel", "sacct", "scontrol"),
) -> Iterator[Counter[str]]:
    """Count the commands that are really run, by programs put before them on PATH."""
    record = directory / "commands"
    record.touch()
    for program in programs:
        real = shutil.which(program)
        wrapper = directory / program
        wrapper.write_text(f'#!/bin/sh\necho {program} >>{record}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    found: Counter[str] = Counter()
    yield found
    found.update(record.read_text().split())


def job_state(job: str) -> str:
    """How a job ended, once the accounting knows."""
    found = ""

    def ended() -> bool:
        nonlocal found
        found = run("sacct", "-n", "-X", "-P", "-j", job, "-o", "State").strip()
        return found not in ("", "RUNNING", "COMPLETING", "PENDING")

    wait_until(ended, 60, f"job {job} has ended")
    return found
