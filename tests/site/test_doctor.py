"""``dask-hpc doctor --job`` on real batch systems: all well on a healthy bed, and planted faults.

Each fault is found and named: its finding is a problem, and says what is wrong.  Faults that need
root (a full file system, a directory that one host alone has, a firewall) are planted by root
beside the hosts; the doctor is alice's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.site.beds import BED, long_except
from tests.site.held import TESTBED
from tests.site.mpi import BED as MPI
from tests.site.slurm import wait_until

ROOT = os.geteuid() == 0
HOSTS = ("login", "node01", "node02", "node03", "node04")
NODES = HOSTS[1:]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
CLOSED = {"slurm": "closed", "sge": "closed.q"}
SUBMIT = {"slurm": "sbatch", "sge": "qsub"}

pytestmark = pytest.mark.timeout(200)
#: What differs between systems was seen on these two; the others are asked whether all is well.
faults = pytest.mark.skipif(BED.batch not in CLOSED, reason="faults are planted on two systems")


def doctor(
    *arguments: str, environ: Mapping[str, str] | None = None, python: str = sys.executable
) -> dict[str, Any]:
    """A visit of alice's on the login host, with jobs on two nodes; what was found."""
    options = {**BED.options, **(BED.nodes or {})}
    more = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    argv = [python, "-m", "dask_hpc", "doctor", "--batch", BED.batch, "--job", "--json"]
    argv += ["--nodes", "2", "--cores", "4", "--wait", "90", *more, *arguments]
    variables = [f"{key}={value}" for key, value in (environ or {}).items()]
    host = [str(TESTBED / "on-host"), "-u", "alice", "login"] if ROOT else []
    done = subprocess.run(
        [*host, "env", *variables, *argv], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (found["status"] == "problem"), done.stderr
    return found


def problems(found: Mapping[str, Any]) -> dict[str, str]:
    """What was seen that is a problem, by its name."""
    listed: dict[str, str] = {}
    for each in found["findings"]:
        if each["status"] == "problem":
            assert each["advice"], each
            listed[each["name"]] = f"{listed.get(each['name'], '')}\n{each['seen']}"
    return listed


def prologue(*lines: str) -> tuple[str, str]:
    return ("--set", f"job_script_prologue={json.dumps(lines)}")


# -- as alice ------------------------------------------------------------------


def test_a_healthy_machine_is_all_well(tmp_path: Path) -> None:
    """No problem, no job left; every route was measured in both directions on both networks."""
    found = doctor("--write-profile", "here", environ={"DASK_CONFIG": str(tmp_path)})
    assert problems(found) == {}
    assert {each["status"] for each in found["findings"]} <= {"ok", "warning"}
    if BED.nodes is not None:
        hosts = {each["host"] for each in found["machines"].values()}
        assert len(hosts) == 3
        routes = {(r["source"], r["target"], r["interface"]) for r in found["routes"]}
        assert len(routes) == 3 * 2 * 2
        assert all("error" not in route for route in found["routes"])
    [site] = yaml.safe_load((tmp_path / "dask-hpc-site-here.yaml").read_text())["dask-hpc"][
        "sites"
    ].values()
    assert site["batch"] == BED.batch
    assert "nodes_submit" not in site  # they may
    assert site["node"]["cores"] == 16
    wait_until(lambda: not any(j.startswith("doctor-") for j in BED.jobs("alice")), 60, "no job")
    assert list((Path.home() / ".dask-hpc").glob("doctor-*")) == []


@faults
def test_a_wrong_interface_is_named() -> None:
    """On both sides, with those that there are."""
    found = problems(doctor("--interface", "ib9"))
    assert "no interface 'ib9'" in found["interface"]
    assert {"scheduler on login", "workers on node"} <= {
        word for word in ("scheduler on login", "workers on node") if word in found["interface"]
    }
    assert "ib0 (10.78.0." in found["interface"]


@faults
def test_a_different_python_is_named() -> None:
    """The system's own, which has none of our packages."""
    found = problems(doctor("--python", "/usr/bin/python3"))
    assert "of /usr" in found["python"]
    assert "lacks dask, distributed, dask-hpc" in found["packages"]


@faults
def test_few_open_files_are_named() -> None:
    """As a shell's start-up file may leave them."""
    assert "no more than 256 open files" in problems(doctor(*prologue("ulimit -n 256")))["limits"]


@faults
@long_except("slurm")
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs Debian's faketime")
def test_a_skewed_clock_is_named() -> None:
    """Ten minutes ahead, as the jobs' processes see it."""
    line = f"export LD_PRELOAD={FAKETIME} FAKETIME=+600"
    found = problems(doctor(*prologue(line)))
    assert "600.0 s ahead of this machine" in found["clock"]


@faults
@pytest.mark.skipif(not MPI.exists(), reason="testbeds/mpi-up.sh has not been run")
def test_a_wrong_mpi_pair_is_named() -> None:
    """An mpirun of MPICH before an mpi4py that is bound to Open MPI."""
    python = str(MPI / "openmpi/bin/python")
    line = f"export PATH={MPI}/mpich/bin:$PATH"
    found = problems(doctor("--python", python, *prologue(line), python=python))
    assert set(found) == {"MPI pair"}
    assert "Open MPI" in found["MPI pair"]
    assert f"{MPI}/mpich/" in found["MPI pair"]


@faults
def test_a_queue_that_starts_nothing_is_named() -> None:
    """It takes jobs, and they would wait for ever."""
    found = problems(doctor("--queue", CLOSED[BED.batch], "--wait", "5"))
    assert f"queue {CLOSED[BED.batch]} takes jobs and starts none" in found["queue"]


@faults
def test_a_queue_that_answers_by_mail_alone_is_named(tmp_path: Path) -> None:
    """A site's wrapper takes the job and prints no id."""
    wrapper = tmp_path / SUBMIT[BED.batch]
    wrapper.write_text("#!/bin/sh\necho 'Thank you. You will be told by mail.'\n")
    wrapper.chmod(0o755)
    found = problems(doctor(environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"}))
    assert "You will be told by mail" in found["submission"]


@faults
def test_a_missing_module_is_named() -> None:
    """The job goes on without it, so nothing else would tell."""
    found = problems(doctor(*prologue("module load nosuch/1.0")))
    assert set(found) == {"prologue"}
    assert "module" in found["prologue"]


# -- as root, beside the hosts ------------------------------------------------------------------


def on(host: str, *argv: str, check: bool = True) -> None:
    subprocess.run([str(TESTBED / "on-host"), host, *argv], check=check, capture_output=True)


@contextmanager
def mounted(hosts: tuple[str, ...], *options: str) -> Iterator[str]:
    """Mount something on a new directory, on these hosts alone."""
    point = Path("/mnt") / f"doctor-{secrets.token_hex(3)}"
    point.mkdir()
    try:
        for host in hosts:
            on(host, "mount", *options, str(point))
        yield str(point)
    finally:
        for host in hosts:
            on(host, "umount", str(point), check=False)
        point.rmdir()


@faults
@pytest.mark.root
def test_a_full_scratch_directory_is_named() -> None:
    """Not one byte is left on the nodes."""
    with mounted(NODES, "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs") as point:
        for host in NODES:
            on(host, "sh", "-c", f"cat /dev/zero >{point}/full", check=False)
        found = problems(doctor("--set", f"local_directory={point}"))
    assert f"{point} on node0" in found["scratch"]
    assert "is full: 0 B free" in found["scratch"]


@faults
@pytest.mark.root
def test_a_directory_that_nodes_cannot_read_is_named() -> None:
    """It is there on the login host alone."""
    private = TESTBED / f"private-{secrets.token_hex(3)}"
    private.mkdir(mode=0o700)
    shutil.chown(private, "alice", "alice")
    try:
        with mounted(("login",), "--bind", str(private)) as point:
            found = problems(doctor(environ={"DASK_HPC_HOME": f"{point}/hpc"}))
    finally:
        shutil.rmtree(private)
    assert set(found) == {"shared directory"}
    assert f"nodes cannot use {point}/hpc/doctor-" in found["shared directory"]


@faults
@pytest.mark.root
@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")
def test_a_firewall_between_two_nodes_is_named() -> None:
    """Both ends, and the network on which it is; the batch system itself uses the other one."""
    table = f"doctor{secrets.token_hex(3)}"
    rules = (
        f"table inet {table} {{ chain input {{ type filter hook input priority 0;"
        " iifname ib0 ip saddr 10.78.0.11-10.78.0.14 tcp dport 32768-65535 drop; }; }"
    )
    for node in NODES:
        subprocess.run(["ip", "netns", "exec", node, "nft", rules], check=True)
    try:
        found = problems(doctor("--interface", "ib0"))
    finally:
        for node in NODES:
            delete = ["ip", "netns", "exec", node, "nft", "delete", "table", "inet", table]
            subprocess.run(delete, check=False)
    assert len(found) == 2, found  # there and back
    for name, seen in found.items():
        assert re.fullmatch(r"route node0\d to node0\d", name)
        assert re.fullmatch(r"\s*over ib0 \(10\.78\.0\.1\d\): timed out", seen)
