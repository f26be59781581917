"""What the weather may do to a batch system: its server is away.

Runs as root beside the hosts, since only root may stop a server.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from tests.site.beds import BED, long_except
from tests.site.held import Held, bed
from tests.site.slurm import wait_until

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

#: Seconds that the server is away.
AWAY = 60


@long_except("slurm")
def test_a_server_away_for_a_minute_is_waited_out() -> None:
    """Stopped before a scale, started later: nothing is doubled, nothing lost, all are told."""
    with Held("patient", "2", "2") as held:
        bed("down", "--server")
        stopped = time.monotonic()
        try:
            held.say("scale 5")
            assert "no answer from the batch system" in held.answer()["repr"]
            wait_until(lambda: time.monotonic() > stopped + AWAY, AWAY + 5, "a minute")
        finally:
            bed("up")
        held.say("wait 10")
        assert "5 running" in held.answer()["repr"]
        assert jobs(held.name) == 5
    wait_until(lambda: jobs(held.name) == 0, 60, "the queue is empty")


def jobs(name: str) -> int:
    """Live jobs of alice's cluster, as the batch system lists them."""
    return sum(job.startswith(f"{name}-") for job in BED.jobs("alice"))


def test_a_killed_head_leaves_no_job_and_no_process() -> None:
    """kill -9 of the head, jobs running and pending: within a minute nothing is left."""
    with Held(f"killed-{secrets.token_hex(2)}", "6", "1", "cores=16", "running=4") as held:
        assert jobs(held.name) == 6
        held.head().kill()
        wait_until(lambda: jobs(held.name) == 0, 60, "no job is left")
        wait_until(lambda: not held.processes(), 60, "no process is left")
    assert not Path(f"/home/alice/.dask-hpc/{held.name}/scheduler.json").exists()
