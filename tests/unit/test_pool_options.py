"""Keywords of a further pool: what it has from the cluster, what is refused."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import dask.config
import pytest

from dask_hpc import HPCCluster
from dask_hpc.cluster import peer
from dask_hpc.cluster.options import ClusterOptions, resolve
from dask_hpc.cluster.pool_options import OF_THE_CLUSTER, pool_options
from dask_hpc.cluster.pools import label, pool_for, pool_of, resources_apart
from dask_hpc.cluster.request import understand
from dask_hpc.config.reader import layers
from dask_hpc.drivers.script import job_script
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import ConfigurationError


def cluster(**keywords: Any) -> ClusterOptions:
    return resolve({"cores": 8, **keywords}, layers("slurm"), Slurm)


def pool(options: ClusterOptions, **keywords: Any) -> ClusterOptions:
    return pool_options("gpu", keywords, cluster=options, driver=Slurm)


def command(options: ClusterOptions, **more: Any) -> tuple[str, ...]:
    places = {"scheduler_file": Path("/s"), "logs": Path("/l"), "environment": {}}
    return pool_for(options, **places, **more).spec.command


def test_a_pool_is_as_the_cluster_but_for_what_is_said() -> None:
    """Units and names are read as the cluster's are; None says nothing."""
    base = cluster(memory="16 GiB", queue="main", walltime="1 h", project="lab", job_cpu=9)
    found = pool(base, queue="gpu", gpus=2, walltime="30 min", memory=None)
    assert (found.queue, found.gpus, found.walltime) == ("gpu", 2, 1800)
    assert (found.cores, found.memory, found.account) == (8, 2**34, "lab")
    assert pool(base, queue="gpu").own == {"job_cpu": "9"}
    text = job_script(pool_for(found, name="gpu", **_places()).spec, Slurm())
    assert "#SBATCH --partition=gpu\n" in text
    assert "#SBATCH --account=lab\n" in text


def _places() -> dict[str, Any]:
    return {"scheduler_file": Path("/s"), "logs": Path("/l"), "environment": {}}


def test_what_tells_pools_apart_is_not_inherited() -> None:
    """Nor are the resources of workers that were given in dask-jobqueue's way."""
    base = cluster(
        resources={"CPU": 8}, preemptible=True, worker_extra_args=["-v", "--resources", "A=1"]
    )
    found = pool(base)
    assert (found.resources, found.preemptible, found.worker_extra_args) == ({}, False, ("-v",))
    assert pool(base, resources={"GPU": 1}, preemptible=True).resources == {"GPU": 1.0}


def test_what_goes_with_a_size_is_not_inherited_by_a_pool_of_another_size() -> None:
    """Eight workers do not fit on two cores, nor does --cpus-per-task=8 ask for two."""
    base = cluster(processes=8, job_cpu=8, job_mem="9G")
    assert (pool(base, queue="x").processes, pool(base, queue="x").own["job_cpu"]) == (8, "8")
    for size in ({"cores": 2}, {"memory": "1 GiB"}, {"gpus": 1}, {"nodes": 2}):
        found = pool(base, **size)
        assert (found.processes, found.own) == (None, {})
    assert pool(base, cores=2, processes=2, job_cpu=4).own == {"job_cpu": "4"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"quue": "x"}, r"pool gpu: a cluster has no option quue=.*\n.*queue="),
        ({"cores": 0}, "pool gpu: cores="),
        ({"disk": "1 GB"}, "disk= is an option of htcondor, not of slurm"),
        ({"resources": {"GPU": 0}}, "resources="),
        ({"resources": {"GPU": True}}, "resources="),
        ({"resources": {"a b": 1}}, "resources="),
        ({"resources": ["GPU"]}, "resources= must be a dict"),
        ({"log_dir": "/x"}, "log_dir= is no option of a pool"),
        ({"security": False}, "security= is no option of a pool"),
        ({"scheduler_options": {"port": 1}}, "scheduler_options= is no option of a pool"),
        ({"config_name": "x"}, r"config_name= is no option(.|\n)*second cluster"),
    ],
)
def test_a_senseless_pool_is_refused_with_its_name(keywords: Any, message: str) -> None:
    """And with what to do."""
    with pytest.raises(ConfigurationError, match=message):
        pool(cluster(), **keywords)


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "a=b", "a,b", "é", "x" * 31, None, 3])
def test_a_name_that_a_file_or_a_resource_could_not_have_is_refused(name: Any) -> None:
    """It is part of both."""
    with pytest.raises(ConfigurationError, match="cannot be called"):
        pool_options(name, {}, cluster=cluster(), driver=Slurm)


