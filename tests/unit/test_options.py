"""Keywords of a cluster: what is understood, what is refused."""

from __future__ import annotations

import re
import warnings
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dask_hpc import HPCCluster
from dask_hpc.cluster import options as module
from dask_hpc.cluster.options import ClusterOptions, check_name, resolve
from dask_hpc.cluster.pools import job_environment, pool_for
from dask_hpc.cluster.sizes import jobs_wanted
from dask_hpc.config.reader import Layer, layers
from dask_hpc.drivers.local import Local
from dask_hpc.drivers.script import job_script
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import ConfigurationError


class Elsewhere(Local):
    """A batch system with a keyword of its own, which reads 1:30 as an hour and a half."""

    name = "lsf"
    OPTIONS: ClassVar[dict[str, str]] = {"disk": "of the node", "project": "who is charged"}


def options(**keywords: Any) -> Any:
    return resolve(keywords, layers("slurm"), Slurm)


def script(**keywords: Any) -> str:
    pool = pool_for(
        options(cores=1, python="python", **keywords),
        scheduler_file=Path("/d/s.json"),
        logs=Path("/d/logs"),
        environment={},
    )
    return job_script(pool.spec, Slurm())


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
        ({"cores": 1, "own": {"a": "b"}}, "no option own="),
        ({"cores": 1, "job_cpu": {"a": 1}}, "must be a list"),
    ],
)
def test_a_senseless_request_is_refused_with_advice(keywords: Any, message: str) -> None:
    """Before anything is submitted: what is wrong and what is possible."""
    with pytest.raises(ConfigurationError, match=message):
        options(**keywords)


def test_an_option_of_another_batch_system_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says whose it is, and what this one has."""
    monkeypatch.setattr(module, "DRIVERS", {"slurm": Slurm, "lsf": Elsewhere})
    with pytest.raises(ConfigurationError, match="disk= is an option of lsf, not of slurm"):
        options(cores=1, disk="4 GB")


def test_options_of_the_batch_system_reach_the_job_as_text() -> None:
    """Numbers, flags and lists are written as a shell would take them."""
    found = resolve({"disk": ["a b", 1], "cores": 1}, [], Elsewhere)
    assert found.own == {"disk": "'a b' 1"}
    assert resolve({"disk": True, "cores": 1}, [], Elsewhere).own == {"disk": "true"}


def test_a_name_that_the_batch_system_has_itself_is_not_renamed() -> None:
    """Grid Engine's project is its own option; elsewhere it is the older name of account."""
    found = resolve({"cores": 1, "project": "lab"}, [], Elsewhere)
    assert (found.own, found.account) == ({"project": "lab"}, None)


def test_a_mistake_in_the_configuration_is_reported_with_its_place() -> None:
    """It may be years old; the keywords are fine."""
    with pytest.raises(ConfigurationError, match="my file: a cluster has no option quue="):
        resolve({"cores": 1}, [Layer("my file", {"quue": "main"})], Slurm)
    with pytest.raises(ConfigurationError, match="my file: nanny=False"):
        resolve({"cores": 1}, [Layer("my file", {"nanny": False})], Slurm)


def test_later_layers_win_and_none_says_nothing() -> None:
    """As in the configuration: the more special place decides."""
    weak = Layer("weak", {"cores": 1, "queue": "slow", "account": "lab"})
    strong = Layer("strong", {"queue": "fast", "account": None})
    found = resolve({"memory": None, "cores": 2}, [weak, strong], Slurm)
    assert (found.cores, found.queue, found.account, found.memory) == (2, "fast", "lab", None)


def test_what_slurm_is_asked_for_may_differ_from_what_workers_use() -> None:
    """job_cpu and job_mem change the request alone."""
    text = script(memory="8 GiB", job_cpu=4, job_mem="0")
    assert "#SBATCH --cpus-per-task=4\n#SBATCH --mem=0\n" in text
    assert "--nworkers 1 --nthreads 1" in text
    assert f"--job-memory {2**33}" in text


