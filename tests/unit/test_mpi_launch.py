"""How the nodes of a launch learn of each other: decisions, and the identity's way."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cli.mpi import mpi
from dask_hpc.cluster.mpi import launch as mpi_launch
from dask_hpc.cluster.mpi.launch import Launch
from dask_hpc.cluster.mpi.options import LaunchOptions, parse_worker_options
from dask_hpc.cluster.mpi.program import orders_for
from dask_hpc.errors import ConfigurationError
from dask_hpc.launch import meeting, world
from dask_hpc.launch.meeting import Member
from dask_hpc.launch.pair import WrongPair
from dask_hpc.launch.rank import Rank

HYDRA = Rank("MPICH's mpirun", 0, 4, 0, 2, "", "PMI_RANK")
SRUN = Rank("srun", 0, 4, 0, 2, "1.0", "SLURM_PROCID")
ONE_NODE = HYDRA._replace(local_size=4)


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_up(told: Rank | None, error: Exception | None = None) -> None:
        def load() -> str:
            if isinstance(error, world.MPIMissing):
                raise error
            return "mpi4py.MPI"

        def check(*_: Any) -> None:
            if error is not None:
                raise error

        monkeypatch.setattr(mpi_launch.ranks, "read", lambda _: told)
        monkeypatch.setattr(mpi_launch.meeting, "launcher_process", lambda _: 4711)
        monkeypatch.setattr(mpi_launch.world, "load", load)
        monkeypatch.setattr(mpi_launch.world, "check_before", check)
        monkeypatch.setattr(Launch, "_by_mpi", lambda self, mpi: setattr(self, "by", mpi))

    return set_up


def way(*arguments: str) -> str:
    launch = Launch(arguments)
    return "MPI" if hasattr(launch, "by") else "environment"


MISSING = world.MPIMissing("mpi4py is not installed", hint="pip install mpi4py")
WRONG = WrongPair("the launcher and the MPI library do not fit")


@pytest.mark.parametrize(
    ("told", "error", "arguments", "expected"),
    [
        (ONE_NODE, None, (), "environment"),
        (ONE_NODE, MISSING, (), "environment"),
        (HYDRA, None, ("--scheduler-file", "f"), "MPI"),
        (HYDRA, None, ("--no-mpi", "--scheduler-file", "f"), "environment"),
        (HYDRA, MISSING, ("--scheduler-file=f",), "environment"),
        (SRUN, MISSING, ("--scheduler-file", "f"), "environment"),
        (SRUN, WRONG, ("--scheduler-file", "f"), "environment"),
        (SRUN, None, (), "MPI"),
        (HYDRA._replace(local_rank=None, local_size=None), None, (), "MPI"),
        (None, MISSING, (), "environment"),
        (None, None, (), "MPI"),
    ],
)
def test_mpi_is_used_where_nodes_must_tell_each_other_something(
    launcher: Any,
    told: Rank | None,
    error: Exception | None,
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    """Not on one node, and not where the launcher's environment and a file do."""
    launcher(told, error)
    assert way(*arguments) == expected


@pytest.mark.parametrize(
    ("told", "error", "arguments"),
    [
        (HYDRA, MISSING, ()),
        (SRUN, MISSING, ()),
        (SRUN, WRONG, ()),
        (HYDRA, WRONG, ("--scheduler-file", "f")),
    ],
)
def test_a_launch_that_cannot_meet_is_refused(
    launcher: Any, told: Rank, error: Exception, arguments: tuple[str, ...]
) -> None:
    """A wrong mpirun even with a file: the program would stumble over it later."""
    launcher(told, error)
    with pytest.raises(type(error)):
        Launch(arguments)


class Threads:
    """MPI among threads."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=10)
        self.values: list[Any] = [None] * size
        self.sent: dict[int, Any] = {}
        self.came = threading.Event()


class World:
    """What a launch needs of :class:`dask_hpc.launch.world.World`."""

    def __init__(self, shared: Threads, rank: int) -> None:
        self._shared, self._rank = shared, rank

    def everyone(self, mine: Any) -> list[Any]:
        self._shared.values[self._rank] = mine
        self._shared.barrier.wait()
        found = list(self._shared.values)
        self._shared.barrier.wait()
        return found

    def send(self, value: Any, to: int) -> None:
        self._shared.sent[to] = value
        self._shared.came.set()

    def receive(self, source: int) -> Any:
        del source
        assert self._shared.came.wait(10)
        return self._shared.sent[self._rank]


def node(shared: Threads, rank: int, *, leads: bool) -> Launch:
    launch = Launch.__new__(Launch)
    launch.world = World(shared, rank)  # type: ignore[assignment]
    launch.rank, launch.leads, launch.is_client = rank, leads, False
    launch._place = launch._copies = None
    return launch


def identity(folder: Path) -> list[str]:
    folder.mkdir()
    paths = [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
    for path in paths:
        path.write_text(f"content of {path.name}")
    return [str(path) for path in paths]


@pytest.mark.parametrize("shared_home", [True, False])
def test_the_private_key_travels_only_to_nodes_that_do_not_see_it(
    shared_home: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And lies there in a directory of our own, until the launch ends."""
    files = identity(tmp_path / "tls")
    shared = Threads(3)
    launches = [node(shared, rank, leads=rank != 2) for rank in range(3)]
    real, elsewhere = mpi_launch._read_public, threading.local()

    def read(paths: Any) -> Any:
        return [] if getattr(elsewhere, "node", False) and not shared_home else real(paths)

    monkeypatch.setattr(mpi_launch, "_read_public", read)
    found: dict[int, Any] = {}

    def run(rank: int) -> None:
        elsewhere.node = rank != 0
        mine = {"address": "tls://10.0.0.1:1", "tls": files} if rank == 0 else None
        told, code = launches[rank].exchange(mine, 0)
        found[rank] = (code, launches[rank].share_identity(told))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert {code for code, _ in found.values()} == {0}
    assert found[0][1] == found[2][1] == files
    assert set(shared.sent) == (set() if shared_home else {1})
    if not shared_home:
        copies = [Path(path) for path in found[1][1]]
        assert [path.read_text() for path in copies] == [Path(f).read_text() for f in files]
        assert {stat.S_IMODE(path.stat().st_mode) for path in copies} == {0o600}
        assert stat.S_IMODE(copies[0].parent.stat().st_mode) == 0o700
        launches[1].dismiss(0)
        assert not copies[0].parent.exists()


