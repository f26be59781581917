"""The ranks of a node meet over a Unix socket: in threads here, in processes in tests/site."""

from __future__ import annotations

import os
import secrets
import socket
import threading

import pytest

from dask_hpc.errors import NodeError
from dask_hpc.launch import meeting
from dask_hpc.launch.meeting import Member, Place


@pytest.fixture
def token() -> str:
    return secrets.token_hex(8)


def member(rank: int) -> Member:
    return Member(rank, frozenset({rank}), {b"A": b"1=2", b"RANK": str(rank).encode()})


def test_members_arrive_whole_and_wait_for_their_code(token: str) -> None:
    """Whatever their order; an environment may hold anything but NUL."""
    codes: list[int] = []

    def follow(rank: int) -> None:
        codes.append(meeting.wait(meeting.join(token, member(rank))))

    followers = [threading.Thread(target=follow, args=(rank,)) for rank in (3, 1, 2)]
    for each in followers:
        each.start()  # before the leader is there
    place = Place(token)
    assert place.receive(3, patience=10) == [member(1), member(2), member(3)]
    place.dismiss(7)
    for each in followers:
        each.join(10)
    assert codes == [7, 7, 7]


def test_a_leader_that_dies_ends_those_who_wait(token: str) -> None:
    """They must not hold the node."""
    place = Place(token)
    connection = meeting.join(token, member(1))
    place.receive(1, patience=10)
    for each in place._waiting:
        each.close()  # as the kernel does with a dead process's sockets
    assert meeting.wait(connection) == 1


def test_who_does_not_come_is_counted(token: str) -> None:
    """And who came is named."""
    place = Place(token)
    connection = meeting.join(token, member(4))
    with pytest.raises(NodeError, match=r"1 of 3 ranks .* did not come .*\[4\]"):
        place.receive(2, patience=0.2)
    connection.close()
    place.close()


def test_no_leader_is_an_error(token: str) -> None:
    """In time."""
    with pytest.raises(NodeError, match="rank 1 finds no leader"):
        meeting.join(token, member(1), patience=0.1)


def test_a_place_that_is_taken_is_an_error(token: str) -> None:
    """Two launches must not mix."""
    place = Place(token)
    with pytest.raises(NodeError, match="cannot meet"):
        Place(token)
    place.close()


def test_another_users_place_gets_nothing(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments may hold secrets."""
    place = Place(token)
    monkeypatch.setattr(meeting, "_is_mine", lambda _: False)
    with pytest.raises(NodeError, match="another user"):
        meeting.join(token, member(1), patience=1)
    place.close()


def test_the_launchers_line_is_kept_by_the_leader(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPICH's launcher would spin if a rank hung up."""
    ours, launchers = socket.socketpair()
    monkeypatch.setenv("PMI_FD", str(ours.fileno()))
    place = Place(token)
    connection = meeting.join(token, member(1))
    place.receive(1, patience=10)
    ours.close()  # the rank has left
    launchers.setblocking(False)
    with pytest.raises(BlockingIOError):  # and its launcher sees no end
        launchers.recv(1)
    place.dismiss(0)
    connection.close()
    launchers.close()


def test_the_launcher_is_the_first_ancestor_that_is_no_rank() -> None:
    """Here: our parent, since no process has such a variable."""
    assert meeting.launcher_process("DASK_HPC_NO_SUCH_VARIABLE") == os.getppid()


def test_i_am_described_without_what_is_my_processs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor's number means nothing elsewhere."""
    monkeypatch.setenv("PMI_FD", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    found = meeting.myself(3)
    assert (found.rank, found.cpus) == (3, frozenset(os.sched_getaffinity(0)))
    assert b"PMI_FD" not in found.environ
    assert found.environ[b"CUDA_VISIBLE_DEVICES"] == b"2"
