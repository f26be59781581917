"""Interfaces in jobs of a real batch system: every role on every host chooses its own."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_hpc import HPCCluster
from dask_hpc.errors import JobStartError
from tests.site.beds import BED
from tests.site.held import PROGRAMS, TESTBED, Held
from tests.site.slurm import wait_until
from tests.site.test_nodes import HOSTS, hosts_of, sent

pytestmark = [pytest.mark.timeout(200), pytest.mark.slurm]
SIZE = 20 << 20
WISH = "hsn0,ib*,eth0"


def test_a_missing_interface_is_an_error_that_lists_what_the_node_has() -> None:
    """The cluster says it where the user is, from the node's own words."""
    name = f"lacking-{secrets.token_hex(2)}"
    options = {"scheduler_interface": "ib0", "interface": "hsn0", "dashboard_port": 0}
    with HPCCluster(batch=BED.batch, name=name, cores=1, memory="300 MiB", **options) as cluster:
        cluster.scale(jobs=1)
        with pytest.raises(JobStartError, match="no network interface for 'hsn0'") as caught:
            cluster.wait_for_workers(1, timeout=90)
    assert "ib0 (infiniband" in str(caught.value)
    shutil.rmtree(cluster.log_directory)


@pytest.fixture
def without_fabric() -> Iterator[str]:
    """A host whose ``ib0`` is down."""

    def switch(state: str) -> None:
        words = ("ip", "link", "set", "ib0", state)
        subprocess.run([str(TESTBED / "on-host"), "node04", *words], check=True)

    switch("down")
    yield "node04"
    switch("up")


@pytest.mark.root
def test_the_nodes_of_one_job_choose_each_for_itself(without_fabric: str) -> None:
    """One has lost its fabric, and works all the same."""
    words = ("cores=4", "nodes=4", f"interface={WISH}")
    with Held("roles", "1", "1", *words) as held:
        assert held.known["address"].startswith("tls://10.78.0.2:")
        found = hosts_of(held.known["names"])
        texts = Path(held.known["scheduler_file"]).parent.glob("logs/*.log")
        told = [line for text in texts for line in text.read_text().splitlines()]
    address = f"10.77.0.{10 + int(without_fabric[-2:])}"
    assert sorted(found) == [address, "10.78.0.11", "10.78.0.12", "10.78.0.13"]
    assert sum("listening on ib0 (infiniband" in line for line in told) == 3
    assert sum("listening on eth0 (ethernet" in line for line in told) == 1


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of alice's that all hosts see."""
    path = Path(f"/home/alice/net-{secrets.token_hex(3)}")
    path.mkdir(mode=0o700)
    shutil.chown(path, "alice", "alice")
    yield path
    shutil.rmtree(path)


@pytest.mark.root
def test_mpi_traffic_is_on_the_fabric(shared: Path) -> None:
    """Of the scheduler, the workers and the client of a launch by srun over four nodes."""
    alice = [str(TESTBED / "on-host"), "-u", "alice", "login"]
    python, file = sys.executable, shared / "scheduler.json"
    mpi = (python, "-m", "dask_hpc", "mpi", "--scheduler-file", str(file), "--interface", WISH)
    srun = ("srun", "-N", "4", "-n", "8", "-t", "2", "-J", shared.name)
    log = shared / "log"
    with log.open("w") as stream:
        launch = subprocess.Popen([*alice, *srun, *mpi], stdout=stream, stderr=stream)
    try:
        wait_until(file.exists, 60, "the scheduler listens")
        ask = [*alice, python, str(PROGRAMS / "ask.py"), str(file), "7"]
        subprocess.run([*ask, "0"], check=True, capture_output=True, timeout=90)  # all are there
        before = {host: sent(host) for host in HOSTS}
        done = subprocess.run(
            [*ask, str(SIZE)], check=True, capture_output=True, text=True, timeout=90
        )
        after = {host: sent(host) for host in HOSTS}
    finally:
        launch.terminate()
        launch.wait(30)
    told = json.loads(done.stdout)
    everywhere = {f"10.78.0.{n}" for n in range(11, 15)}
    assert hosts_of([told["scheduler"]]).keys() <= everywhere
    assert hosts_of(told["workers"]).keys() == everywhere
    assert len(told["workers"]) == 7
    moved = {
        name: sum(after[host][name] - before[host][name] for host in HOSTS)
        for name in ("eth0", "ib0")
    }
    print(f"\nmpi: bytes on the hosts' interfaces: {moved}")
    assert moved["ib0"] > 4 * SIZE
    assert moved["eth0"] < SIZE / 10  # the batch system's own
