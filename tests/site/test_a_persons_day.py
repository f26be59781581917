"""A cluster brought up in one login and steered from JupyterLab in the next, in a real browser.

Runs as root beside the hosts, which alone may be a user on several of them.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.site.held import TESTBED
from tests.site.slurm import queue, run, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.root, pytest.mark.long, pytest.mark.timeout(400)]

SIZE = ("--cores", "1", "--memory", "500 MiB", "--walltime", "10 min", "--set", "dashboard_port=0")


def logged_in(host: str, *words: str, user: str = "alice", timeout: float = 120) -> str:
    """What a command prints in a login of its own; nothing of it stays but what is meant to."""
    done = subprocess.run(
        [str(TESTBED / "on-host"), "-u", user, host, sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hpc(*words: str, host: str = "login") -> str:
    return logged_in(host, "-m", "dask_hpc", *words)


@pytest.mark.parametrize("head", ["detached", "job"])
def test_up_log_out_log_in_attach_click_and_down(head: str) -> None:
    """What the widget is told happens in the queue, and the Jobs page moves; nothing is left."""
    name = f"day-{secrets.token_hex(2)}"
    try:
        hpc("up", "--name", name, "--head", head, *SIZE)
        [listed] = [each for each in json.loads(hpc("ls", "--json")) if each["name"] == name]
        host = listed["host"]
        assert (listed["head"], host == "login") == (head, head == "detached")
        lab = json.loads(hpc("jupyter", name, "--listen", "loopback", "--json", host=host))
        pictures = logged_in(host, "-c", "import tempfile; print(tempfile.mkdtemp())").strip()
        steer = "tests.site.programs.steer"
        told = logged_in(host, "-m", steer, lab["url"], name, "2", pictures, timeout=300)
        assert json.loads(told) == {"shown": "4950", "before": "0 wanted", "after": "2 running"}
        assert len(queue(name, "alice")) == 2 + (head == "job")
    finally:
        hpc("down", name)
    wait_until(lambda: not queue(name, "alice"), 60, "the queue is empty")
    assert name not in hpc("ls")
    assert not Path(f"/home/alice/.dask-hpc/{name}").exists()
    wait_until(lambda: name not in run("ps", "-efww"), 20, "no process of it is left")
