"""A cluster that chooses its shape of job on a batch system that is partly filled."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dask_hpc
from dask_hpc import HPCCluster
from tests.site.beds import BED
from tests.site.slurm import counted_commands, run, wait_until

pytestmark = pytest.mark.timeout(120)
slurm = pytest.mark.skipif(BED.batch != "slurm", reason="Slurm's own forecasts")
sge = pytest.mark.skipif(BED.batch != "sge", reason="Grid Engine's own forecasts")

#: A node of 16 cores, or four of them.
LARGE: dict[str, Any] = {"cores": 16, "memory": "2 GiB", "walltime": "2 h"}
SMALL = [{"cores": 4, "walltime": "10 min"}]
HOST = "node0"
MINUTES = {1: 30, 2: 40, 3: 50, 4: 60}


@pytest.fixture
def filled() -> Iterator[None]:
    """Three of four nodes are taken, and half of the fourth."""
    run_of = f"fill-{secrets.token_hex(2)}"
    cores = {1: 16, 2: 16, 3: 16, 4: 8}
    if BED.batch == "slurm":
        for node, minutes in MINUTES.items():
            run(
                *("sbatch", f"--job-name={run_of}", f"--nodelist={HOST}{node}", "--mem=8000M"),
                *(f"--cpus-per-task={cores[node]}", f"--time={minutes}", "--output=/dev/null"),
                "--wrap=exec sleep 3600",
            )
        listed = ("squeue", "--noheader", "--states=RUNNING", f"--name={run_of}", "--format=%i")
        wait_until(lambda: len(run(*listed).split()) == 4, 20, "the nodes are filled")
        yield
        run("scancel", f"--name={run_of}")
        wait_until(lambda: not run(*listed[:2], *listed[3:]).split(), 20, "the nodes are free")
        return
    for node, minutes in MINUTES.items():
        run(
            *("qsub", "-N", run_of, "-q", f"all.q@{HOST}{node}", "-pe", "smp", str(cores[node])),
            *("-l", f"h_rt={60 * minutes}", "-o", "/dev/null", "-e", "/dev/null"),
            *("-b", "y", "/bin/sleep", "3600"),
        )
    wait_until(lambda: run("qstat", "-s", "r").count(run_of[:10]) == 4, 40, "the nodes are filled")
    yield
    run("qdel", run_of)
    wait_until(lambda: run_of[:10] not in run("qstat"), 20, "the nodes are free")


def planned(**more: Any) -> dask_hpc.cluster.planning.Plan:
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
    with HPCCluster(name="shape", shapes=SMALL, n_workers=2, dashboard_port=0, **LARGE) as cluster:
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
        with HPCCluster(
            name="gap", shapes=SMALL, n_workers=2, dashboard_port=0, **LARGE
        ) as cluster:
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
    impossible = planned(cores=17, processes=1, queue="all.q").rows[0].forecast
    assert "17" in impossible.refused or "PE" in impossible.refused
    with HPCCluster(name="shape", shapes=SMALL, n_workers=2, dashboard_port=0, **LARGE) as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 1
        cluster.wait_for_workers(2, timeout=60)
