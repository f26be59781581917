"""A user's identity in the real engine: plain dask connects, strangers do not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dask.config
import pytest
from distributed import Client, Scheduler, Worker

from dask_hpc.cluster import certificates, dask_config, security
from dask_hpc.launch import rendezvous

PLAIN_CLIENT = """
import sys
from dask.distributed import Client
with Client(scheduler_file=sys.argv[1], timeout=20, set_as_default=False) as client:
    print(client.scheduler.address)
assert not any(name.startswith("dask_hpc") for name in sys.modules)
"""
PLAIN_CLUSTER = """
from dask.distributed import Client, LocalCluster
with LocalCluster(n_workers=1, processes=False, protocol=None, dashboard_address=":0") as local:
    print(local.scheduler_address)
with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
    with Client(cluster) as client:
        print(cluster.scheduler_address, client.submit(sum, [1, 2]).result())
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user: a home, an identity in it, a dask configuration of their own."""
    for name in [name for name in os.environ if name.startswith("DASK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(dask.config, "PATH", str(tmp_path / ".config" / "dask"))
    with untouched_config():
        yield tmp_path


def untouched_config():
    roles = [
        f"{role}.{part}" for role in ("scheduler", "worker", "client") for part in ("cert", "key")
    ]
    return dask.config.set({f"distributed.comm.tls.{key}": None for key in ("ca-file", *roles)})


@asynccontextmanager
async def cluster_of(tls, home: Path):
    """A real scheduler with the identity, and its scheduler file."""
    path = home / "scheduler.json"
    async with Scheduler(
        protocol="tls",
        host="127.0.0.1",
        port=0,
        dashboard_address=":0",
        dashboard=False,
        security=security.engine_security(tls),
    ) as scheduler:
        rendezvous.write(path, scheduler.identity(), cluster="test", owner="ada", tls=tls)
        yield scheduler, path


async def python(code: str, *arguments: object) -> str:
    """Run a program in a fresh process while this one's event loop serves it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *map(str, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    output, errors = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def connects(address: str, **keywords) -> bool:
    """Whether a client reaches a scheduler; a refusal is quick, whatever its error."""
    client = Client(address, asynchronous=True, timeout=2, set_as_default=False, **keywords)
    try:
        await client
    except OSError:
        return False
    finally:
        await client.close()
    return True


class TestPlainDask:
    async def test_a_plain_client_connects_with_the_scheduler_file_alone(self, home):
        """A fresh process that never imports dask-hpc speaks TLS: the yaml names the files."""
        tls = security.ensure_identity()
        assert dask_config.name_in_dask_config(tls) is not None
        async with cluster_of(tls, home) as (scheduler, path):
            assert (await python(PLAIN_CLIENT, path)).strip() == scheduler.address
            assert scheduler.address.startswith("tls://")

    async def test_this_process_connects_at_once(self, home):
        """No new process is needed after the first use."""
        tls = security.ensure_identity()
        dask_config.name_in_dask_config(tls)
        async with (
            cluster_of(tls, home) as (scheduler, path),
            Client(scheduler_file=path, asynchronous=True, set_as_default=False) as client,
        ):
            assert client.scheduler.address == scheduler.address

    async def test_a_local_cluster_is_as_before(self, home):
        """With the yaml present, plain dask on one machine uses tcp and computes."""
        dask_config.name_in_dask_config(security.ensure_identity())
        threads, processes = (await python(PLAIN_CLUSTER)).splitlines()
        assert threads.startswith("inproc://")
        assert processes.startswith("tcp://")
        assert processes.endswith(" 3")


class TestStrangers:
    async def test_another_users_identity_is_refused(self, home, monkeypatch):
        """A certificate of another authority, made by the same program, opens nothing."""
        ours = security.ensure_identity()
        monkeypatch.setenv("DASK_HPC_HOME", str(home / "stranger"))
        stranger = security.engine_security(security.ensure_identity())
        async with cluster_of(ours, home) as (scheduler, _):
            assert not await connects(scheduler.address, security=stranger)
            assert await connects(scheduler.address, security=security.engine_security(ours))

    async def test_a_client_without_tls_is_refused(self, home):
        """Plain tcp reaches nothing."""
        async with cluster_of(security.ensure_identity(), home) as (scheduler, _):
            assert not await connects(scheduler.address.replace("tls://", "tcp://"))

    async def test_our_client_refuses_a_scheduler_without_tls(self, home):
        """Encryption is required at both ends."""
        ours = security.engine_security(security.ensure_identity())
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard_address=":0", dashboard=False
        ) as scheduler:
            with pytest.raises(RuntimeError, match="encryption"):
                await connects(scheduler.address, security=ours)


class TestRenewal:
    async def test_a_running_cluster_accepts_a_renewed_certificate(self, home):
        """Scheduler and worker from before, client and worker from after: one cluster."""
        tls = security.ensure_identity(datetime.now(UTC) - timedelta(days=340))
        old = security.engine_security(tls)
        async with (
            cluster_of(tls, home) as (scheduler, _),
            Worker(scheduler.address, security=old, dashboard=False),
        ):
            before = end_of(tls)
            assert security.ensure_identity() == tls
            assert end_of(tls) > before
            new = security.engine_security(tls)
            async with (
                Worker(scheduler.address, security=new, dashboard=False, name="new"),
                Client(
                    scheduler.address, asynchronous=True, security=new, set_as_default=False
                ) as client,
            ):
                parts = client.map(abs, [-1, -2])
                assert await client.submit(sum, parts, workers=["new"]) == 3


def end_of(tls) -> datetime:
    return certificates.from_pem(Path(tls.cert).read_bytes()).not_valid_after_utc
