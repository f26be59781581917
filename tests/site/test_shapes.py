"""A cluster that chooses its shape of job on a batch system that is partly filled."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dask_hpc
from dask_hpc import HPCCluster
from dask_hpc.control.shapes import Plan
from dask_hpc.model.forecast import Forecast
from tests.site.beds import BED
from tests.site.slurm import counted_commands, run, wait_until

pytestmark = pytest.mark.timeout(200)
slurm = pytest.mark.skipif(BED.batch != "slurm", reason="Slurm's own forecasts")
sge = pytest.mark.skipif(BED.batch != "sge", reason="Grid Engine's own forecasts")
oar = pytest.mark.skipif(BED.batch != "oar", reason="OAR's own forecasts")
condor = pytest.mark.skipif(BED.batch != "htcondor", reason="HTCondor's own forecasts")

#: A node of 16 cores, or four of them.
LARGE: dict[str, Any] = {"cores": 16, "memory": "2 GiB", "walltime": "2 h"}
SMALL = [{"cores": 4, "walltime": "10 min"}]
#: Cores that are taken of each node, and minutes of walltime.
TAKEN = {"node01": (16, 30), "node02": (16, 40), "node03": (16, 50), "node04": (8, 60)}


def fill_slurm(name: str, node: str, cores: int, minutes: int) -> str:
    options = (f"--job-name={name}", f"--nodelist={node}", "--mem=8000M", "--output=/dev/null")
    size = (f"--cpus-per-task={cores}", f"--time={minutes}", "--wrap=exec sleep 3600")
    return run("sbatch", "--parsable", *options, *size).strip()


def fill_sge(name: str, node: str, cores: int, minutes: int) -> str:
    where = ("-q", f"all.q@{node}", "-pe", "smp", str(cores), "-l", f"h_rt={60 * minutes}")
    what = ("-o", "/dev/null", "-e", "/dev/null", "-b", "y", "/bin/sleep", "3600")
    return run("qsub", "-terse", "-N", name, *where, *what).strip()


def fill_oar(name: str, node: str, cores: int, minutes: int) -> str:
    size = f"/host=1/core={cores},walltime=0:{minutes}:0"
    words = ("-p", f"host='{node}'", "-l", size, "-O", "/dev/null", "-E", "/dev/null")
    told = run("oarsub", "-n", name, *words, "sleep 3600")
    return next(line.split("=")[1] for line in told.splitlines() if line.startswith("OAR_JOB_ID="))


def fill_htcondor(name: str, node: str, cores: int, minutes: int) -> str:
    size = (f"request_cpus={cores}", "request_memory=4096", f'requirements=Machine=="{node}"')
    what = ("executable=/bin/sleep", "arguments=3600", "transfer_executable=False")
    told = run("condor_submit", "-terse", f"batch_name={name}", *size, *what, "-queue", "1")
    return told.split(".")[0]


FILL = {
    "slurm": (fill_slurm, "scancel", lambda job: run("squeue", "-h", "-j", job, "-o", "%T")),
    "sge": (fill_sge, "qdel", lambda job: run("qstat", "-s", "r").replace(job, "RUNNING")),
    "oar": (fill_oar, "oardel", lambda job: run("oarstat", "-s", "-j", job).upper()),
    "htcondor": (
        fill_htcondor,
        "condor_rm",
        lambda job: run("condor_q", job, "-af", "JobStatus").replace("2", "RUNNING"),
    ),
}


@pytest.fixture
def filled() -> Iterator[None]:
    """Three of four nodes are taken, and half of the fourth."""
    name = f"fill-{secrets.token_hex(2)}"
    fill, remove, state = FILL[BED.batch]
    jobs = [fill(name, node, *taken) for node, taken in TAKEN.items()]
    try:
        for job in jobs:
            wait_until(lambda job=job: "RUNNING" in state(job), 100, "the nodes are filled")
        yield
    finally:
        run(remove, *jobs)
        wait_until(
            lambda: not any("RUNNING" in _state(state, j) for j in jobs), 40, "they are free"
        )


def _state(state: Callable[[str], str], job: str) -> str:
    """What is said of a job, nothing where it is no longer known."""
    try:
        return state(job)
    except AssertionError:
        return ""


def started(name: str) -> HPCCluster:
    return HPCCluster(
        batch=BED.batch, name=name, shapes=SMALL, n_workers=2, dashboard_port=0, **LARGE
    )


def planned(**more: Any) -> Plan:
    return dask_hpc.plan(batch=BED.batch, shapes=SMALL, **{**LARGE, **more})


@slurm
def test_slurm_small_jobs_now_beat_a_large_one_that_waits(
    filled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour later a whole node is free: two short jobs at once give more, and get it."""
    with counted_commands(tmp_path, monkeypatch, ("sbatch", "sinfo", "squeue")) as commands:
        plan = planned(workers=2)
    large, small = plan.rows
    assert 1500 < (large.forecast.first or 0) < 1800
    assert (small.forecast.first, small.forecast.known) == (pytest.approx(0, abs=15), 2)
    assert plan.best is small
    assert commands == {"sbatch": 2, "sinfo": 2}  # limits of partitions, free cores
    three = planned(workers=3).rows[1]
    assert [start.jobs for start in three.forecast.starts] == [2, 1]
    with started("shape") as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 1
        cluster.wait_for_workers(2, timeout=40)
        seen = run("squeue", "--noheader", "--me", "--states=RUNNING", "--format=%j|%C|%l")
        ours = [row.split("|")[1:] for row in seen.splitlines() if row.startswith("shape-")]
        assert ours == [["4", "10:00"]] * 2


