"""What a job has on its node, and what fits in it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node import limits
from dask_hpc.node.limits import Snapshot
from dask_hpc.node.options import WorkerOptions

MIB, GIB = 1 << 20, 1 << 30


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
    assert limits.told(limits.look()) == limits.Share(4, "PE_HOSTFILE")
    assert limits.cores(limits.look(), asked=5).amount == 5
    hosts.unlink()
    assert limits.told(limits.look()) is None
    monkeypatch.setenv("NHOSTS", "1")
    assert limits.told(limits.look()) == limits.Share(12, "NSLOTS")


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


def test_memory_is_divided_among_workers() -> None:
    """The sum of the limits never exceeds the job less its headroom."""
    plan = limits.plan(options(nworkers=3), snapshot(LOCAL_CPUS="6", LOCAL_MEM_BYTES=str(GIB)))
    assert (plan.layout.workers, plan.layout.threads) == (3, 2)
    assert plan.layout.memory == (GIB - 70 * MIB) // 3


@given(room=st.integers(8 * MIB, 1 << 45), workers=st.integers(1, 256))
def test_workers_and_what_runs_beside_them_fit_in_the_job(room: int, workers: int) -> None:
    """Limits add up to no more than the rest; a small job keeps seven eighths of it."""
    each = limits.for_workers(room, workers)
    assert workers * each + limits.headroom(room, workers) <= room
    assert workers * (each + 1) > room * 7 // 8 - workers or room > GIB // 2


def test_what_the_script_says_of_memory_is_one_bound_of_several() -> None:
    """A site that gives less than it was asked for has the last word, and the log says so."""
    wanted = options(nworkers=2, job_memory=4 * GIB)
    plan = limits.plan(wanted, snapshot((2 * GIB,)))
    assert plan.layout.memory == limits.for_workers(2 * GIB, 2)
    assert plan.notes == (
        "the job was to have 4 GiB, and has 2 GiB (the control group), which its workers divide",
    )
    assert limits.plan(wanted, snapshot((8 * GIB,))).notes == ()


def test_a_limit_of_one_process_bounds_each_worker_and_not_their_sum() -> None:
    """ulimit -v counts reserved addresses too: half a GiB is left for those."""
    machine = replace(snapshot(), process_memory=(("RLIMIT_AS", 4 * GIB),))
    plan = limits.plan(options(nworkers=4), machine)
    assert plan.layout.memory == 4 * GIB - GIB // 2
    assert plan.notes == ()
    few = replace(machine, process_memory=(("RLIMIT_AS", 256 * MIB), ("RLIMIT_RSS", GIB)))
    plan = limits.plan(options(nworkers=1), few)
    assert plan.layout.memory == 128 * MIB
    assert "if workers do not start, ask for more" in plan.notes[0]
    asked = limits.plan(options(nworkers=1, memory_limit="2 GiB"), few)
    assert asked.layout.memory == 128 * MIB
    assert (
        asked.notes[0]
        == "a worker may have 2 GiB, but one process no more than 128 MiB (RLIMIT_AS)"
    )


def test_so_few_addresses_that_nothing_starts_are_refused() -> None:
    """A process that runs out of them while it imports numpy ends without a word."""
    bare = replace(snapshot(), process_memory=(("RLIMIT_AS", 100 * MIB),))
    with pytest.raises(NodeError, match="100 MiB of addresses") as caught:
        limits.plan(options(nworkers=1), bare)
    assert "`ulimit -v` in job_script_prologue" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "limit", "explained"),
    [
        (RuntimeError("can't start new thread"), 300 * MIB, True),
        (MemoryError(), 300 * MIB, True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 300 * MIB, True),
        (OSError(errno.ENOSPC, "No space left on device"), 300 * MIB, False),
        (RuntimeError("another"), 300 * MIB, False),
        (RuntimeError("can't start new thread"), 64 * GIB, False),  # the limit on processes
        (RuntimeError("can't start new thread"), None, False),
    ],
)
def test_what_fails_for_want_of_addresses_says_so(
    error: Exception, limit: int | None, explained: bool
) -> None:
    """Only there: elsewhere the same words have another reason."""
    found = limits.starved(error, {} if limit is None else {"RLIMIT_AS": limit})
    assert (found is not None) == explained
    if found is not None:
        assert "300 MiB of addresses" in str(found)
        assert "h_vmem" in str(found)


def test_all_of_a_jobs_memory_may_be_asked_for_with_a_warning() -> None:
    """It is the user's to say, and the processes beside the workers have to live too."""
    plan = limits.plan(options(nworkers=4, memory_limit="0.25"), snapshot((GIB,)))
    assert plan.layout.memory == GIB // 4
    assert "4 workers x 256 MiB = 1 GiB of memory, and the job has 1 GiB" in plan.notes[0]
    assert "less than 72 MiB is left" in plan.notes[0]


def test_more_memory_than_the_machine_has_is_a_warning_with_the_sum() -> None:
    """Nobody has promised anything, and no batch system kills."""
    plan = limits.plan(options(nworkers=4, memory_limit="20 GiB"), snapshot())
    assert plan.layout.memory == 20 * GIB
    assert "4 workers x 20 GiB = 80 GiB of memory, and the job has 64 GiB" in plan.notes[0]


def test_the_smallest_of_all_bounds_on_cores_counts() -> None:
    """What the batch system gave, what this process may run on, what time its group has."""
    told = snapshot(affinity=16, SLURM_CPUS_ON_NODE="8")
    assert limits.cores(told) == limits.Share(8, "SLURM_CPUS_ON_NODE")
    assert limits.cores(replace(told, affinity=4)).amount == 4
    assert limits.cores(replace(told, cpu_quota=2.5)).amount == 2
    assert limits.cores(replace(told, cpu_quota=0.5)).amount == 1
    assert limits.cores(replace(told, affinity=4), asked=6).amount == 6
    slots = snapshot(affinity=2, LOCAL_CPUS="8")
    assert limits.cores(slots).amount == 8, "slots are more than cores on purpose"


def test_threads_that_fill_the_job_but_not_the_affinity_are_a_warning() -> None:
    """A batch system that binds a job to fewer CPUs than it says is worth a word."""
    machine = snapshot(affinity=2, SLURM_CPUS_ON_NODE="8")
    plan = limits.plan(options(nworkers=8, nthreads=1), machine)
    assert plan.notes == (
        "8 workers x 1 threads = 8 threads on 2 cores (the affinity of this process)",
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"nthreads": 1}, 8),
        ({"nthreads": 2, "nworkers": 2}, 2),
        ({"nthreads": 3, "nworkers": 2}, 1),
        ({"nworkers": 2}, 1),
    ],
)
def test_numpys_libraries_fill_the_cores_that_threads_leave(
    wanted: dict[str, int], expected: int
) -> None:
    """One thread each where workers' threads fill the cores."""
    assert limits.library_threads(options(**wanted), snapshot()) == expected


def test_a_job_with_gpus_has_one_worker_for_each() -> None:
    """Cores and memory are divided among them; a number of workers that is given stays."""
    machine = snapshot((8 * GIB,), CUDA_VISIBLE_DEVICES="2,3")
    plan = limits.plan(options(gpus=2), machine)
    assert (plan.layout.workers, plan.layout.threads) == (2, 4)
    assert plan.layout.memory == limits.for_workers(8 * GIB, 2)
    assert limits.plan(options(gpus="auto", nworkers=4), machine).layout.workers == 4
    assert limits.plan(options(), machine).gpus is None


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
