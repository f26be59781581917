"""What control groups of both versions grant, from the text of the kernel's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from dask_hpc.node.cgroups import Groups, cpu_quota, groups_of, memory_limits
from dask_hpc.node.kernel import read_file

#: Of a job as Slurm 22.05 makes it on version 1.
SLURM_V1 = """\
9:name=systemd:/
4:memory:/slurm/uid_2001/job_7/step_batch/task_0
2:cpuacct:/
1:cpu,cpuacct:/
0::/
"""
#: Of a job on version 2, as Slurm's guide to it describes the tree; not seen live.
SLURM_V2 = "0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0\n"
NO_LIMIT = "9223372036854771712"


def files(contents: Mapping[str, str]) -> Callable[[str], str]:
    return lambda path: contents.get(path, "")


def test_a_process_is_in_its_own_group_and_all_above_it() -> None:
    """A limit on a job's parent group bounds the job."""
    assert groups_of(SLURM_V1, "memory") == Groups(
        1,
        (
            "/sys/fs/cgroup/memory/slurm/uid_2001/job_7/step_batch/task_0",
            "/sys/fs/cgroup/memory/slurm/uid_2001/job_7/step_batch",
            "/sys/fs/cgroup/memory/slurm/uid_2001/job_7",
            "/sys/fs/cgroup/memory/slurm/uid_2001",
            "/sys/fs/cgroup/memory/slurm",
            "/sys/fs/cgroup/memory",
        ),
    )
    assert groups_of(SLURM_V1, "cpu") == Groups(1, ("/sys/fs/cgroup/cpu",))
    assert groups_of(SLURM_V1, "pids") == Groups(2, ("/sys/fs/cgroup",))
    v2 = groups_of(SLURM_V2, "memory")
    assert v2 is not None
    assert (
        v2.directories[0]
        == "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0"
    )
    assert v2.directories[-1] == "/sys/fs/cgroup"
    assert groups_of("", "memory") is None


def test_a_container_sees_a_part_of_the_tree_under_the_same_paths() -> None:
    """/proc/self/mountinfo tells which; the mount that came last hides the others."""
    text = "4:memory:/docker/1f/job_7\n0::/docker/1f/job_7\n"
    mounts = (
        "89 85 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "99 89 0:32 /docker/1f /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "90 85 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "91 85 0:34 / /cgroup2 rw - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    assert groups_of(text, "memory", mounts) == Groups(
        1, ("/sys/fs/cgroup/memory/job_7", "/sys/fs/cgroup/memory")
    )
    assert groups_of("4:memory:/\n", "memory", mounts) == Groups(1, ("/sys/fs/cgroup/memory",))
    assert groups_of("5:cpuacct,cpu:/x\n", "cpu", mounts) == Groups(
        1, ("/sys/fs/cgroup/cpu,cpuacct/x", "/sys/fs/cgroup/cpu,cpuacct")
    )
    assert groups_of("0::/x\n", "memory", mounts) == Groups(2, ("/cgroup2/x", "/cgroup2"))


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ("cache 0\nhierarchical_memory_limit 524288000\n", (524288000,)),
        (
            f"hierarchical_memory_limit 524288000\nhierarchical_memsw_limit {NO_LIMIT}\n",
            (524288000,),
        ),
        (f"hierarchical_memory_limit {NO_LIMIT}\nrss 1\n", ()),
        ("rss 1\n", ()),
    ],
)
def test_version_1_tells_the_limit_of_all_ancestors_at_once(
    stat: str, expected: tuple[int, ...]
) -> None:
    """Also of those that a container does not see."""
    groups = groups_of(SLURM_V1, "memory")
    own = "/sys/fs/cgroup/memory/slurm/uid_2001/job_7/step_batch/task_0/memory.stat"
    assert memory_limits(groups, files({own: stat})) == expected
    assert memory_limits(groups, files({"/sys/fs/cgroup/memory/memory.stat": stat})) == expected


def test_version_2_is_read_group_by_group() -> None:
    """memory.high counts as well: above it a process hardly moves."""
    groups = groups_of(SLURM_V2, "memory")
    job = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
    tree = {
        f"{job}/step_batch/user/task_0/memory.max": "max\n",
        f"{job}/step_batch/memory.max": "2147483648\n",
        f"{job}/memory.max": "1073741824\n",
        f"{job}/memory.high": "1000000000\n",
        "/sys/fs/cgroup/system.slice/memory.high": "max\n",
    }
    assert memory_limits(groups, files(tree)) == (2147483648, 1073741824, 1000000000)
    assert memory_limits(None, files(tree)) == ()


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("-1", "100000", None), ("250000", "100000", 2.5), ("50000", "100000", 0.5), ("x", "", None)],
)
def test_a_quota_is_time_per_period(quota: str, period: str, expected: float | None) -> None:
    """The smallest of all groups counts; "-1" and "max" are none."""
    v1 = {
        "/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": f"{quota}\n",
        "/sys/fs/cgroup/cpu/job/cpu.cfs_period_us": f"{period}\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "800000\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota(groups_of("1:cpu:/job", "cpu"), files(v1)) == (expected or 8)
    word = "max" if quota == "-1" else quota
    v2 = {
        "/sys/fs/cgroup/job/cpu.max": f"{word} {period}\n",
        "/sys/fs/cgroup/cpu.max": "max 100000\n",
    }
    assert cpu_quota(groups_of("0::/job", "cpu"), files(v2)) == expected
    assert cpu_quota(None, files(v2)) is None


def test_a_file_that_is_not_there_bounds_nothing() -> None:
    """A container may see none of its groups."""
    assert read_file("/nowhere/memory.max") == ""
