"""What others and the weather may do on Slurm: a second user, kill -9, a node that stalls.

Runs as root beside the hosts, since only root may be two users and stop a controller.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.site.held import TESTBED, Held
from tests.site.slurm import queue, run, submitted, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.root, pytest.mark.timeout(300)]

#: Seconds within which nothing of a cluster is left after its head was killed.
PROMISED = 60


@pytest.fixture
def held(request: pytest.FixtureRequest) -> Iterator[Held]:
    with Held(*request.param) as cluster:
        yield cluster


def as_user(user: str, host: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TESTBED / "on-host"), "-u", user, host, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def python_as(user: str, host: str, code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return as_user(user, host, sys.executable, "-W", "ignore", "-c", code, *argv)


CONNECT_PLAIN = """
import sys
from distributed import Client, Security
for protocol in ("tcp", "tls"):
    try:
        Client(sys.argv[1].replace("tls", protocol), timeout=5)
        print("CONNECTED", protocol)
    except Exception as error:
        print("refused", type(error).__name__)
"""

CONNECT_WITH_OWN_IDENTITY = """
import asyncio, sys
from distributed.core import rpc
from dask_hpc.cluster.security import engine_security, ensure_identity
async def main():
    arguments = engine_security(ensure_identity()).get_connection_args("client")
    for address in sys.argv[1:]:
        try:
            async with asyncio.timeout(10):
                async with rpc(address, connection_args=arguments) as peer:
                    print("CONNECTED", address, await peer.identity())
        except Exception as error:
            print("refused", type(error).__name__)
asyncio.run(main())
"""

STEER_WITH_OWN_IDENTITY = """
import ssl, sys, urllib.request
from dask_hpc import HPCCluster
from dask_hpc.cluster.head_client import client_context
from dask_hpc.cluster.known import clusters
from dask_hpc.cluster.security import ensure_identity
context = client_context(ensure_identity())
context.verify_mode = ssl.CERT_NONE
try:
    print("STEERED", urllib.request.urlopen(sys.argv[1], b"{}", timeout=5, context=context).read())
except OSError as error:
    print("refused", error)
for what in sys.argv[2:]:
    try:
        print("ATTACHED", HPCCluster.attach(what))
    except Exception as error:
        print("refused", type(error).__name__)
print("his own:", clusters())
"""

PROBE_HTTP = """
import http.client, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    for path in ("/status", "/sitemap.json", "/metrics", "/json/counts.json"):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            print(answer.status)
        except Exception as error:
            print("refused", type(error).__name__)
            connection.close()
