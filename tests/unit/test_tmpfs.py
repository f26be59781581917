"""Files in memory count as memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_hpc.node import tmpfs

NONE = "9223372036854771712\n"
GIB = 1 << 30


def test_the_group_with_the_smallest_limit_is_the_jobs() -> None:
    """Of equal ones the outermost: a batch system gives a job and its steps the same."""
    root = "/sys/fs/cgroup/memory"
    limits = {
        f"{root}/slurm/uid_1/job_2/step_0": f"{GIB}\n",
        f"{root}/slurm/uid_1/job_2": f"{GIB}\n",
        f"{root}/slurm/uid_1": f"{4 * GIB}\n",
        f"{root}/slurm": NONE,
    }
    assert tmpfs.group_of(limits) == f"{root}/slurm/uid_1/job_2"
    assert tmpfs.group_of({root: NONE, "/x": "", "/y": "max\n"}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache 1\nshmem 4096\ntotal_cache 9\ntotal_shmem 8192\n", 8192),  # version 1
        ("anon 1\nfile 2\nshmem 4096\n", 4096),  # version 2
        ("", 0),
        ("shmem lots\n", 0),
    ],
)
def test_both_versions_of_control_groups_tell(text: str, expected: int) -> None:
    """With the groups below."""
    assert tmpfs.shmem(text) == expected


def test_without_a_group_the_jobs_own_scratch_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others have in the same file system is theirs."""
    monkeypatch.setattr(tmpfs, "own_groups", lambda controller: None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x" * 100_000)
    read = tmpfs.reader(str(tmp_path))
    assert 100_000 <= read() < 120_000


def test_a_worker_counts_its_part_and_looks_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is looked at five times a second."""
    now = [0.0]
    monkeypatch.setattr(tmpfs.time, "monotonic", lambda: now[0])
    values = iter([900, 1200])
    share = tmpfs.Share(lambda: next(values), 3)
    assert [share(), share()] == [300, 300]
    now[0] = 1.0
    assert share() == 400
