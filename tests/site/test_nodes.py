"""Jobs of several nodes on the real batch systems: one supervisor on each, traffic, a dead node."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dask_hpc import HPCCluster
from dask_hpc.errors import JobStartError
from tests.site.beds import BED, long_except
from tests.site.held import TESTBED, Held, bed
from tests.site.slurm import wait_until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(BED.nodes is None, reason="its jobs have one node each"),
]

RUN = secrets.token_hex(2)
USER = os.environ.get("USER", "")
#: Bytes that each worker sends to another host.
SIZE = 30 << 20


def cluster(name: str, nodes: int, **options: Any) -> HPCCluster:
    """Jobs of so many nodes, two workers of two threads on each."""
    return HPCCluster(
        batch=BED.batch,
        name=f"{name}-{RUN}",
        dashboard_port=0,
        **{
            "cores": 4,
            "processes": 2,
            "memory": "1 GiB",
            "nodes": nodes,
            "walltime": "10 min",
            "interface": "ib0",
            **BED.options,
            **(BED.nodes or {}),
            **options,
        },
    )


def jobs(name: str, user: str = USER) -> int:
    return sum(job.startswith(f"{name}-") for job in BED.jobs(user))


def hosts_of(addresses: Any) -> Counter[str]:
    """How many workers each address has, without protocol and port."""
    return Counter(each.partition("://")[2].rpartition(":")[0] for each in addresses)


@pytest.mark.parametrize("nodes", [2, 4])
def test_a_job_has_its_workers_on_each_node(nodes: int) -> None:
    """One job, all on the fast network, named after job and node; each node has a log."""
    with cluster("nodes", nodes) as c:
        c.scale(nodes * 2)
        c.wait_for_workers(nodes * 2, timeout=90)
        with c.get_client() as client:  # the cluster's own picture may be late
            workers = client.scheduler_info(n_workers=-1)["workers"]
        assert jobs(c.name) == 1
        found = hosts_of(workers)
        assert len(found) == nodes
        assert set(found.values()) == {2}
        assert all(host.startswith("10.78.0.") for host in found)
        names = sorted(str(worker["name"]).rpartition("-")[2] for worker in workers.values())
        assert names == sorted(
            f"{name.partition('.')[0]}.{k}" for name in names[::2] for k in (0, 1)
        )
        with c.get_client() as client:
            assert sum(client.gather(client.map(abs, range(-100, 0)))) == 5050
        logs = c.get_logs(cluster=False, scheduler=False, workers=False)
        told = [text for text in logs.values() if "2 workers joined tls://10.78.0." in text]
        assert len(told) == nodes
    wait_until(lambda: jobs(c.name) == 0, 60, "the queue is empty")


def test_fewer_jobs_are_wanted_and_whole_jobs_go() -> None:
    """The workers of all its nodes hand over what they hold."""
    with cluster("fewer", 2) as c:
        c.scale(jobs=2)
        c.wait_for_workers(8, timeout=90)
        with c.get_client() as client:
            futures = client.map(lambda n: n * n, range(100))
            assert sum(client.gather(futures)) == 328350
            c.scale(jobs=1)
            wait_until(lambda: jobs(c.name) == 1, 60, "one job is left")
            assert len({str(w["name"]).rsplit("-", 2)[1] for w in workers_of(client)}) == 1
            assert len(workers_of(client)) == 4
            assert sum(client.gather(futures)) == 328350
    wait_until(lambda: jobs(c.name) == 0, 60, "the queue is empty")


def workers_of(client: Any) -> list[dict[str, Any]]:
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def test_a_failure_on_every_node_is_explained_by_a_nodes_log() -> None:
    """The job's own log says nothing of it."""
    with cluster("broken", 2, job_script_prologue=["echo no licence on this node", "exit 3"]) as c:
        c.scale(jobs=1)
        with pytest.raises(JobStartError, match="no licence on this node"):
            c.wait_for_workers(1, timeout=90)
    shutil.rmtree(c.log_directory)