@pytest.mark.parametrize(
    ("given", "seconds"), [("1:30", 5400), (" 01:30 ", 5400), ("1:30:00", 5400)]
)
def test_a_clock_of_two_parts_is_hours_where_the_batch_system_says_so(
    given: str, seconds: int
) -> None:
    """LSF and OAR write H:MM; an hour and a half must not become 90 seconds."""
    assert resolve({"cores": 1, "walltime": given}, [], Elsewhere).walltime == seconds
    assert resolve({"cores": 1, "walltime": "1:30"}, [], Slurm).walltime == 90


def test_arguments_of_workers_may_be_given_as_a_shell_takes_them() -> None:
    """One item with a blank is two words, unless it has a value of its own."""
    found = options(cores=1, worker_extra_args=["--resources GPU=2", "--name=a b", "-v"])
    assert found.worker_extra_args == ("--resources", "GPU=2", "--name=a b", "-v")


def test_python_may_be_a_command() -> None:
    """A container or a wrapper before it; a path with blanks stays one word."""
    found = options(cores=1, python="apptainer exec 'my image.sif' python3")
    pool = pool_for(found, scheduler_file=Path("/s"), logs=Path("/l"), environment={})
    assert pool.spec.command[:5] == ("apptainer", "exec", "my image.sif", "python3", "-m")


def test_jobs_of_a_head_that_may_come_back_are_told_to_wait_for_it() -> None:
    """Others end with their head."""
    found = options(cores=1, memory="1 GiB")
    files = {"scheduler_file": Path("/s"), "logs": Path("/l"), "environment": {}}
    waits = pool_for(found, **files, await_head=300.0).spec.command
    assert waits[waits.index("--await-head") + 1] == "300"
    assert "--await-head" not in pool_for(found, **files).spec.command


def test_a_scratch_directory_may_name_variables_of_the_job() -> None:
    """They are expanded on the node, after the prologue; nothing else of it is code."""
    text = script(local_directory="$TMPDIR/my ${USER}/$(id)", job_script_prologue=["module load a"])
    line = """export DASK_TEMPORARY_DIRECTORY="$TMPDIR"'/my '"${USER}"'/$(id)'"""
    assert f"module load a\n{line}\n" in text
    assert "--local-directory" not in text
    assert "--local-directory '/a b'" in script(local_directory="/a b")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", "auto"),
        (True, "auto"),
        ("never", "never"),
        (False, "never"),
        ("/scratch/x", "/scratch/x"),
        ("$TMPDIR/x", "$TMPDIR/x"),
        (Path("/s"), "/s"),
    ],
)
def test_where_to_spill_is_a_word_or_a_directory(given: Any, expected: str) -> None:
    """YAML reads `spill: no` as a truth value."""
    assert options(cores=1, spill=given).spill == expected


@pytest.mark.parametrize("given", ["sometimes", "a/b", ""])
def test_another_word_for_where_to_spill_is_refused(given: str) -> None:
    """Before anything is submitted."""
    with pytest.raises(ConfigurationError, match="neither 'auto' nor 'never'"):
        options(cores=1, spill=given)


def test_where_to_spill_goes_to_the_node_as_it_is() -> None:
    """Its variables are the job's; the shell of the job has nothing to do with them."""
    assert "--spill" not in script()
    text = script(spill="$TMPDIR/$(id)", scratch="/scratch/$USER")
    assert "--spill '$TMPDIR/$(id)'" in text
    assert "--scratch '/scratch/$USER'" in text


def test_the_log_directory_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head makes it, so its variables are those of this process."""
    monkeypatch.setenv("SCRATCH", "/s/me")
    assert options(cores=1, log_directory="$SCRATCH/logs").log_directory == "/s/me/logs"


def test_directives_may_be_a_mapping() -> None:
    """HTCondor's submit commands are names and values."""
    found = options(cores=1, job_extra_directives={"+Flavour": '"x"', "priority": 3})
    assert found.job_extra_directives == ('+Flavour = "x"', "priority = 3")


