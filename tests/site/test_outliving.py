"""Heads that outlive whoever brings their cluster up, as an ordinary user."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dask_hpc import HPCCluster
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.known import clusters, find
from dask_hpc.errors import HPCError
from tests.site.beds import BED
from tests.site.held import TESTBED
from tests.site.slurm import run, wait_until

pytestmark = [pytest.mark.timeout(200)]

DASK_HPC = [sys.executable, "-m", "dask_hpc"]
USER = os.environ.get("USER", "")

#: What is said to a user who asks for three hours more.
NO_MORE_TIME = {
    "slurm": r"(?s)Access/permission denied.*operators alone",
    "oar": r"(?s)cannot increase by more than 1:0:0.*the site decides",
}.get(BED.batch, "has no command that gives a job more time")


def cluster(head: str, **options: Any) -> HPCCluster:
    asked = {"cores": 1, "memory": "500 MiB", "walltime": "10 min", **BED.options, **options}
    name = f"out-{secrets.token_hex(2)}"
    return HPCCluster(batch=BED.batch, name=name, head=head, dashboard_port=0, **asked)


@pytest.mark.parametrize("head", ["detached", "job"])
def test_a_cluster_is_left_found_again_and_shut_down(head: str) -> None:
    """Its jobs go on while nobody looks; whoever attaches has all of it; nothing is left."""
    with cluster(head, n_workers=2) as brought_up:
        name, place = brought_up.name, find(brought_up.name)
    assert (place.head, place.host == socket.gethostname()) == (head, head == "detached")
    with HPCCluster.attach(name) as again:
        again.wait_for_workers(2, timeout=120)
        again.scale(3)
        again.wait_for_workers(3, timeout=120)
        with again.get_client() as client:
            assert client.submit(sum, range(10)).result(timeout=60) == 45
            assert len(set(client.run(socket.gethostname))) >= 1
        submitted = sum(job.startswith(f"{name}-") for job in BED.jobs(USER))
        assert submitted == 3 + (head == "job")
        if place.head_job:
            assert find(f"{BED.batch}:{place.head_job}").name == name
            with pytest.raises(HPCError, match=NO_MORE_TIME):
                again.renew("3 h")
        again.shutdown()
    wait_until(
        lambda: not any(job.startswith(f"{name}-") for job in BED.jobs(USER)),
        60,
        "the queue is empty",
    )
    assert name not in [each.name for each in clusters()]
    wait_until(lambda: not Path(place.directory).exists(), 20, "its directory is gone")


@pytest.mark.skipif(BED.batch != "oar", reason="the one that lets its users extend their jobs")
def test_a_head_in_a_job_is_given_more_time() -> None:
    """OAR has the new walltime, and the head its deadline."""
    with cluster("job", head_options={"walltime": "5 min"}) as brought_up:
        head = HeadClient(find(brought_up.name))
        before = head.view()
        brought_up.renew("10 min")
        after = head.view()["head_deadline"]
        job = str(before["head_job"])
        row = json.loads(run("oarstat", "--full", "--json", "--job", job))[job]
        assert row["walltime"] == 900
        assert after == row["startTime"] + 900
        brought_up.shutdown()


def hpc(*words: str, code: int = 0) -> str:
    """What `dask-hpc WORDS` prints for alice on the login host."""
    done = subprocess.run(
        [
            str(TESTBED / "on-host"),
            "-u",
            "alice",
            "login",
            sys.executable,
            "-m",
            "dask_hpc",
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slurm
@pytest.mark.root
@pytest.mark.long
def test_what_an_operator_gives_the_head_is_seen_before_it_closes() -> None:
    """Slurm refuses alice, in words that say who may; what root then does, the head takes in."""
    name = f"out-{secrets.token_hex(2)}"
    size = ("--cores", "1", "--memory", "500 MiB", "--set", "dashboard_port=0")
    head = ("--head", "job", "--head-option", "walltime=1 min")
    try:
        hpc("up", "--name", name, *size, *head)
        before = json.loads(hpc("status", name, "--json"))
        said = hpc("renew", name, "2h", code=1)
        assert "denied" in said
        assert "operators alone" in said
        job = before["head_job"]
        run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
        end = datetime.fromisoformat(run("squeue", "-h", "-j", job, "-o", "%e").strip())

        def known() -> bool:
            return bool(
                json.loads(hpc("status", name, "--json"))["head_deadline"] == end.timestamp()
            )

        wait_until(known, 60, "the head knows")
    finally:
        hpc("down", name)
    wait_until(
        lambda: not any(job.startswith(f"{name}-") for job in BED.jobs("alice")),
        60,
        "the queue is empty",
    )


@pytest.mark.slurm
def test_a_head_whose_job_waits_is_seen_and_called_off_when_its_terminal_is_gone() -> None:
    """By its name alone, with the reason that Slurm gives; nothing is left in the queue."""
    name = f"out-{secrets.token_hex(2)}"
    words = ["--batch", BED.batch, "--name", name, "--cores", "1", "--memory", "500 MiB"]
    later = ["--head-option", 'job_extra_directives=["--begin=now+3600"]', "--walltime", "10 min"]
    command = [*DASK_HPC, "up", *words, *later, "--head", "job"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as up:
        wait_until(
            lambda: any(each.name == name and each.head_job for each in clusters()),
            60,
            "the job is submitted",
        )
        up.send_signal(signal.SIGHUP)
    job = find(name).head_job

    def told() -> str:
        rows = json.loads(subprocess.check_output([*DASK_HPC, "ls", "--json"], text=True))
        (row,) = [row for row in rows if row["name"] == name]
        assert (row["status"], row["head_job"]) == ("pending", job)
        return str(row["line"])

    assert told().startswith(f"its head's job {job} waits in the queue")
    wait_until(lambda: "(BeginTime)" in told(), 60, "Slurm says why")
    assert find(f"slurm:{job}").name == name
    said = subprocess.check_output([*DASK_HPC, "down", name], text=True)
    assert said == f"cluster {name} is called off: the job of its head is cancelled\n"
    assert not any(each.startswith(f"{name}-") for each in BED.jobs(USER))
    assert name not in [each.name for each in clusters()]
