"""What a job has on its node, and what fits in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node import limits
from dask_hpc.node.limits import Snapshot
from dask_hpc.node.options import WorkerOptions

GIB = 1 << 30


def snapshot(cgroup: tuple[int, ...] = (), affinity: int = 8, **environ: str) -> Snapshot:
    job = {"SLURM_JOB_ID": "1", "LOCAL_JOB_ID": "1_0"}
    return Snapshot(
        environ=job | environ, affinity=affinity, host_memory=64 * GIB, cgroup_memory=cgroup
    )


def test_variables_of_a_batch_system_count_inside_its_jobs_only() -> None:
    """Names such as NCPUS and NSLOTS are anyone's on a login node."""
    outside = Snapshot(
        environ={"NSLOTS": "3", "SLURM_MEM_PER_NODE": "1"}, affinity=8, host_memory=9
    )
    assert (limits.cores(outside).amount, limits.memory(outside).amount) == (8, 9)
    inside = Snapshot(environ={"NSLOTS": "3", "JOB_ID": "7"}, affinity=8, host_memory=9)
    assert limits.cores(inside).amount == 3


def options(**wanted: object) -> WorkerOptions:
    return WorkerOptions(scheduler="tls://h:1", **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "cores", "promised"),
    [
        ({}, 8, False),
        ({"LOCAL_CPUS": "2"}, 2, True),
        ({"SLURM_CPUS_ON_NODE": "6"}, 6, True),
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "6"}, 3, True),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "0"}, 8, False),
    ],
)
def test_the_batch_systems_word_on_cores_goes_before_the_machines(
    environ: dict[str, str], cores: int, promised: bool
) -> None:
    """Affinity says what we may use, not what we were given."""
    share = limits.cores(snapshot(**environ))
    assert (share.amount, share.promised) == (cores, promised)


def test_the_cores_of_all_hosts_of_a_job_are_not_those_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grid Engine's NSLOTS counts every host; its file of hosts tells what each has, per queue."""
    here = os.uname().nodename.partition(".")[0]
    hosts = tmp_path / "hosts"
    hosts.write_text(
        f"other 8 all.q@other <NULL>\n{here}.domain 3 all.q@x <NULL>\n{here} 1 b.q@x\n"
    )
    job = {"JOB_ID": "7", "NSLOTS": "12", "PE_HOSTFILE": str(hosts)}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NHOSTS", "2")
    assert limits.cores(limits.look()) == limits.Share(4, "PE_HOSTFILE")
    assert limits.cores(limits.look(), asked=5).amount == 5
    hosts.unlink()
    assert not limits.cores(limits.look()).promised
    monkeypatch.setenv("NHOSTS", "1")
    assert limits.cores(limits.look()) == limits.Share(12, "NSLOTS")


@pytest.mark.parametrize(
    ("environ", "cgroup", "expected"),
    [
        ({}, (), 64 * GIB),
        ({}, (4 * GIB, 16 * GIB), 4 * GIB),
        ({"SLURM_MEM_PER_NODE": "2048"}, (4 * GIB,), 2 * GIB),
        ({"SLURM_MEM_PER_NODE": "0"}, (4 * GIB,), 4 * GIB),
        ({"LOCAL_MEM_BYTES": str(GIB)}, (), GIB),
        ({"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, (), 2 * GIB),
    ],
)
def test_the_smallest_of_all_bounds_on_memory_counts(
    environ: dict[str, str], cgroup: tuple[int, ...], expected: int
) -> None:
    """A worker that trusts a larger number is killed by the smaller one."""
    assert limits.memory(snapshot(cgroup, **environ)).amount == expected


def test_control_groups_of_both_versions_are_read_up_to_the_root() -> None:
    """A limit on a job's parent group bounds the job."""
    text = "12:cpu:/x\n4:memory:/slurm/job_7\n0::/system.slice/job_7\n"
    assert limits.cgroup_files(text) == [
        "/sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/slurm/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/system.slice/job_7/memory.max",
        "/sys/fs/cgroup/system.slice/memory.max",
        "/sys/fs/cgroup/memory.max",
    ]
    assert limits.cgroup_limits(["max\n", "", "9223372036854771712\n", "1024\n"]) == (1024,)


def test_memory_is_divided_among_workers() -> None:
    """The sum of the limits never exceeds the job."""
    plan = limits.plan(options(nworkers=3), snapshot(LOCAL_CPUS="6", LOCAL_MEM_BYTES=str(GIB)))
    assert (plan.layout.workers, plan.layout.threads) == (3, 2)
    assert plan.layout.memory == GIB // 3


@pytest.mark.parametrize(
    ("limit", "memory"),
    [("0", None), ("0.25", GIB // 4), ("256 MiB", GIB // 4), (str(GIB // 4), GIB // 4)],
)
def test_a_memory_limit_may_be_none_a_fraction_or_an_amount(limit: str, memory: int | None) -> None:
    """The forms that the engine's own option has."""
    plan = limits.plan(options(memory_limit=limit), snapshot(LOCAL_MEM_BYTES=str(GIB)))
    assert plan.layout.memory == memory


def test_more_threads_than_promised_cores_are_refused_with_the_sum() -> None:
    """The batch system would let them fight for the cores, or kill them."""
    with pytest.raises(NodeError, match=r"4 workers x 2 threads = 8 threads on 4 cores"):
        limits.plan(options(nworkers=4, nthreads=2), snapshot(LOCAL_CPUS="4"))


def test_more_threads_than_the_machine_has_are_only_a_warning() -> None:
    """Without a batch system, nobody else is hurt."""
    plan = limits.plan(options(nworkers=4, nthreads=4), snapshot())
    assert plan.notes == ("4 workers x 4 threads = 16 threads on 8 cores (the machine)",)


def test_more_memory_than_the_job_has_is_refused_with_the_sum() -> None:
    """Better an error now than a kill in an hour."""
    with pytest.raises(NodeError, match=r"2 workers x 1 GiB = 2 GiB .* the job has 1 GiB"):
        limits.plan(options(nworkers=2, memory_limit="1 GiB"), snapshot(LOCAL_MEM_BYTES=str(GIB)))


def test_a_limit_rounded_by_the_batch_system_still_fits() -> None:
    """10 GB becomes 9536 MiB in Slurm, and the job script says 10 GB / workers."""
    plan = limits.plan(
        options(nworkers=2, memory_limit="5 GB"), snapshot(SLURM_MEM_PER_NODE="9536")
    )
    assert plan.layout.memory == (9536 << 20) // 2


@pytest.mark.parametrize(
    ("wanted", "workers", "threads"),
    [
        ({}, 1, 8),
        ({"nworkers": "auto"}, 2, 4),
        ({"nworkers": "auto", "nthreads": 2}, 4, 2),
        ({"nworkers": -1}, 8, 1),
    ],
)
def test_workers_follow_the_cores(wanted: dict[str, object], workers: int, threads: int) -> None:
    """One worker as the engine has it, unless told."""
    layout = limits.plan(options(**wanted), snapshot(LOCAL_CPUS="8")).layout
    assert (layout.workers, layout.threads) == (workers, threads)


def test_a_negative_memory_limit_is_refused() -> None:
    """Nothing sensible can be meant."""
    with pytest.raises(ConfigurationError, match="below zero"):
        limits.plan(options(memory_limit="-1"), snapshot())


def test_this_machine_can_be_read() -> None:
    """The thin edge: at least one core and some memory."""
    seen = limits.look()
    assert seen.affinity == len(os.sched_getaffinity(0))
    assert limits.memory(seen).amount > 1 << 20