def test_what_has_no_meaning_is_said_once_for_keywords_alone() -> None:
    """In a configuration for several machines it is no mistake."""
    with pytest.warns(UserWarning, match="shared_temp_directory= has no effect here"):
        options(cores=1, shared_temp_directory="/tmp")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve({"cores": 1}, [Layer("x", {"shared_temp_directory": "/tmp"})], Slurm)


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
    assert words[words.index("--job-memory") + 1] == str(2**34)
    assert pool.spec.memory == 2**34


def test_a_job_with_gpus_has_a_worker_for_each_unless_told_otherwise() -> None:
    """Its cores and memory are divided among them; the node is told how many GPUs there are."""
    found = options(cores=8, memory="16 GiB", gpus=2)
    assert (found.layout.workers, found.layout.threads, found.layout.memory) == (2, 4, 2**33)
    assert options(cores=8, gpus=2, processes=4).layout.workers == 4
    assert options(cores=9).layout.workers == 3
    pool = pool_for(found, scheduler_file=Path("/d/s.json"), logs=Path("/d/logs"), environment={})
    assert " --nworkers 2 --nthreads 4 " in " ".join(pool.spec.command)
    assert " --gpus 2" in " ".join(pool.spec.command)
    assert options(cores=2, gpus=4).layout.workers == 2, "each needs a core, and has two GPUs"


def test_workers_are_bound_when_asked_only() -> None:
    """bind= reaches the node, and is one of three words."""
    places = {"scheduler_file": Path("/d/s.json"), "logs": Path("/d/logs"), "environment": {}}
    words = pool_for(options(cores=8, bind="numa"), **places).spec.command  # type: ignore[arg-type]
    assert words[words.index("--bind") + 1] == "numa"
    words = pool_for(options(cores=8, bind="none"), **places).spec.command  # type: ignore[arg-type]
    assert not {"--bind", "--gpus", "--job-memory"} & set(words)
    with pytest.raises(ConfigurationError, match="socket"):
        options(cores=8, bind="socket")


def test_a_job_of_several_nodes_has_the_workers_of_each() -> None:
    """Cores, memory and processes are each node's; scale() counts whole jobs with all of them."""
    found = options(cores=8, memory="16 GiB", processes=4, nodes=3)
    pool = pool_for(
        found,
        scheduler_file=Path("/d/s.json"),
        logs=Path("/d/logs"),
        environment={},
        batch="slurm",
        script=Path("/d/job.sh"),
    )
    assert (pool.spec.cores, pool.spec.memory, pool.spec.nodes) == (8, 2**34, 3)
    assert pool.workers_per_job == found.job_layout.workers == 12
    assert jobs_wanted(found.job_layout, n=13) == 2
    assert jobs_wanted(found.job_layout, cores=24) == 1
    assert jobs_wanted(found.job_layout, memory="49 GiB") == 2


def test_thread_counts_and_the_hash_seed_are_set_before_python_starts() -> None:
    """The user's own values win; a random or zero seed is replaced by the engine's."""
    found = job_environment({"OMP_NUM_THREADS": 1, "X": None}, {"OMP_NUM_THREADS": "4"})
    assert found == {"OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "6640"}
    assert job_environment({}, {"PYTHONHASHSEED": "12"}) == {"PYTHONHASHSEED": "12"}
    assert job_environment({}, {"PYTHONHASHSEED": "random"}) == {"PYTHONHASHSEED": "6640"}


def test_the_docstring_of_a_cluster_names_every_option() -> None:
    """It is where people look first."""
    words = set(re.findall(r"\w+", HPCCluster.__doc__ or ""))
    of_one_system = {"own"}
    assert {field.name for field in fields(ClusterOptions)} - words - of_one_system == set()
