"""The simulated machine tells the story that a real Slurm told (tests/site/test_simulated.py)."""

from __future__ import annotations

import random
from pathlib import Path

from dask_hpc.batch.client import BatchClient
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from tests.fakes import core as c
from tests.simulation import scenario
from tests.simulation.desk import Desk, Road, SlurmDesk
from tests.simulation.machine import Claim, Machine, Site
from tests.simulation.scenario import Heard
from tests.simulation.virtual import simulate
from tests.simulation.weather import Weather


def simulated(directory: Path, *, text: bool) -> Heard:
    """The story as the simulated machine tells it."""
    script = directory / "job.sh"
    script.write_text(job_script(scenario.spec(directory), driver("slurm")), encoding="utf-8")

    async def main() -> Heard:
        machine = Machine(Site(nodes=4, cores=scenario.CORES), random.Random(1))

        def start(claim: Claim) -> None:
            assert claim.job is not None
            end = {
                scenario.ENDS: (machine.fail, claim, c.COMPLETED),
                scenario.FAILS: (machine.fail, claim, c.FAILED, scenario.FAILURE),
            }.get(claim.job.index, (lambda: None,))
            claim.timers.append(machine.loop.call_later(scenario.SHORT, *end))

        machine.on_start = start
        road = Road(Weather(1, ()))
        slurm = BatchClient(driver("slurm"), SlurmDesk(machine, road).run)
        client = slurm if text else Desk(machine, road)
        return await scenario.tell(client, script, "story", interval=0.3)

    return simulate(main)


def test_text_and_values_tell_the_same(tmp_path: Path) -> None:
    """What the driver reads of Slurm's text is what the fast way hands over."""
    text, values = (simulated(tmp_path, text=text) for text in (True, False))
    assert text.stories == values.stories
    assert text.granted == values.granted
    assert {i: state for i, (state, _) in text.ends.items()} == {
        i: state for i, (state, _) in values.ends.items()
    }
