"""Run the two commands that only a node can judge: a query of the batch system, and an mpirun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

#: Seconds for a query; for two ranks that say hello.
QUERY_SECONDS, MPI_SECONDS = 30.0, 40.0
#: A launch inside a job would ask the batch system for nodes; these two ranks stay here.
_JOB = ("SLURM_*", "PBS_*", "LSB_*", "LS_*", "OAR_*", "PE_*", "JOB_ID", "FLUX_*", "COBALT_*")
_RANK = ("OMPI_*", "PMI_*", "PMIX_*", "MPI_LOCAL*", "PMI*")
#: Open MPI counts cores, and refuses two ranks on one: by 4.x and 5.x.
_OVERSUBSCRIBE = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
_HELLO = """
import fnmatch, json, os
import mpi4py
from mpi4py import MPI
names = {patterns!r}
environ = {{k: v for k, v in os.environ.items() if any(fnmatch.fnmatchcase(k, n) for n in names)}}
path = ""
for line in open("/proc/self/maps"):
    if "libmpi" in line:
        path = line.split(None, 5)[-1].strip()
        break
print("@" + json.dumps({{"size": MPI.COMM_WORLD.Get_size(), "environ": environ, "path": path,
    "library": MPI.Get_library_version()}}), flush=True)
"""


def query(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run a command that changes nothing: ``argv``, variables to ``unset`` and to set.

    Returns
    -------
    dict
        ``seconds``, ``code`` and ``text``; or ``error``.
    """
    started, argv = time.monotonic(), asked["argv"]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(fnmatchcase(name, pattern) for pattern in asked["unset"])
    }
    try:
        done = _run(argv, {**kept, **asked["variables"]}, QUERY_SECONDS)
    except FileNotFoundError:
        return {"error": f"{argv[0]} is not on the PATH there"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    text = (done.stderr.strip() or done.stdout.strip())[-500:]
    return {"seconds": time.monotonic() - started, "code": done.returncode, "text": text}


def mpi() -> dict[str, Any]:
    """Start two ranks here, if there is an mpirun and an mpi4py; what each of them found.

    Returns
    -------
    dict
        ``missing``: what is not here; or ``mpirun``, ``worlds`` and ``code`` with ``text``.
    """
    program = shutil.which("mpirun") or shutil.which("mpiexec")
    if program is None:
        return {"missing": "mpirun"}
    if _without_mpi4py():
        return {"missing": "mpi4py"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(fnmatchcase(name, pattern) for pattern in (*_JOB, *_RANK))
    }
    hello = _HELLO.format(patterns=_RANK)
    argv = (program, "-n", "2", sys.executable, "-c", hello)
    try:
        done = _run(argv, {**kept, **_OVERSUBSCRIBE}, MPI_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        text = "not within 40 s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return {"mpirun": program, "worlds": [], "code": 1, "text": text}
    lines = done.stdout.splitlines()
    return {
        "mpirun": os.path.realpath(program),
        "worlds": [json.loads(line[1:]) for line in lines if line.startswith("@{")],
        "code": done.returncode,
        "text": done.stderr.strip()[-500:],
    }


def _without_mpi4py() -> bool:
    from importlib import util

    return util.find_spec("mpi4py") is None


def _run(
    argv: Sequence[str], environ: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(argv),
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
