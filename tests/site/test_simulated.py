"""The simulated machine and a real Slurm tell the same story, heard through the same driver."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from dask_hpc.batch.client import BatchClient
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from tests.simulation import scenario
from tests.simulation.test_scenario import simulated

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(240)]


def test_a_real_slurm_tells_the_story_of_the_simulated_one(tmp_path: Path) -> None:
    """One job ends, one fails, one runs into its walltime, two are cancelled, two as they wait."""
    script = tmp_path / "job.sh"
    script.write_text(job_script(scenario.spec(tmp_path), driver("slurm")), encoding="utf-8")
    client = BatchClient(driver("slurm"))
    name = f"story-{secrets.token_hex(4)}"
    real = asyncio.run(scenario.tell(client, script, name, interval=0.3))
    model = simulated(tmp_path, text=True)
    assert real.stories == model.stories
    assert real.granted == model.granted
    # Of those cancelled as they waited there may be a record or none.
    assert {i: real.ends[i] for i in model.ends} == model.ends
    assert sorted(model.ends) == [*range(scenario.NEVER)]