def test_every_keyword_is_the_clusters_or_a_jobs() -> None:
    """Each option of a job is taken; each other keyword of HPCCluster is refused with a reason."""
    base = cluster()
    jobs = set(ClusterOptions.__dataclass_fields__) - {"own"} - OF_THE_CLUSTER.keys()
    for word in jobs:
        default = getattr(base, word)
        value = 2**30 if default is None and word in ("walltime", "memory") else default
        value = 2 if word == "processes" else value
        value = list(value) if isinstance(value, tuple) else value
        value = str(getattr(value, "value", value)) if word == "bind" else value
        pool(base, **{word: value})
    signature = set(inspect.signature(HPCCluster.__init__).parameters) - {"self", "options"}
    assert signature <= OF_THE_CLUSTER.keys()
    renamed = {"scheduler_options", "security", "protocol", "dashboard_address"}
    assert renamed <= OF_THE_CLUSTER.keys() & peer._READERS.keys()


def test_workers_tell_their_pool_and_their_resources() -> None:
    """Those of all three ways together; of a node's GPUs as they are dealt out."""
    found = pool(
        cluster(),
        cores=4,
        gpus=4,
        processes=2,
        resources={"MEM": 10e9},
        worker_extra_args=["--resources=FAST=1,WIDE=2", "--no-dashboard"],
    )
    words = command(found, name="gpu", labels=label("gpu"))
    assert words[-3:] == (
        "--resources",
        "MEM=10000000000 FAST=1 WIDE=2 pool-gpu=inf",
        "--no-dashboard",
    )
    made = pool_for(found, name="gpu", labels=label("gpu"), **_places())
    assert made.name == "gpu"
    assert made.resources == {
        "GPU": 2.0,
        "MEM": 10e9,
        "FAST": 1.0,
        "WIDE": 2.0,
        "pool-gpu": math.inf,
    }
    assert "--resources" not in command(cluster())


def test_a_worker_belongs_to_the_pool_that_its_resources_tell() -> None:
    """One that was started by hand to none."""
    assert pool_of({"GPU": 1, "pool-a-b": 1}) == "a-b"
    assert pool_of({"GPU": 1}) is None
    assert resources_apart(["-v", "--resources", "A=1 B=2"]) == (("-v",), {"A": 1.0, "B": 2.0})


def test_pools_are_read_from_the_configuration_and_keywords_pool_by_pool() -> None:
    """The stronger place has the whole pool; those of dask-jobqueue's section are not read."""
    settings = {
        "dask-hpc": {
            "pools": {"gpu": {"job-cpu": 2}, "big": {"cores": 32}},
            "slurm": {"pools": {"big": {"cores": 64}, "empty": None}},
        },
        "jobqueue": {"slurm": {"pools": {"theirs": {}}}},
    }
    with dask.config.set(settings):
        request = understand({"cores": 1, "pools": {"gpu": {"gpus": 1}}}, batch="slurm")
    assert request.pools == {"gpu": {"gpus": 1}, "big": {"cores": 64}, "empty": {}}
    assert request.pool("big", request.pools["big"]).cores == 64
    for wrong in ({"gpu": 4}, ["gpu"], "gpu"):
        with pytest.raises(ConfigurationError, match="keywords: pool"):
            understand({"cores": 1, "pools": wrong}, batch="slurm")


def test_a_site_checks_its_pools_too() -> None:
    """What it wants of jobs, it wants of all."""
    own = {
        "batch": "slurm",
        "requires": ["account"],
        "queues": {"small": {"walltime_limit": "1 h"}},
    }
    with dask.config.set({"dask-hpc": {"sites": {"here": own}}}):
        request = understand({"cores": 1, "account": "a"}, site="here")
        with pytest.warns(UserWarning, match="walltime"):
            request.pool("x", {"queue": "small", "walltime": "2 h"})