@slurm
def test_slurm_squeezes_in_what_is_told_to_wait(filled: None) -> None:
    """A job for all nodes waits for an hour, and Slurm's own forecast puts all others behind it."""
    waits = ("--nodes=4", "--cpus-per-task=16", "--time=100", "--output=/dev/null")
    job = run("sbatch", "--parsable", *waits, "--wrap=exec sleep 3600").strip()
    try:
        wait_until(lambda: "T" in run("squeue", "-h", "-j", job, "-o", "%S"), 30, "it is planned")
        plan = planned(workers=2)
        assert (plan.rows[0].forecast.first or 0) > 7000
        assert plan.best.forecast.first == 0
        assert plan.best.forecast.said == "free cores, before what is planned"
        with started("gap") as cluster:
            cluster.wait_for_workers(2, timeout=40)
        long = [{"cores": 4, "walltime": "90 min"}]  # would be in its way
        late = dask_hpc.plan(batch="slurm", shapes=long, workers=2, **LARGE).rows[1].forecast
        assert (late.first or 0) > 3600
    finally:
        run("scancel", job)


@slurm
def test_slurm_a_large_job_is_taken_where_it_starts_as_soon() -> None:
    """The bed is empty: what was asked for first."""
    plan = planned(workers=4)
    assert [row.forecast.first for row in plan.rows] == [pytest.approx(0, abs=15)] * 2
    assert plan.chosen == 0


@slurm
def test_slurm_what_the_partition_does_not_allow_is_not_taken() -> None:
    """Its own forecast says "now" for a walltime over the limit of a partition."""
    plan = dask_hpc.plan(
        batch="slurm",
        shapes=[{"queue": "short"}, {"queue": "closed"}, {"queue": "nosuch"}, {"cores": 32}],
        **LARGE,
    )
    rows = [(row.forecast.refused, row.forecast.said) for row in plan.rows]
    assert rows[1] == ("queue short allows 00:05:00", "")
    assert rows[2] == ("", "queue closed starts no jobs now")
    assert "invalid partition specified: nosuch" in rows[3][0]
    assert rows[4][0] == "queue main has no node of 32 cores"
    assert plan.chosen == 0


@sge
def test_grid_engine_small_jobs_that_fit_beat_a_large_one_that_does_not(filled: None) -> None:
    """Eight slots are free on one host: two jobs of four start, one of 16 at no known time."""
    plan = planned(workers=3)
    large, small = plan.rows
    assert large.forecast.said == "qsub -w p: not now"
    assert [(start.jobs, start.seconds) for start in small.forecast.starts] == [(2, 0.0)]
    assert plan.best is small
    assert "a start that is not known counts as none" in plan.why
    never = dask_hpc.plan(batch="sge", cores=17, queue="all.q", walltime="1 h").best.forecast
    assert "PE" in never.refused or "17 cores" in never.refused
    with started("shape") as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 1
        cluster.wait_for_workers(2, timeout=60)


@oar
def test_oar_small_jobs_now_beat_a_large_one_that_waits(filled: None) -> None:
    """By OAR's own plan: eight cores are free, a whole node in half an hour."""
    plan = planned(workers=3)
    large, small = plan.rows
    assert 1500 < (large.forecast.first or 0) < 1860
    assert [start.jobs for start in small.forecast.starts] == [2, 1]
    assert planned(workers=2).chosen == 1
    with started("shape") as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 1
        cluster.wait_for_workers(2, timeout=60)


@condor
def test_htcondor_small_jobs_that_fit_beat_a_large_one_that_does_not(filled: None) -> None:
    """Eight cores are free on one machine: two jobs of four start, one of 16 at no known time."""
    wait_until(
        lambda: planned(workers=3).rows[0].forecast.first is None,
        *(30, "the collector has heard that the machines are taken"),
    )
    plan = planned(workers=3)
    large, small = plan.rows
    assert large.forecast == Forecast(said="free cores, by condor_status")
    assert [(start.jobs, start.seconds) for start in small.forecast.starts] == [(2, 0.0)]
    assert plan.best is small
    with started("shape") as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 1
        cluster.wait_for_workers(2, timeout=60)
