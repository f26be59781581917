"""One script's keywords in many places."""

from __future__ import annotations

from typing import Any

import pytest

from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.portable import Machine, fit, for_batch, size, workers_on
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job_environment import name_of_job

GIB = 1 << 30
LAPTOP = Machine(cores=8, slots=32, memory=16 * GIB)


@pytest.mark.parametrize(
    ("asked", "jobs", "fitted"),
    [
        # It fits: nothing is changed.
        ({"cores": 4, "processes": 4, "memory": 2 * GIB}, 2, (4, 4, 2 * GIB, 2, False)),
        # A node of 36 cores: threads of a worker stay, memory is the machine's.
        ({"cores": 36, "processes": 12, "memory": 100 * GIB}, 4, (8, 2, 4 * GIB, 4, True)),
        # Single-threaded workers stay single-threaded.
        ({"cores": 36, "processes": 36}, 1, (8, 8, None, 1, True)),
        # One worker per node.
        ({"cores": 36, "processes": 1}, 1, (8, 1, None, 1, True)),
        # Jobs that could never run at the same time are not asked for.
        ({"cores": 8}, 100, (8, None, None, 4, False)),
        # One machine is one node.
        ({"cores": 8, "nodes": 4}, 1, (8, None, None, 1, True)),
        ({"cores": 1}, 0, (1, None, None, 0, False)),
    ],
)
def test_a_request_is_cut_down_to_the_machine(
    asked: dict[str, Any], jobs: int, fitted: tuple[object, ...]
) -> None:
    """What is larger would wait for ever."""
    done = fit(ClusterOptions(**asked), jobs, LAPTOP)
    assert (done.cores, done.processes, done.memory, done.jobs, done.cut) == fitted
    assert done.keywords["nodes"] == 1


def test_the_local_batch_systems_slots_bound_a_job_too() -> None:
    """DASK_HPC_LOCAL_SLOTS may be less than the cores."""
    done = fit(ClusterOptions(cores=4, processes=4), 3, Machine(cores=8, slots=2, memory=GIB))
    assert (done.cores, done.processes, done.jobs) == (2, 2, 1)


def test_what_other_batch_systems_alone_know_is_left_out() -> None:
    """What this one knows, what all know and what nobody knows is kept, for others to judge."""
    asked = {
        "queue": "q",
        "project": "x",
        "parallel_environment": "smp",
        "job_mem": "1G",
        "cores": 1,
        "nonsense": 2,
        "site": "s",
        "batch": "b",
    }
    assert for_batch(asked, "sge", submits=True).keys() == asked.keys() - {"job_mem"}
    assert for_batch(asked, "slurm", submits=False) == {
        "queue": "q",
        "project": "x",
        "job_mem": "1G",
        "cores": 1,
        "nonsense": 2,
    }
    assert "queue" not in for_batch(asked, "local", submits=False)


def test_the_number_is_said_once() -> None:
    """One job without a word."""
    assert size(jobs=None, workers=None) == {"jobs": 1}
    assert size(jobs=3, workers=None) == {"jobs": 3}
    assert size(jobs=None, workers=7) == {"n": 7}
    with pytest.raises(ConfigurationError, match="both say how many"):
        size(jobs=1, workers=1)


@pytest.mark.parametrize(
    ("cores", "asked", "workers"),
    [
        (16, {"cores": 4}, 4),  # nothing said of processes: about the square root
        (16, {"cores": 4, "processes": 4}, 16),
        (16, {"cores": 36, "processes": 9}, 4),
        (2, {"cores": 36, "processes": 1}, 1),
    ],
)
def test_a_nodes_cores_are_divided_as_the_jobs_would_be(
    cores: int, asked: dict[str, int], workers: int
) -> None:
    """Workers have the threads that were asked for, however large the node is."""
    assert workers_on(cores, ClusterOptions(**asked)) == workers


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, ""),
        ({"JOB_ID": "17"}, ""),
        ({"JOB_ID": "17", "SGE_TASK_ID": "undefined", "NSLOTS": "1"}, "17"),
        ({"JOB_ID": "17", "SGE_TASK_ID": "3", "NSLOTS": "1"}, "17.3"),
        ({"PBS_JOBID": "12[4].server", "PBS_ARRAY_INDEX": "4", "NCPUS": "1"}, "12_4.4"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2"}, "9.2"),
        ({"_CONDOR_JOB_AD": "/s/.job.ad", "DASK_HPC_INDEX": "2"}, "2"),
    ],
)
def test_a_job_is_named_by_its_id_and_index(environ: dict[str, str], name: str) -> None:
    """Letters, digits and underscores, whatever the batch system calls it."""
    assert name_of_job(environ) == name