def test_a_leader_that_fails_at_once_is_still_found(launcher: Any) -> None:
    """A wrong option is known before the other ranks have come: they get its code, and end."""
    launcher(HYDRA._replace(size=2, local_size=2))
    leader = Launch(["--no-mpi"])
    leader.prepare()
    came: list[int] = []

    def follow() -> None:
        came.append(meeting.wait(meeting.join(leader._token, meeting.myself(1))))

    late = threading.Timer(0.3, follow)
    late.start()
    leader.dismiss(78)
    leader.dismiss(78)  # as at the end of every launch
    late.join(20)
    assert came == [78]


def test_orders_hold_what_differs_between_ranks() -> None:
    """A launcher may give each its own GPU and its own cores."""
    members = [
        Member(4, frozenset({0, 1}), {b"HOME": b"/h", b"CUDA_VISIBLE_DEVICES": b"0"}),
        Member(5, frozenset({2, 3}), {b"HOME": b"/h", b"CUDA_VISIBLE_DEVICES": b"1", b"X": b"y"}),
    ]
    orders = orders_for(members, {5}, name="w", scheduler=None, workers={"nthreads": 2})
    assert orders["here"] == [4, 5]
    assert orders["cpus"] == [[0, 1], [2, 3]]
    assert orders["ranks"] == [
        {
            "rank": 5,
            "name": "w-5",
            "cpus": [2, 3],
            "environ": {"CUDA_VISIBLE_DEVICES": "1", "X": "y"},
        }
    ]
    (by_rank,) = orders_for(members, {5}, name=None, scheduler=None, workers={})["ranks"]
    assert by_rank["name"] == 5


def test_orders_follow_the_size_of_the_launch() -> None:
    """The node's place, so that all do not knock at once, and patience for so many; a word wins."""
    members = [Member(rank, frozenset({rank}), {}) for rank in (8, 9)]
    given = read_command("--scheduler-file", "f").worker_fields()
    orders = orders_for(members, set(range(2000)), name=None, scheduler=None, workers=given)
    assert orders["workers_in_all"] == 2000
    assert orders["workers"]["position"] == 4
    assert orders["workers"]["death_timeout"] == 60 + 2000 * 0.012
    given = read_command("--scheduler-file", "f", "--death-timeout", "5 min").worker_fields()
    orders = orders_for(members, {8, 9}, name=None, scheduler=None, workers=given)
    assert orders["workers"]["death_timeout"] == 300


def read_command(*words: str) -> LaunchOptions:
    read: LaunchOptions = mpi.main(list(words), standalone_mode=False)
    return read


@pytest.mark.parametrize("protocol", ["tcp", "ws"])
def test_a_protocol_without_encryption_must_be_asked_for(protocol: str) -> None:
    """By one more word."""
    with pytest.raises(ConfigurationError, match="neither encryption nor authentication"):
        LaunchOptions(protocol=protocol)
    LaunchOptions(protocol=protocol, insecure=True)


def test_the_engines_own_worker_classes_are_no_class_of_the_users() -> None:
    """With a nanny, both are what every worker is."""
    for name in ("distributed.Worker", "distributed.Nanny"):
        fields = LaunchOptions(workers={"worker_class": name, "nthreads": None}).worker_fields()
        assert fields == {"interface": None, "protocol": None, "insecure": False}


def test_worker_options_are_a_json_object() -> None:
    """As dask-mpi has them."""
    assert parse_worker_options(None) == {}
    assert parse_worker_options('{"resources": {"GPU": 1}}') == {"resources": {"GPU": 1}}
    for text in ("{", "[1]"):
        with pytest.raises(ConfigurationError, match="--worker-options is no JSON"):
            parse_worker_options(text)
