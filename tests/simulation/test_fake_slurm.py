"""The fake Slurm is held to what the real one printed for the same commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.model.job import JobId, JobSpec, Submission
from tests.drivers.replay import load
from tests.simulation.fake_slurm import FakeSlurm

SLURM = Slurm()
SPEC = JobSpec(command=("true",), cores=1, log_directory=Path("/logs"))


def shape(line: str) -> str:
    """What kind of line it is: words and numbers replaced, separators and states kept."""
    fields = line.split("|")
    fields[0] = re.sub(r"\d+", "N", fields[0])
    return "|".join([fields[0], fields[1], *("" if not f else "x" for f in fields[2:])])


async def ask(slurm: FakeSlurm, command: Command) -> Output:
    return await slurm.run(command)


@pytest.fixture
async def fake() -> FakeSlurm:
    slurm = FakeSlurm(slots=1)
    await ask(slurm, SLURM.submit(Submission("sim-1", 3), SPEC, Path("/job.sh")))
    slurm.tick(0.0)
    return slurm


async def test_its_rows_have_the_shape_of_real_ones(fake: FakeSlurm) -> None:
    """One row an element, with the fields the driver asks for; nodes only where jobs run."""
    recorded = [
        line
        for name in ("array-pending", "ends", "array-cancelled", "requeue")
        for output in load(f"slurm/22.05.8/{name}").all("squeue")
        for line in output.stdout.splitlines()
    ]
    printed = (await ask(fake, SLURM.query({"sim-1": None}))).stdout.splitlines()
    assert len(printed) == 3
    assert {shape(line) for line in printed} <= {shape(line) for line in recorded}


async def test_the_driver_reads_both_alike(fake: FakeSlurm) -> None:
    """Ids, states and names come out of the fake's listing as out of a real one."""
    listing = SLURM.states(await ask(fake, SLURM.query({"sim-1": None})))
    assert set(listing.jobs) == {JobId("100", i) for i in range(3)}
    assert listing.names == {"sim-1": "100"}


async def test_it_is_silent_as_the_real_one_is() -> None:
    """With its controller down every command fails as recorded: exit 1, the same words."""
    real = load("slurm/22.05.8/controller-down")
    slurm = FakeSlurm(down=True)
    for command in (
        SLURM.query({"sim-1": None}),
        SLURM.submit(Submission("sim-1", 3), SPEC, Path("/job.sh")),
    ):
        printed = await ask(slurm, command)
        [recorded, *_] = real.all(command.argv[0])
        assert printed.returncode == recorded.returncode
        assert SLURM.is_transient(printed)
        assert SLURM.is_transient(recorded)


async def test_an_unknown_job_is_cancelled_without_a_word(fake: FakeSlurm) -> None:
    """scancel --quiet of what has ended or never was: exit 0, nothing printed."""
    printed = await ask(fake, SLURM.cancel([JobId("999", 0)], {"999": 1})[0])
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, "", "")
    recorded = load("slurm/22.05.8/cancel").all("scancel")
    assert (0, "", "") in {(each.returncode, each.stdout, each.stderr) for each in recorded}


async def test_an_array_too_large_is_refused_in_the_same_words(fake: FakeSlurm) -> None:
    """MaxArraySize bounds the highest index."""
    printed = await ask(fake, SLURM.submit(Submission("sim-2", 1002), SPEC, Path("/job.sh")))
    assert printed.returncode == 1
    refused = load("slurm/22.05.8/submit-refused").all("sbatch")
    assert any(printed.stderr.strip() in each.stderr for each in refused)
