"""What each worker gets of its job: GPUs, CPUs, a place in the kernel's order of killing."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest

from dask_hpc.errors import JobStartError
from tests.integration.account import Account

GPU = "CUDA_VISIBLE_DEVICES"
ORDER = Path("/proc/self/oom_score_adj")


def seen() -> tuple[str | None, int, frozenset[int]]:
    score = int(ORDER.read_text())
    return os.environ.get(GPU), score, frozenset(os.sched_getaffinity(0))


def test_each_worker_of_a_job_sees_its_own_gpu_and_has_it_as_a_resource(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker per GPU of the job's list; a task that asks for GPU=1 runs on any of them."""
    monkeypatch.setenv(GPU, "4,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
    with account.cluster(cores=2, gpus=2, memory="600 MiB") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(2, timeout=30)
        with cluster.get_client() as client:
            found = client.run(seen).values()
            assert {name for name, *_ in found} == {"4", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"}
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            assert [worker["resources"]["GPU"] for worker in workers] == [1, 1]
            assert client.submit(abs, -3, resources={"GPU": 1}).result(timeout=30) == 3


def test_a_resource_of_the_users_own_wins(account: Account) -> None:
    """Somebody counts GPUs differently, or counts something else as well."""
    extra = ["--resources", "GPU=4 FAST=1", "--gpus", "1"]
    with account.cluster(cores=1, worker_extra_args=extra) as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            (worker,) = client.scheduler_info()["workers"].values()
            assert {name: worker["resources"][name] for name in ("GPU", "FAST")} == {
                "GPU": 4,
                "FAST": 1,
            }
            assert [name for name, *_ in client.run(seen).values()] == ["0"]


def test_a_gpu_that_is_not_there_is_an_error_before_any_worker_starts(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's list is shorter than what the cluster asked for."""
    monkeypatch.setenv(GPU, "0")
    with account.cluster(cores=2, gpus=2) as cluster:
        cluster.scale(jobs=1)
        with pytest.raises(
            JobStartError, match="2 GPUs are wanted on this node, and the job has 1"
        ):
            cluster.wait_for_workers(2, timeout=60)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU cannot be divided")
def test_bound_workers_keep_to_cpus_of_their_own(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, no CPU in common, and all of them used."""
    cpus = len(os.sched_getaffinity(0))
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", str(cpus))
    with account.cluster(cores=cpus, processes=2, bind="core") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(2, timeout=30)
        with cluster.get_client() as client:
            places = [cpus for *_, cpus in client.run(seen).values()]
    assert not any(one & other for one, other in combinations(places, 2))
    assert all(places)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU cannot be divided")
def test_workers_are_not_bound_where_others_may_have_the_same_cpus(account: Account) -> None:
    """Two such jobs would bind their workers to the first CPU; the log says so."""
    with account.cluster(cores=1, bind="core") as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            ((*_, cpus),) = client.run(seen).values()
        assert cpus == os.sched_getaffinity(0)
        assert "workers are not bound: the job has 1 cores" in str(cluster.get_logs())


def test_the_kernel_would_kill_a_worker_before_what_starts_it_again(account: Account) -> None:
    """oom_score_adj of a worker is above that of its job."""
    with account.cluster(cores=1) as cluster:
        cluster.scale(jobs=1)
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            ((_, score, _),) = client.run(seen).values()
    assert score > int(ORDER.read_text())


@pytest.mark.parametrize("kibibytes", [100_000, 140_000])
def test_a_job_with_too_few_addresses_says_so(account: Account, kibibytes: int) -> None:
    """Wherever it runs out of them, the user reads of ``ulimit -v`` and no traceback."""
    prologue = [f"ulimit -v {kibibytes}"]
    with account.cluster(cores=1, job_script_prologue=prologue) as cluster:
        cluster.scale(jobs=1)
        with pytest.raises(JobStartError, match="ulimit -v") as caught:
            cluster.wait_for_workers(1, timeout=30)
        assert "Traceback" not in str(caught.value)
