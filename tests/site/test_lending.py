"""A head in a job on a host that may not submit, as Grid Engine knows them.

Runs as root beside the hosts, who alone may say which they are; what alice does, she does as one.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.beds import BED
from tests.site.held import TESTBED
from tests.site.slurm import run, wait_until

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(BED.batch != "sge", reason="Grid Engine's own"),
]

SIZE = ("--batch", "sge", "--cores", "1", "--memory", "500 MiB", "--walltime", "10 min")
#: What a client of hers computes.
PROGRAM = """
import sys
from dask_hpc import HPCCluster
with HPCCluster.attach(sys.argv[1]) as cluster, cluster.get_client() as client:
    print(client.submit(sum, range(10)).result(timeout=60))
"""


@pytest.fixture
def nodes_may_not_submit() -> Iterator[None]:
    """Take the nodes off the submit hosts, and put them back."""
    nodes = ",".join(host for host in run("qconf", "-ss").split() if host.startswith("node"))
    run("qconf", "-ds", nodes)
    try:
        yield
    finally:
        run("qconf", "-as", nodes)


def alice(*words: str, host: str = "login") -> subprocess.CompletedProcess[str]:
    """What Python does with these words as her, there."""
    return subprocess.run(
        [str(TESTBED / "on-host"), "-u", "alice", host, sys.executable, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def hpc(*words: str, host: str = "login") -> str:
    done = alice("-m", "dask_hpc", *words, host=host)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jobs(name: str) -> int:
    """Jobs of a cluster of hers, the head's among them."""
    return sum(job.startswith(f"{name}-") for job in BED.jobs("alice"))


@pytest.mark.usefixtures("nodes_may_not_submit")
def test_its_workers_are_submitted_from_the_login_host() -> None:
    """While a command of hers runs there; on a node it is said who is missing; nothing is left."""
    name = f"lent-{secrets.token_hex(2)}"
    up = ("up", "--name", name, *SIZE, "--set", "dashboard_port=0", "--head", "job", "--workers")
    refused = alice("-m", "dask_hpc", *up, "2")
    assert refused.returncode != 0
    assert "is not a submit host" in refused.stderr
    assert 'head_options={"submits": False}' in refused.stderr
    wait_until(lambda: jobs(name) == 0, 60, "the refused head has gone")
    try:
        hpc(*up, "2", "--head-option", "submits=false", "--timeout", "2 min")
        assert jobs(name) == 3
        [listed] = [each for each in json.loads(hpc("ls", "--json")) if each["name"] == name]
        assert (listed["head"], listed["host"].partition(".")[0]) != ("job", "login")
        there = alice("-m", "dask_hpc", "scale", name, "3", host="node04")
        assert "nobody is there to run" in there.stderr
        assert "3 running" in hpc("scale", name, "3", "--wait", "--timeout", "2 min")
        done = alice("-c", PROGRAM, name)
        assert done.stdout.strip() == "45", done.stderr
    finally:
        hpc("down", name)
    wait_until(lambda: jobs(name) == 0, 60, "the queue is empty")
    assert not Path(f"/home/alice/.dask-hpc/{name}").exists()


@pytest.mark.usefixtures("nodes_may_not_submit")
def test_the_doctor_says_so() -> None:
    """By a verification from a node, which may still query; the advice is the setting."""
    words = ("--batch", "sge", "--job", "--nodes", "1", "--cores", "1", "--wait", "90", "--json")
    found = json.loads(alice("-m", "dask_hpc", "doctor", *words).stdout)
    [judged] = [each for each in found["findings"] if each["name"] == "batch system from a node"]
    assert judged["status"] == "warning"
    assert "is not a submit host" in judged["seen"]
    assert "nodes_submit: false" in judged["advice"]
