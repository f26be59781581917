"""Addresses, probes and protocols of real schedulers and workers, on this machine alone."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest
from distributed import Scheduler

from dask_hpc import connect
from dask_hpc.cluster import listening
from dask_hpc.cluster.dashboard import GuardedScheduler
from dask_hpc.cluster.security import engine_security, ensure_identity
from dask_hpc.errors import ConfigurationError
from dask_hpc.launch import rendezvous
from dask_hpc.node import interface, probe
from dask_hpc.node.fabric import Interface, Kind
from tests.integration.hands import SCHEDULER, WORKER, running, started, there

LOOPBACK = Interface(name="lo", kind=Kind.LOOPBACK, addresses=(ip_address("127.0.0.1"),))
SIXTH = Interface(name="six", addresses=(ip_address("::1"),))
NOWHERE = Interface(name="gone", addresses=(ip_address("192.0.2.77"),))


async def test_a_probe_tells_what_is_reached_from_where() -> None:
    """With TLS and our identity, all at once; what cannot be probed is left out."""
    security = engine_security(ensure_identity())
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"tls://127.0.0.1:{closed.getsockname()[1]}"
        mute = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        options = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        async with Scheduler(security=security, host="127.0.0.1", port=0, **options) as running_one:
            alive = running_one.address
            every = (LOOPBACK, SIXTH, NOWHERE)
            found = await probe.from_each(
                every, [alive, dead, mute, "ucxx://h:1"], security, seconds=0.5
            )
    assert {pair: answer for pair, answer in found.items() if pair[0] == "lo"} == {
        ("lo", alive): probe.REACHED,
        ("lo", dead): "refused",
        ("lo", mute): "no answer in 0.5 s",
    }
    assert found["six", alive] == "no route (IPv4 to IPv6)"
    assert found["gone", alive] not in (probe.REACHED, "refused")
    assert "from lo (127.0.0.1) to tls://" in probe.table(found, every)


async def test_a_scheduler_comes_back_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a port where somebody answers, and not to one where nobody does."""
    monkeypatch.setattr(probe, "BACK", 1.5)
    security = engine_security(ensure_identity())
    options = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "port": 0}
    async with (
        Scheduler(security=security, host="127.0.0.1", **options) as head,
        Scheduler(security=security, host="127.0.0.1", **options) as other,
    ):
        assert await probe.way_back(head.address, other.address, security) is True
        await other.close()
        assert await probe.way_back(head.address, other.address, security) is not True
    assert await probe.way_back(head.address, other.address, security) is not False


async def test_a_scheduler_listens_on_every_candidate_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first is its address; the scheduler file has the others."""
    again = Interface(name="lo2", addresses=(ip_address("127.0.0.2"),))
    monkeypatch.setattr(interface, "read", lambda: (LOOPBACK, again, NOWHERE))
    place = listening.listening("hsn0,lo2,lo", None)
    tls = ensure_identity()
    async with GuardedScheduler(
        protocol="tls", security=engine_security(tls), host=place.host, dashboard=False
    ) as scheduler:
        others = place.other_addresses(scheduler)
        file = tmp_path / "f.json"
        rendezvous.write(file, scheduler.identity(), cluster="c", owner="o", tls=tls, others=others)
        found = rendezvous.read(file)
        security = engine_security(tls)
        answers = await probe.from_each((again,), (found.address, *found.others), security)
    assert found.address.startswith("tls://127.0.0.2:")
    assert [each.rpartition(":")[0] for each in found.others] == ["tls://127.0.0.1"]
    assert set(answers.values()) == {probe.REACHED}


def test_a_scheduler_on_all_addresses_names_those_that_lead_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not loopback, and not what containers have."""
    bridge = Interface(name="docker0", kind=Kind.CONTAINER, addresses=(ip_address("172.17.0.1"),))
    monkeypatch.setattr(interface, "read", lambda: (LOOPBACK, bridge, NOWHERE))
    assert listening.listening(None, None) == listening.Listening(others=("192.0.2.77",))
    monkeypatch.setattr(interface, "read", lambda: (LOOPBACK, SIXTH))
    assert listening.listening(None, None) == listening.Listening(host=["[::1]"])
    assert listening.listening(None, None, local=True).host == "127.0.0.1"
    assert listening.listening("lo", "login1").host == "login1"
    with pytest.raises(ConfigurationError, match=r"cannot listen: .*six \(ethernet, ::1"):
        listening.listening("hsn0", None)


def test_other_addresses_are_not_told_without_tls(tmp_path: Path) -> None:
    """What is one host's address here may be another's there."""
    file = tmp_path / "f.json"
    address = {"address": "tcp://10.0.0.1:1"}
    rendezvous.write(file, address, cluster="c", owner="o", tls=None, others=["tcp://10.1.0.1:1"])
    assert rendezvous.read(file).others == ()


PACKAGE = """
from distributed.comm.tcp import TCPBackend, TCPConnector, TCPListener

class Connector(TCPConnector):
    prefix = "ucxx://"

class Listener(TCPListener):
    prefix = "ucxx://"

class Backend(TCPBackend):
    _connector_class = Connector
    _listener_class = Listener
"""


def test_a_protocol_of_another_package_carries_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the engine's entry point; here one that is TCP by another name."""
    metadata = tmp_path / "stand_in-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[distributed.comm.backends]\nucxx = stand_in:Backend\n"
    )
    (tmp_path / "stand_in.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    environ = {"PYTHONPATH": str(tmp_path)}
    file = tmp_path / "f.json"
    words = ("--scheduler-file", file, "--insecure")
    with (
        running(*SCHEDULER, *words, "--protocol", "ucxx", **environ),
        running(*WORKER, *words, "--memory-limit", "0", **environ) as worker,
    ):
        assert there(file).address.startswith("ucxx://127.0.0.1:")
        started(worker)
        with connect(file, insecure=True, wait=1, timeout=30) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"]
            assert all(address.startswith("ucxx://") for address in workers)
            assert client.submit(sum, [1, 2]).result(timeout=30) == 3


def test_a_node_without_the_heads_protocol_says_so(tmp_path: Path) -> None:
    """Its environment may be another than the head's."""
    file = tmp_path / "f.json"
    address = {"address": "ucxx://127.0.0.1:1"}
    rendezvous.write(file, address, cluster="c", owner="o", tls=None)
    with running(*WORKER, "--scheduler-file", file, "--insecure") as worker:
        assert worker.stderr is not None
        text = worker.stderr.read()
        assert worker.wait(20) == 78
    assert "distributed-ucxx" in text.splitlines()[-1]
