"""Which protocols may be used: encryption first, then the package."""

from __future__ import annotations

from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from dask_hpc.errors import ConfigurationError
from dask_hpc.node import protocol


@pytest.mark.parametrize(
    ("wish", "insecure", "found"),
    [
        (None, False, "tls"),
        (None, True, "tcp"),
        ("tls", False, "tls"),
        ("tls://", False, "tls"),
        ("wss", False, "wss"),
        ("tcp", True, "tcp"),
        ("ws://", True, "ws"),
    ],
)
def test_tls_is_used_unless_told_otherwise(wish: str | None, insecure: bool, found: str) -> None:
    """With or without what dask writes behind a protocol."""
    assert protocol.scheme(wish, insecure=insecure) == found


@pytest.mark.parametrize("wish", ["tcp", "ws", "ucx", "ucxx", "ucxx://", "anything"])
def test_what_is_not_encrypted_needs_one_more_word(wish: str) -> None:
    """Whether it is installed or not."""
    with pytest.raises(ConfigurationError, match="neither encryption nor authentication"):
        protocol.scheme(wish, insecure=False)


def test_no_encryption_and_an_encrypted_protocol_contradict_each_other() -> None:
    """Which of them was meant is not guessed."""
    with pytest.raises(ConfigurationError, match="give one of them"):
        protocol.scheme("tls", insecure=True)


@pytest.mark.parametrize("wish", ["ucx", "ucxx"])
def test_a_missing_package_is_named(wish: str) -> None:
    """Before anything starts, and on every host."""
    with pytest.raises(ConfigurationError, match="needs the package distributed-ucxx"):
        protocol.scheme(wish, insecure=True)


def test_an_unknown_protocol_is_refused_with_those_that_are_known() -> None:
    """Also one that would stay inside of a process."""
    for word in ("inproc", "tpc"):
        with pytest.raises(ConfigurationError, match="there are: tcp, tls, ws, wss"):
            protocol.check_installed(word)


def test_what_the_engine_finds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for the same entry point."""
    there = EntryPoint("ucxx", "distributed_ucxx:Backend", "distributed.comm.backends")
    monkeypatch.setattr(metadata, "entry_points", lambda **_: EntryPoints([there]))
    assert protocol.scheme("ucxx", insecure=True) == "ucxx"
    with pytest.raises(ConfigurationError):
        protocol.scheme("ucx", insecure=True)