@pytest.mark.skipif(BED.crowded is None, reason="nodes are what it counts")
def test_nodes_that_are_one_host_are_called_so() -> None:
    """Half of the workers would never come."""
    with cluster("crowded", 2, **(BED.crowded or {})) as c:
        c.scale(jobs=1)
        with pytest.raises(JobStartError, match="this job was given 1 nodes, not 2: node0"):
            c.wait_for_workers(1, timeout=90)
    shutil.rmtree(c.log_directory)


def test_one_node_that_fails_to_start_costs_that_node_only() -> None:
    """The others compute; the job is neither replaced nor called a failure."""
    fail = "case $dask_hpc_node in 1) echo no licence here; exit 3;; esac"
    with cluster("partly", 2, job_script_prologue=[fail]) as c:
        c.scale(jobs=1)
        c.wait_for_workers(2, timeout=90)
        with c.get_client() as client:
            assert client.submit(sum, [1, 2, 3]).result(timeout=30) == 6
        assert c.report()["jobs_submitted"] == 1
        texts = c.get_logs(cluster=False, scheduler=False, workers=False).values()
        assert any("no licence here" in text for text in texts)
    wait_until(lambda: jobs(c.name) == 0, 60, "the queue is empty")


# -- as root, beside the hosts ---------------------------------------------------------------------


def sent(host: str) -> dict[str, int]:
    """Bytes that each interface of a host has sent and received."""
    text = subprocess.run(
        [str(TESTBED / "on-host"), host, "cat", "/proc/net/dev"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (line.replace(":", " ").split() for line in text.splitlines() if ":" in line)
    return {row[0]: int(row[1]) + int(row[9]) for row in rows}


HOSTS = ("login", "node01", "node02", "node03", "node04")


def held(name: str, nodes: int) -> Held:
    own = [f"{key}={value}" for key, value in (BED.nodes or {}).items()]
    return Held(name, "1", "2", "cores=4", f"nodes={nodes}", "interface=ib0", *own)


@pytest.mark.root
def test_traffic_is_on_the_interface_named_and_nowhere_else() -> None:
    """Between workers, and between them and their scheduler."""
    with held("traffic", 4) as c:
        assert c.known["address"].startswith("tls://10.78.0.2:")
        before = {host: sent(host) for host in HOSTS}
        c.say(f"move {SIZE}")
        assert c.answer()["moved"] == 8 * SIZE
        after = {host: sent(host) for host in HOSTS}
    moved = {
        name: sum(after[host][name] - before[host][name] for host in HOSTS)
        for name in ("eth0", "ib0")
    }
    print(f"\n{BED.batch}: bytes on the hosts' interfaces: {moved}")
    assert moved["ib0"] > 8 * SIZE
    assert moved["eth0"] < SIZE / 10  # the batch system's own


@pytest.mark.root
@long_except("slurm")
def test_a_node_that_dies_costs_that_node_only() -> None:
    """Killed while all compute: the rest goes on, the result is right, no job is submitted."""
    with held("death", 4) as c:
        address = next(a for a, name in c.known["names"].items() if name.endswith("-1.0"))
        host = f"node{int(address.rpartition(':')[0].rpartition('.')[2]) - 10:02d}"
        c.say("compute 400")
        assert c.answer() == {"started": 400}
        try:
            pid = int((TESTBED / "run" / "hosts" / f"{host}.pid").read_text())
            os.kill(pid, signal.SIGKILL)
            told = c.answer()
            assert told["result"] == sum(n * n for n in range(400))
            wait_until(lambda: BED.lost(host), 90, "the batch system has noticed")
            c.say("compute 100")
            assert c.answer() == {"started": 100}
            told = c.answer()
            assert told["result"] == sum(n * n for n in range(100))
            assert len(hosts_of(told["names"])) == 3
            assert told["report"]["jobs_submitted"] == 1
            assert "1 wanted: 1 running" in told["repr"]
            assert jobs(c.name, "alice") == 1
        finally:
            bed("up")
    wait_until(lambda: jobs(c.name, "alice") == 0, 60, "the queue is empty")
    assert not Path(f"/home/alice/.dask-hpc/{c.name}/scheduler.json").exists()
