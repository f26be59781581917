"""The test beds as the tests of every system see them: what to ask for, and what must be said.

One batch system is tested at a time: the one that SITE_BATCH names, for ``run-sites.sh``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.site.slurm import run

Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bed:
    """One batch system with four nodes of 16 cores.

    Parameters
    ----------
    batch
        Name of its driver.
    programs
        Its commands, each of which is counted.
    jobs
        Names of a user's live jobs, each as often as it has jobs, by the system's own command.
    options
        Keywords of every cluster here.
    bad_queue, bad_queue_words
        Keywords that it refuses, and a pattern for its own words.
    never, never_words
        Keywords of a job that it can never run, and a pattern for what we say of it.
    memory_hog
        Keywords with which a job that takes 1500 MiB more than it may is killed.
    walltime
        The shortest that it takes.
    no_such_id
        An array id that was never given.
    tells_exit_code
        Whether its listing, not only its accounts, says how a script failed.
    tells_cancelled
        Whether its accounts tell a cancelled job from one that a signal killed.
    nodes
        Keywords of jobs of several nodes of four cores each; None where there are none.
    crowded
        Keywords with which a job of several nodes gets one; None where that cannot be.
    lost
        Whether the batch system has noticed that a host is dead.
    script
        Its test bed is ``testbeds/SCRIPT-up.sh``.
    """

    batch: str
    programs: tuple[str, ...]
    jobs: Callable[[str], list[str]]
    bad_queue: Options
    bad_queue_words: str
    never: Options
    never_words: str
    options: Options = field(default_factory=dict)
    memory_hog: Options = field(default_factory=dict)
    walltime: str = "1 min"
    no_such_id: str = "999999"
    tells_exit_code: bool = True
    tells_cancelled: bool = True
    nodes: Options | None = field(default_factory=dict)
    crowded: Options | None = None
    lost: Callable[[str], bool] = lambda _: True
    script: str = ""


def long_except(*systems: str) -> pytest.MarkDecorator:
    """Mark a test that takes a minute: always run on these systems, elsewhere if asked for."""
    return pytest.mark.site if BED.batch in systems else pytest.mark.long


def _slurm_jobs(user: str) -> list[str]:
    return run("squeue", "-h", "-r", "-u", user, "-o", "%j").split()


def _sge_jobs(user: str) -> list[str]:
    listing = run("qstat", "-u", user, "-g", "d", "-r")
    return re.findall(r"Full jobname:\s+(\S+)", listing)


def _oar_jobs(user: str) -> list[str]:
    listing = run("oarstat", "-u", user, "-J")
    text = "\n".join(line for line in listing.splitlines() if not line.startswith("#"))
    jobs = json.loads(text) if text.strip() else {}
    return [str(job["name"]) for job in jobs.values()]


def _condor_jobs(user: str) -> list[str]:
    return run("condor_q", user, "-af", "JobBatchName").split()


def _slurm_lost(host: str) -> bool:
    return "down" in run("sinfo", "-h", "-N", "-n", host, "-o", "%T")


def _sge_lost(host: str) -> bool:
    listing = run("qstat", "-f", "-q", f"all.q@{host}")
    return re.search(rf"^all\.q@{host}.* \w*u\w*$", listing, re.MULTILINE) is not None


BEDS = {
    "slurm": Bed(
        batch="slurm",
        programs=("sbatch", "squeue", "scancel", "sacct", "scontrol"),
        jobs=_slurm_jobs,
        bad_queue={"queue": "nosuch"},
        bad_queue_words="invalid partition specified: nosuch",
        tells_exit_code=False,
        never={"queue": "short", "walltime": "2 h"},
        never_words="walltime is over the partition's limit",
        memory_hog={"memory": "100 MiB"},
        lost=_slurm_lost,
        script="slurm",
    ),
    "sge": Bed(
        batch="sge",
        programs=("qsub", "qstat", "qdel", "qacct", "qalter", "qconf"),
        jobs=_sge_jobs,
        bad_queue={"queue": "nosuch"},
        bad_queue_words="nosuch",
        never={"cores": 17, "processes": 1},
        never_words="cannot run in PE",
        tells_cancelled=False,
        memory_hog={"memory_resource": "h_vmem"},
        nodes={"parallel_environment": "mpi4"},
        crowded={"parallel_environment": "mpi"},
        lost=_sge_lost,
        script="sge",
    ),
    "oar": Bed(
        batch="oar",
        programs=("oarsub", "oarstat", "oardel"),
        jobs=_oar_jobs,
        bad_queue={"queue": "nosuch"},
        bad_queue_words="nosuch",
        never={"cores": 17, "processes": 1},
        never_words="not enough resources",
        script="oar",
    ),
    "htcondor": Bed(
        batch="htcondor",
        programs=("condor_submit", "condor_q", "condor_rm", "condor_history", "condor_status"),
        jobs=_condor_jobs,
        bad_queue={"account": "nosuch"},
        bad_queue_words="nosuch",
        never={"cores": 17, "processes": 1},
        never_words="none of 4 machines has what it asks for",
        nodes=None,
        script="condor",
    ),
}

BED = BEDS[os.environ.get("SITE_BATCH", "slurm")]
