"""``connect`` in a job of a real Grid Engine: a parallel environment over several hosts."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from pathlib import Path

import pytest

from tests.site.beds import BED
from tests.site.slurm import run

PROGRAM = Path(__file__).parent / "programs" / "connected.py"
pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(BED.batch != "sge", reason="Grid Engine's own"),
]


def test_every_host_of_a_parallel_environment_is_used() -> None:
    """Through ``qrsh -inherit``; nothing but the identity stays in the user's directory."""
    folder = Path.home() / f"connect-{secrets.token_hex(3)}"
    folder.mkdir()
    script, log = folder / "job.sh", folder / "log"
    words = [sys.executable, str(PROGRAM), json.dumps({"wait": 99})]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n")
    run(
        *("qsub", "-V", "-cwd", "-j", "y", "-o", str(log), "-sync", "y"),
        *("-pe", "mpi_rr", "8", str(script)),
        timeout=150,
    )
    said, found = log.read_text().splitlines()
    assert said.startswith("dask-hpc: connect: allocation: this is sge job ")
    assert said.endswith(" with 4 nodes")
    workers = json.loads(found)
    assert len(workers["hosts"]) == 4
    assert workers["threads"] == 8
    assert len(set(workers["names"])) == 8
    assert list((Path.home() / ".dask-hpc").glob("sge-*")) == []
