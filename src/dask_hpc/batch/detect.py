"""Look at this machine: which batch system's programs it has, and their version.

The edge of :mod:`dask_hpc.drivers.registry`, which decides.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from dask_hpc.drivers.registry import DRIVERS, FALLBACK, Detection
from dask_hpc.drivers.registry import detect as decide

#: Seconds.  A version is printed without asking a server; a wrapper of a site may ask one.
VERSION_TIMEOUT = 5.0


def programs() -> dict[str, str | None]:
    """Path of each program that a driver runs; None where the PATH has none of that name."""
    names = {program for name in DRIVERS if name != FALLBACK for program in DRIVERS[name].programs}
    return {name: shutil.which(name) for name in sorted(names)}


def detect() -> Detection:
    """Tell which batch system this machine has, ``"local"`` without one."""
    return decide(programs(), os.environ)


def version(name: str, *, timeout: float = VERSION_TIMEOUT) -> str:
    """Ask a batch system's first program for its version.

    Parameters
    ----------
    name
        Of the driver.
    timeout
        Seconds.

    Returns
    -------
    str
        What it prints, for example ``"slurm-wlm 22.05.8"``; empty where it does not say.
    """
    if name == FALLBACK or not DRIVERS[name].programs:
        return ""
    try:
        done = subprocess.run(
            (DRIVERS[name].programs[0], "--version"),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else ""
