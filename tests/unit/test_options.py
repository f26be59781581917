"""Keywords of a cluster: what is understood, what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster.options import check_name, job_environment, pool_for, resolve
from dask_hpc.config.reader import settings
from dask_hpc.errors import ConfigurationError


def options(**keywords: Any) -> Any:
    return resolve(keywords, settings("slurm"))


def test_units_are_resolved_once() -> None:
    """Text, numbers and timedeltas mean the same everywhere."""
    found = options(cores="8", memory="16 GiB", walltime=timedelta(hours=1), death_timeout="60")
    assert (found.cores, found.memory, found.walltime, found.death_timeout) == (8, 2**34, 3600, 60)


def test_older_names_are_understood() -> None:
    """A dask-jobqueue script needs one changed import."""
    found = options(cores=1, project="lab", job_extra=["--qos=x"], env_extra=["module load a"])
    assert found.account == "lab"
    assert found.job_extra_directives == ("--qos=x",)
    assert found.job_script_prologue == ("module load a",)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "how many cores"),
        ({"cores": 0}, "cores="),
        ({"cores": 1.5}, "cores="),
        ({"cores": 4, "processes": 5}, "do not fit"),
        ({"cores": 1, "memory": "lots"}, "not an amount of memory"),
        ({"cores": 1, "walltime": "10"}, "not a walltime"),
        ({"cores": 1, "wall_time": "1 h"}, "did you mean walltime="),
        ({"cores": 1, "job_script_prologue": "module load a"}, "must be a list"),
        ({"cores": 1, "project": "a", "account": "b"}, "mean the same"),
    ],
)
def test_a_senseless_request_is_refused_with_advice(keywords: Any, message: str) -> None:
    """Before anything is submitted: what is wrong and what is possible."""
    with pytest.raises(ConfigurationError, match=message):
        options(**keywords)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a'b", "x" * 41, "a-", "$(id)", "a\nb"])
def test_a_name_that_could_be_code_is_refused(name: str) -> None:
    """Names reach shells, file systems and job listings."""
    with pytest.raises(ConfigurationError):
        check_name(name)


def test_the_job_asks_for_what_its_workers_use() -> None:
    """Workers' memory and threads add up to the job's, no more."""
    found = options(cores=8, memory="16 GiB", processes=4)
    pool = pool_for(found, scheduler_file=Path("/d/s.json"), logs=Path("/d/logs"), environment={})
    words = pool.spec.command
    assert words[words.index("--nworkers") + 1] == "4"
    assert words[words.index("--nthreads") + 1] == "2"
    assert words[words.index("--memory-limit") + 1] == str(2**32)
    assert pool.spec.memory == 2**34


def test_thread_counts_and_the_hash_seed_are_set_before_python_starts() -> None:
    """The user's own values win; a random or zero seed is replaced by the engine's."""
    found = job_environment({"OMP_NUM_THREADS": 1, "X": None}, {"OMP_NUM_THREADS": "4"})
    assert found == {"OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "6640"}
    assert job_environment({}, {"PYTHONHASHSEED": "12"}) == {"PYTHONHASHSEED": "12"}
    assert job_environment({}, {"PYTHONHASHSEED": "random"}) == {"PYTHONHASHSEED": "6640"}
