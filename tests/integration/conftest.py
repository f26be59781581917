"""Fixtures of the tests with a whole cluster, and of those with a scheduler and a supervisor."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import dask.config
import psutil
import pytest
from distributed import Scheduler, Security

from dask_hpc.config.reader import defaults
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import head
from dask_hpc.node.environment import DEFAULTS
from tests.integration.account import Account
from tests.integration.supervised import Supervisor

TLS_KEYS = ["ca-file"] + [
    f"{role}.{part}" for role in ("scheduler", "worker", "client") for part in ("cert", "key")
]

#: No identity, whatever the configuration of who runs the tests says.
PLAIN: dict[str, object] = {f"distributed.comm.tls.{key}": None for key in TLS_KEYS}


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A user who has never used dask: home, configuration and batch system of their own."""
    with new_account(tmp_path, monkeypatch) as made:
        yield made


@contextlib.contextmanager
def new_account(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Make one; a module whose tests share a cluster calls it itself."""
    for name in [name for name in os.environ if name.startswith("DASK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("DASK_HPC_HOME", str(path / "hpc"))
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "4")
    monkeypatch.setattr(dask.config, "PATH", str(path / ".config" / "dask"))
    defaults()
    before = copy.deepcopy(dask.config.config)  # a cluster names its identity in it
    dask.config.set({f"distributed.comm.tls.{key}": None for key in TLS_KEYS})
    account = Account(path)
    try:
        yield account
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)
        account.kill_everything()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    directory = tmp_path_factory.mktemp("tls")
    made = Security.temporary()
    contents = (made.tls_ca_file, made.tls_scheduler_cert, made.tls_scheduler_key)
    paths = [directory / name for name in ("ca.pem", "cert.pem", "key.pem")]
    for path, content in zip(paths, contents, strict=True):
        path.touch(mode=0o600)
        path.write_text(content)
    return TLSFiles(*map(str, paths))


@pytest.fixture
def security(tls: TLSFiles) -> Security:
    return head.security_for(tls, insecure=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.json"


@pytest.fixture
async def scheduler(file: Path, tls: TLSFiles, security: Security) -> AsyncIterator[Scheduler]:
    options: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    async with Scheduler(security=security, host="127.0.0.1", port=0, **options) as running_one:
        rendezvous.write(file, running_one.identity(), cluster="c", owner="o", tls=tls)
        yield running_one


@pytest.fixture
def start(tmp_path: Path, file: Path) -> Iterator[Callable[..., Supervisor]]:
    started: list[Supervisor] = []

    def start(*arguments: str, code: str = "", **environ: str) -> Supervisor:
        log = tmp_path / f"log-{len(started)}"
        program = ["-c", code] if code else ["-m", "dask_hpc"]
        command = [sys.executable, *program, "worker", "--scheduler-file", str(file), *arguments]
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        environ = {**os.environ, **DEFAULTS, "TMPDIR": str(scratch), **environ}
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, env=environ, text=True
            )
        started.append(Supervisor(process, log))
        return started[-1]

    yield start
    for supervisor in started:
        tree = supervisor.tree()
        supervisor.process.kill()
        supervisor.process.wait()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