"""


@pytest.mark.parametrize("held", [("alices", "2", "2")], indirect=True)
def test_a_second_user_gets_nowhere(held: Held) -> None:
    """Scheduler, workers, dashboard refuse; keys, journal, logs are unreadable; no secret shows."""
    known = held.known
    for host in ("login", "node01"):
        plain = python_as("bob", host, CONNECT_PLAIN, known["address"])
        assert "CONNECTED" not in plain.stdout
        assert plain.stdout.count("refused") == 2, plain.stderr
        addresses = [known["address"], *known["workers"]]
        own = python_as("bob", host, CONNECT_WITH_OWN_IDENTITY, *addresses)
        assert "CONNECTED" not in own.stdout
        assert own.stdout.count("refused") == len(addresses), own.stderr
    control = json.loads(Path(known["scheduler_file"]).read_text())["dask_hpc"]["control"]
    address = known["address"].removeprefix("tls://").rpartition(":")[0]
    steered = python_as(
        *("bob", "login", STEER_WITH_OWN_IDENTITY, f"https://{address}:{control}/shutdown"),
        *(known["scheduler_file"], held.name),
    )
    assert steered.stdout.count("refused") == 3, steered.stdout + steered.stderr
    assert "his own: []" in steered.stdout
    port = known["dashboard"].split(":")[2].split("/")[0]
    http = python_as("bob", "login", PROBE_HTTP, f"127.0.0.1:{port}")
    assert set(http.stdout.split()) == {"403"}, http.stdout + http.stderr
    home = Path("/home/alice/.dask-hpc")
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) >= 8
    readable = as_user("bob", "login", "cat", *map(str, files))
    assert readable.stdout == ""
    for path in (home, *home.rglob("*")):
        if path.suffix != ".log":  # Slurm makes logs by the user's umask; their directory is 0700
            assert path.stat().st_mode & 0o077 == 0, path
    token = known["help"].partition("token=")[2].split()[0]
    key = (home / "tls" / "key.pem").read_text().splitlines()[1]
    listing = as_user("bob", "login", "ps", "-efww").stdout
    listing += as_user("bob", "node01", "ps", "-efww").stdout
    listing += as_user("bob", "login", "scontrol", "show", "job").stdout
    listing += run(
        "scontrol", "write", "batch_script", queue(held.name, "alice")[0].split()[0], "-"
    )
    assert held.name in listing
    for secret in (token, key, "PRIVATE KEY"):
        assert secret not in listing


@pytest.mark.parametrize("held", [("quiet", "2", "2")], indirect=True)
def test_nothing_of_a_cluster_listens_without_tls(held: Held) -> None:
    """Every TCP port of every process of it, on login and nodes, gives plain HTTP nothing."""
    found = []
    for process in [held.head(), *held.processes()]:
        for child in [process, *process.children(recursive=True)]:
            pid = child.pid
            table = (
                Path(f"/proc/{pid}/net/tcp").read_text() + Path(f"/proc/{pid}/net/tcp6").read_text()
            )
            inodes = {
                str(link.readlink())[8:-1]
                for link in Path(f"/proc/{pid}/fd").iterdir()
                if link.is_symlink() and "socket:[" in str(link.readlink())
            }
            for line in table.splitlines():
                fields = line.split()
                if len(fields) > 9 and fields[3] == "0A" and fields[9] in inodes:
                    found.append((child, fields[1]))
    ports = {(process.pid, address) for process, address in found}
    assert len(ports) >= 1 + 4 + 4, "scheduler, workers and nannies listen"
    for process, address in found:
        host, port = address.split(":")
        loopback = host == "0100007F"
        probe = (
            "import socket,sys\n"
            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); s.settimeout(5)\n"
            "s.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n')\n"
            "try: print(s.recv(200))\n"
            "except OSError as error: print(type(error).__name__)\n"
        )
        raw = bytes.fromhex(host)[::-1] if len(host) == 8 else b""
        target = ".".join(map(str, raw)) if raw and any(raw) else "127.0.0.1"
        answer = subprocess.run(
            [
                *("nsenter", "-t", str(process.pid), "-n"),
                *(sys.executable, "-c", probe, target, str(int(port, 16))),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        ).stdout
        assert " 200 " not in answer, (process.cmdline(), address, answer)
        if "403" in answer:
            assert loopback, "the dashboard's guard, on this host only"


def test_a_head_and_its_guardian_killed_together_leave_no_process() -> None:
    """With nobody to cancel, jobs end by themselves; the next cluster of the name clears up."""
    with Held("orphaned", "6", "1", "cores=16", "running=4") as held:
        head = held.head()
        for process in held.processes():
            if "dask_hpc.control.reaper" in process.cmdline():
                process.kill()
        head.kill()
    wait_until(
        lambda: not any("PENDING" not in job for job in queue(held.name, "alice")),
        PROMISED + 60,
        "jobs that ran have ended",
    )
    with Held(held.name, "1", "1", exact=True):
        assert len(queue(held.name, "alice")) == 1
    assert not queue(held.name, "alice")
    assert not held.processes()


@pytest.mark.parametrize("held", [("replaced", "2", "4")], indirect=True)
def test_a_killed_supervisor_is_replaced_and_leaves_no_worker(held: Held) -> None:
    """kill -9 of a supervisor: its workers die with it, its job is replaced."""
    worker = next(p for p in held.processes() if "worker" in p.cmdline())
    supervisor = max(
        (p for p in [worker, *worker.parents()] if "worker" in p.cmdline()),
        key=lambda p: -p.create_time(),
    )
    family = [supervisor, *supervisor.children(recursive=True)]
    supervisor.kill()
    psutil.wait_procs(family, timeout=10)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    wait_until(lambda: submitted(held.name, "alice").total() == 3, 60, "a job replaces it")
    held.say("wait 8")
    assert held.answer()["done"] == "wait"


def test_a_stopped_process_is_no_dead_one() -> None:
    """A node that stalls for some seconds (SIGSTOP) is neither lost nor replaced."""
    with Held("stalls", "1", "2") as held:
        workers = [p for p in held.processes() if "worker" in p.cmdline()]
        for process in workers:
            process.send_signal(signal.SIGSTOP)
        with pytest.raises(AssertionError):
            wait_until(lambda: submitted(held.name, "alice").total() > 1, 10, "a job too many")
        for process in workers:
            process.send_signal(signal.SIGCONT)
        held.say("wait 2")
        held.answer()
    assert submitted(held.name, "alice").total() == 1
