"""Fixtures of the tests with a whole cluster."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest

from dask_hpc.config.reader import defaults
from tests.integration.account import Account

TLS_KEYS = ["ca-file"] + [
    f"{role}.{part}" for role in ("scheduler", "worker", "client") for part in ("cert", "key")
]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A user who has never used dask: home, configuration and batch system of their own."""
    for name in [name for name in os.environ if name.startswith("DASK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "hpc"))
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "4")
    monkeypatch.setattr(dask.config, "PATH", str(tmp_path / ".config" / "dask"))
    defaults()
    before = copy.deepcopy(dask.config.config)  # a cluster names its identity in it
    dask.config.set({f"distributed.comm.tls.{key}": None for key in TLS_KEYS})
    account = Account(tmp_path)
    try:
        yield account
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)
        account.kill_everything()
