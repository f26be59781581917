"""Look at this machine: which batch system's programs it has, their version, whether it answers.

The edge of :mod:`dask_hpc.drivers.registry`, which decides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.registry import DRIVERS, FALLBACK, Detection, driver, recognise
from dask_hpc.drivers.registry import detect as decide

#: Seconds.  A version is printed without asking a server; a wrapper of a site may ask one.
VERSION_TIMEOUT = 5.0
#: Seconds.  A server that is down makes some commands wait for long.
ANSWER_TIMEOUT = 15.0
#: No job has this name: asking for it costs the server next to nothing.
_NOBODY = "dask-hpc-nobody"


@dataclass(frozen=True, slots=True)
class Found:
    """What `dask-hpc batch` shows.

    Parameters
    ----------
    batch, version, why
        Name of the driver; what its commands call themselves, empty where they do not say; what
        it was told by.
    server
        ``"answers"``, or what it said instead.
    """

    batch: str
    version: str
    why: str
    server: str


def programs() -> dict[str, str | None]:
    """Path of each program that a driver runs; None where the PATH has none of that name."""
    names = {program for name in DRIVERS if name != FALLBACK for program in DRIVERS[name].programs}
    return {name: shutil.which(name) for name in sorted(names)}


def detect() -> Detection:
    """Tell which batch system this machine has, ``"local"`` without one."""
    present = programs()
    versions = {  # asked only where names alone do not tell
        name: _printed(DRIVERS[name].version)
        for name in DRIVERS
        if DRIVERS[name].recognised_by and all(map(present.get, DRIVERS[name].programs))
    }
    return decide(present, os.environ, versions=versions)


def version(name: str) -> str:
    """Ask a batch system's commands for their version; empty where they do not say."""
    return recognise(DRIVERS[name], _printed(DRIVERS[name].version))


def look() -> Found:
    """Look at everything: the batch system, its version, and whether its server answers."""
    found = detect()
    return Found(found.name, version(found.name), found.why, server(found.name))


def server(name: str) -> str:
    """Ask a batch system for jobs that do not exist: ``"answers"``, or what it said instead."""
    if name == FALLBACK:
        return "starts when it is needed"
    chosen = driver(name)
    command = chosen.query({_NOBODY: None})
    output = _run(command, ANSWER_TIMEOUT)
    if output is None:
        return f"`{command.argv[0]}` does not answer"
    if chosen.answered(output):
        return "answers"
    return output.text or f"`{command.argv[0]}` failed with exit code {output.returncode}"


def _printed(command: Command | None) -> str:
    output = _run(command, VERSION_TIMEOUT) if command else None
    return output.stdout + output.stderr if output and output.returncode == 0 else ""


def _run(command: Command, timeout: float) -> Output | None:
    environment: Mapping[str, str] = command.environment(os.environ)
    try:
        done = subprocess.run(
            command.argv,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Output(command, done.returncode, done.stdout, done.stderr)
