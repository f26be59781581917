"""Where scratch goes, and whether workers spill there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node import spilling, storage
from dask_hpc.node.filesystems import FileSystem, Kind
from dask_hpc.node.storage import AUTO, NEVER, ROOM, Candidate, Choice, Look

DISK = FileSystem("xfs", Kind.DISK)
MEMORY = FileSystem("tmpfs", Kind.MEMORY)
NETWORK = FileSystem("lustre", Kind.NETWORK)
UNKNOWN = FileSystem("nextfs", Kind.UNKNOWN)
SLURM = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "4"}


def look(system: FileSystem, *, source: str = "TMPDIR", free: int = 10 * ROOM, **more: Any) -> Look:
    candidate = Candidate(f"/{system.type}", source)
    return Look(candidate=candidate, system=system, free=free, **more)


def paths(**environ: str) -> list[tuple[str, str]]:
    found = storage.candidates(SLURM | environ)
    return [(each.path, each.source) for each in found]


def test_candidates_come_in_the_order_of_who_knows_best() -> None:
    """The user, the batch system, the site, the environment, the system; each path once."""
    environ = SLURM | {"SLURM_TMPDIR": "/job", "TMPDIR": "/env", "USER": "me"}
    found = storage.candidates(
        environ, policy="/spill", given="/mine/", configured="/conf", site="/site"
    )
    assert [each.path for each in found] == [
        *("/spill", "/mine", "/conf", "/job", "/site", "/env", "/tmp")
    ]
    assert [each.may_make for each in found] == [True, True, True, False, True, False, False]
    assert paths(TMPDIR="/tmp", SLURM_TMPDIR="") == [("/tmp", "TMPDIR")]


def test_relative_directories_of_the_environment_are_no_candidates() -> None:
    """They would be somewhere else for each process."""
    assert paths(TMPDIR="tmp", SLURM_TMPDIR="x") == [("/tmp", "the system")]


def test_what_only_another_batch_systems_jobs_have_does_not_count() -> None:
    """SLURM_TMPDIR of a shell that a job of another system inherited."""
    assert storage.candidates({"SLURM_TMPDIR": "/job"})[0].path == "/tmp"


def test_workers_spill_to_the_first_disk_with_room() -> None:
    """Wherever it is among the candidates."""
    nearly_full = look(DISK, free=ROOM - 1)
    disk = look(DISK, source="the system")
    choice = storage.choose([look(NETWORK), look(MEMORY), nearly_full, disk], AUTO)
    assert (choice.look, choice.spill, choice.warnings) == (disk, True, ())


@pytest.mark.parametrize(
    ("looks", "chosen", "word"),
    [
        ([look(NETWORK), look(MEMORY)], 1, "memory too"),
        ([look(NETWORK), look(UNKNOWN)], 1, "no disk of this node"),
        ([look(NETWORK), look(NETWORK)], 0, "no disk of this node"),
        ([look(MEMORY), look(DISK, free=ROOM // 2)], 1, "0.5 GiB free is too little"),
        ([look(MEMORY), look(DISK, short="your quota")], 1, "your quota"),
        ([look(DISK, problem="read-only"), look(MEMORY)], 1, "memory too"),
    ],
)
def test_without_a_disk_scratch_goes_where_it_does_the_least_harm(
    looks: list[Look], chosen: int, word: str
) -> None:
    """And nobody spills there."""
    choice = storage.choose(looks, AUTO)
    assert choice.look is looks[chosen]
    assert not choice.spill
    assert word in choice.why


@pytest.mark.parametrize("system", [MEMORY, NETWORK, UNKNOWN])
def test_the_users_directory_is_used_whatever_it_is_but_spilled_into_only_if_it_is_a_disk(
    system: FileSystem,
) -> None:
    """`--local-directory` says where scratch goes, not that a shared disk is to be flooded."""
    mine, disk = look(system, source="--local-directory"), look(DISK)
    assert storage.settled([mine], AUTO)
    choice = storage.choose([mine, disk], AUTO)
    assert (choice.look, choice.spill) == (mine, False)
    local = look(DISK, source="--local-directory")
    assert storage.choose([local], AUTO).spill


def test_a_directory_of_the_users_that_cannot_be_used_is_a_warning() -> None:
    """The job goes on elsewhere."""
    mine = look(DISK, source="--local-directory", problem="read-only")
    disk = look(DISK)
    choice = storage.choose([mine, disk], AUTO)
    assert choice.look is disk
    assert "read-only" in choice.warnings[0]


def test_never_is_never() -> None:
    """On a disk as well."""
    choice = storage.choose([look(DISK)], NEVER)
    assert not choice.spill
    assert spilling.settings(choice, {"target": 0.5}, workers=1, forced=True) == {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": 0.80,
        "distributed.worker.memory.terminate": 0.95,
    }


@pytest.mark.parametrize(
    ("system", "free", "warned"),
    [(DISK, 2 * ROOM, False), (DISK, 1, True), (NETWORK, 2 * ROOM, True), (MEMORY, ROOM, True)],
)
def test_a_directory_to_spill_into_is_spilled_into_with_a_warning_if_it_is_no_disk(
    system: FileSystem, free: int, warned: bool
) -> None:
    """The user said so."""
    there = look(system, source="--spill", free=free)
    assert storage.settled([there], "/x")
    choice = storage.choose([there], "/x")
    assert (choice.look, choice.spill, bool(choice.warnings)) == (there, True, warned)


def test_a_directory_to_spill_into_that_cannot_be_used_is_an_error() -> None:
    """Nothing else was meant."""
    with pytest.raises(NodeError, match="read-only"):
        storage.choose([look(DISK, source="--spill", problem="read-only")], "/x")


def test_a_node_without_any_usable_directory_says_why_of_each() -> None:
    """The engine cannot do without one."""
    looks = [look(DISK, problem="read-only"), look(NETWORK, problem="no answer")]
    with pytest.raises(NodeError, match=r"read-only.*no answer"):
        storage.choose(looks, AUTO)


SECTION = "distributed.worker.memory"


def chosen(*, spill: bool) -> Choice:
    return Choice(look=look(DISK if spill else NETWORK), spill=spill, why="")


def test_with_a_disk_the_engines_fractions_stay_and_the_disk_is_not_filled() -> None:
    """Nine tenths of what is free, divided among the workers."""
    settings = spilling.settings(chosen(spill=True), {}, workers=3)
    assert settings == {f"{SECTION}.max-spill": int(10 * ROOM * 0.9) // 3}
    assert spilling.settings(chosen(spill=True), {"max-spill": "5 GB"}, workers=3) == {}


@pytest.mark.parametrize(
    ("own", "ours", "spills"),
    [
        ({}, {"target", "spill", "pause", "terminate"}, False),
        ({"pause": 0.7}, {"target", "spill", "terminate"}, False),
        ({"target": 0.5}, {"pause", "terminate"}, True),
        ({"spill": 0.7, "target": False}, {"pause", "terminate"}, True),
        ({"spill": False}, {"target", "pause", "terminate"}, False),
        ({"target": False, "spill": False, "pause": False, "terminate": 0.99}, set(), False),
    ],
)
def test_what_the_user_set_stays(own: dict[str, Any], ours: set[str], spills: bool) -> None:
    """Whether that spills to a network or not; if so, it is said."""
    settings = spilling.settings(chosen(spill=False), own, workers=1)
    assert set(settings) == {f"{SECTION}.{name}" for name in ours}
    effective = spilling.with_own(chosen(spill=False), own)
    assert (effective.spill, bool(effective.warnings)) == (spills, spills)


def test_who_turned_spilling_off_has_it_off_on_a_disk() -> None:
    """And reads why in the log."""
    effective = spilling.with_own(chosen(spill=True), {"target": False, "spill": False})
    assert not effective.spill
    assert "target: False" in effective.why
    assert spilling.with_own(chosen(spill=True), {"target": False}).spill


_LOOKS = st.lists(
    st.builds(
        look,
        st.sampled_from([DISK, MEMORY, NETWORK, UNKNOWN]),
        source=st.sampled_from(["--local-directory", "SLURM_TMPDIR", "the site", "TMPDIR"]),
        free=st.integers(0, 4 * ROOM),
        problem=st.sampled_from(["", "", "read-only"]),
        short=st.sampled_from(["", "", "your quota"]),
    ),
    min_size=1,
)


@given(_LOOKS)
def test_nothing_but_a_disk_is_ever_spilled_into_unasked(looks: list[Look]) -> None:
    """Whatever was seen; and what is settled early is what all candidates would have given."""
    try:
        choice = storage.choose(looks, AUTO)
    except NodeError:
        assert all(each.problem for each in looks)
        return
    assert not choice.look.problem
    if choice.spill:
        assert choice.look.kind is Kind.DISK
        assert choice.look.free >= ROOM
    given_first = sorted(looks, key=lambda each: each.candidate.source != "--local-directory")
    for count in range(1, len(looks) + 1):
        if storage.settled(given_first[:count], AUTO):
            early = storage.choose(given_first[:count], AUTO)
            assert early.look == storage.choose(given_first, AUTO).look
            break


def test_a_policy_is_a_word_or_an_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are those of the job."""
    monkeypatch.setenv("JOBDIR", "/scratch/7")
    assert storage.check_policy("auto") == AUTO
    assert storage.check_policy("$JOBDIR/x") == "/scratch/7/x"
    for text in ("sometimes", "", "a/b", "$NOSUCHVARIABLE/x"):
        with pytest.raises(ConfigurationError, match="neither auto nor never"):
            storage.check_policy(text)


def test_the_line_says_where_what_how_much_and_why() -> None:
    """For who reads the job's log."""
    choice = storage.choose([look(NETWORK), look(MEMORY)], AUTO)
    assert str(choice) == (
        "scratch in /tmpfs (TMPDIR: tmpfs: memory, 10.0 GiB free): workers do not spill, and pause"
        " when their memory is full (that is memory too); looked at: /lustre (TMPDIR: lustre:"
        " network, 10.0 GiB free)"
    )
    assert choice.about("/d")["kind"] == "memory"
