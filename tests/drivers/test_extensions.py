"""A job's end is moved by each batch system's own command, and read from what it prints."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.drivers.base import Output
from dask_hpc.drivers.extensions import Extension, Run, clock, extension
from dask_hpc.drivers.registry import DRIVERS
from tests.drivers.replay import load

NOW = 1_795_374_000.0


def of(batch: str) -> Extension:
    found = extension(batch)
    assert found is not None
    return found


def read(batch: str, text: str) -> Run | None:
    """What a batch system's reader makes of a text."""
    return of(batch).read(Output(of(batch).ask("12"), 0, text), NOW)


def local(text: str) -> float:
    """Local time, as the commands print it."""
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("batch", "command"),
    [
        ("slurm", "scontrol update JobId=12 TimeLimit=26:00:01"),
        ("oar", "oarwalltime 12 26:00:01"),
        ("pbs", "qalter -l walltime=26:00:01 12"),
        ("torque", "qalter -l walltime=26:00:01 12"),
        ("lsf", "bmod -W 1561 '12[1]'"),
        ("flux", "flux update 12 duration=93601s"),
    ],
)
def test_it_asks_for_a_walltime_in_all_so_that_it_may_ask_again(batch: str, command: str) -> None:
    """More than a day, and not in whole minutes: LSF, which counts them, rounds up."""
    assert str(of(batch).extend("12", 26 * 3600 + 1)) == command


def test_a_job_of_pbs_is_called_by_its_number() -> None:
    """As a job knows itself it has its server's name, too."""
    assert str(of("pbs").ask("12.pbshead")) == "qstat -f 12"
    assert str(of("pbs").extend("12.pbshead", 60)) == "qalter -l walltime=0:01:00 12"


def test_batch_systems_without_a_command_are_known() -> None:
    """A driver that is added must be thought of here."""
    without = {name for name in DRIVERS if extension(name) is None}
    assert without == {"sge", "htcondor", "openlava", "drmaa", "local"}


def test_slurm_tells_start_and_end() -> None:
    """As squeue prints them, also of a changed limit; a job without one has no end."""
    recorded = load("slurm/22.05.8/extend")
    before, after = (recorded.replay(of("slurm").ask("5890"), nth) for nth in (0, 1))
    run = of("slurm").read(replace(before, stdout=f"Welcome!\n{before.stdout}"), NOW)
    assert run == Run(local("2026-11-23 15:06:42"), local("2026-11-23 15:11:42"))
    changed = of("slurm").read(after, NOW)
    assert changed is not None
    assert (run.walltime, changed.walltime) == (300, 180)
    assert recorded.replay(of("slurm").extend("5890", 2 * 3600 + 300)).returncode == 1
    assert read("slurm", "2026-11-22T18:00:00|NONE\n") is None
    assert read("slurm", "") is None


def test_oar_tells_start_and_walltime() -> None:
    """In the recorded list of jobs, of which one runs; and as it was before and after a change."""
    recorded = next(
        each for each in load("oar/2.5.9/running").all("oarstat") if '"Running"' in each.stdout
    )
    rows = json.loads(recorded.stdout[recorded.stdout.index("{") :])
    [runs, *_] = [row for row in rows.values() if row["state"] == "Running"]
    run = of("oar").read(recorded, NOW)
    assert run is not None
    assert (run.start, run.walltime) == (runs["startTime"], runs["walltime"])
    assert of("oar").read(replace(recorded, stdout=""), NOW) is None
    extended = load("oar/2.5.9/extend")
    walltimes = []
    for nth in (0, 1):
        run = of("oar").read(extended.replay(of("oar").ask("1541"), nth), NOW)
        walltimes.append(run and run.walltime)
    assert walltimes == [300, 900]
    assert extended.replay(of("oar").extend("1541", 3 * 3600 + 300)).returncode != 0
    assert extended.replay(of("oar").extend("1541", 900)).returncode == 0


@pytest.mark.parametrize(
    ("batch", "recording", "began"),
    [
        ("pbs", "openpbs/23.06.06/array-finished", "stime"),
        ("torque", "torque/master-34ff845/array-finished", "start_time"),
    ],
)
def test_pbs_and_torque_tell_start_and_walltime(batch: str, recording: str, began: str) -> None:
    """The record of a job that has ended has none; the same record of one that runs has both."""
    outputs = [each for each in load(recording).all("qstat") if f"    {began} = " in each.stdout]
    ended = outputs[0].stdout
    assert read(batch, ended) is None
    runs = re.sub(r"job_state = \w", "job_state = R", ended)
    found = read(batch, runs)
    assert found is not None
    told = re.search(rf"{began} = (.*)", ended)
    assert told is not None
    assert found.start == time.mktime(time.strptime(told[1]))
    assert clock(found.walltime).zfill(8) in ended


@pytest.mark.parametrize(
    ("text", "limit", "left"),
    [
        ("60.0/hosta|0:42 L\n", 3600, 42 * 60),
        ("1440.0|23:59 L\n", 86400, 86340),
        ("01:00:00|00:42:30 L\n", 3600, 2550),
        ("60.0/hosta|0:5 X\n", 3600, 300),
    ],
)
def test_lsf_tells_the_limit_and_what_is_left(text: str, limit: int, left: int) -> None:
    """As IBM's documentation has it: minutes of some host's speed, or clocks."""
    run = read("lsf", f"\n{text}")
    assert run is not None
    assert (run.walltime, run.end) == (limit, NOW + left)
    assert read("lsf", "-|-\n") is None


def test_flux_tells_start_and_expiration() -> None:
    """Of the recorded job alone or in a list; one without a limit has no end."""
    printed = load("flux/0.88.0/ends").all("flux")[-1].stdout.splitlines()
    ended = [json.loads(line) for line in printed if line.startswith("{")]
    job = next({**each, "status": "RUN"} for each in ended if each.get("expiration"))
    run = Run(job["t_run"], job["expiration"])
    assert read("flux", json.dumps(job)) == run
    assert read("flux", json.dumps({"jobs": [job]})) == run
    assert read("flux", json.dumps({**job, "expiration": 0.0})) is None
    assert read("flux", json.dumps({"jobs": []})) is None
    assert run.walltime == round(job["duration"])


@given(text=st.text(), batch=st.sampled_from(["slurm", "pbs", "torque", "lsf", "flux"]))
def test_what_is_not_understood_is_not_told(text: str, batch: str) -> None:
    """No reader raises over it; OAR's says that the list was cut short, as its driver's."""
    assert read(batch, text) is None
