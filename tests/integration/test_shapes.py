"""A cluster that chooses its shape of job, on the embedded batch system."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import dask_hpc
from dask_hpc.cli.entry import hpc
from dask_hpc.errors import ConfigurationError
from tests.helpers import wait_until

if TYPE_CHECKING:
    from tests.integration.account import Account

LOCAL = [sys.executable, "-P", "-m", "dask_hpc.batch.local"]
#: Of the four slots of an account here, one job takes three for ten minutes.
SHAPES = [{"cores": 1, "walltime": "5 min"}]


def local(*words: str) -> str:
    return subprocess.run([*LOCAL, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def filled(account: Account) -> Account:
    script = account.path / "fill.sh"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    local("submit", "--cores=3", "--walltime=600", "--log=/dev/null", str(script))
    wait_until(lambda: "running|3" in local("load"))
    return account


def test_a_small_shape_is_taken_where_the_large_one_would_wait(filled: Account) -> None:
    """All jobs have it; the plan says why."""
    with filled.cluster(cores=4, walltime="11 min", shapes=SHAPES, n_workers=1) as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 1
        assert "in 10 min" in cluster.shape_plan.why
        assert cluster.options.cores == 1
        assert cluster.options.walltime == 300
        cluster.wait_for_workers(1, timeout=40)
        assert "--cores=1" in cluster.job_script()
        assert "--walltime=300" in cluster.job_script()
        [ours] = [row for row in local("query").splitlines() if "test-" in row]
        assert "|RUNNING|" in ours


def test_who_waits_already_comes_first(filled: Account) -> None:
    """One of four cores waits for the one that runs, and small ones wait behind it."""
    script = str(filled.path / "fill.sh")
    local("submit", "--cores=4", "--walltime=300", "--log=/dev/null", script)
    assert "pending|4|300" in local("load")
    plan = dask_hpc.plan(cores=4, walltime="11 min", shapes=SHAPES, batch="local", workers=1)
    assert [row.forecast.first for row in plan.rows] == [pytest.approx(900, abs=10)] * 2
    assert plan.why.startswith("no shape is known to start within 11 min")


def test_what_was_asked_for_is_taken_where_it_starts_at_once(account: Account) -> None:
    """The first is the user's first choice; nothing is asked without shapes."""
    with account.cluster(cores=4, walltime="11 min", shapes=SHAPES) as cluster:
        assert cluster.shape_plan is not None
        assert cluster.shape_plan.chosen == 0
        assert cluster.options.cores == 4
        assert cluster.shape_plan.workers == 4
    with account.cluster() as cluster:
        assert cluster.shape_plan is None
    account.wait_until_nothing_is_left()


def test_a_dry_run_submits_nothing(filled: Account) -> None:
    """It prints what a cluster would do, in a notebook's event loop as well."""
    keywords: dict[str, Any] = {"cores": 4, "walltime": "11 min", "batch": "local", "workers": 1}
    plan = dask_hpc.plan(shapes=SHAPES, **keywords)
    assert plan.best.shape.cores == 1
    assert "->  1 core, 00:05:00" in str(plan)
    assert local("query").count("\n") == 1
    assert filled.left() == []
    with pytest.raises(ConfigurationError, match="cannot plan for -1 workers"):
        dask_hpc.plan(**{**keywords, "workers": -1})


async def test_a_dry_run_works_in_a_running_event_loop(account: Account) -> None:
    """As in a notebook."""
    plan = dask_hpc.plan(cores=5, shapes=SHAPES, batch="local")
    assert plan.rows[0].forecast.refused == "it has 4 slots"
    assert plan.best.shape.cores == 1


def test_the_command_prints_the_table_and_json(filled: Account) -> None:
    """Exit code 1 where no shape can run, 78 for what is no shape."""
    words = ["plan", "--batch=local", "--cores=4", "--walltime=11 min", "--workers=1"]
    shape = "--shape=cores=1,walltime=5min"
    done = CliRunner().invoke(hpc, [*words, shape])
    assert done.exit_code == 0, done.output
    assert "│ -> │ 1 core, 00:05:00" in done.output
    assert "worker-hours within 11 min" in done.output
    done = CliRunner().invoke(hpc, [*words, shape, "--json"])
    found = json.loads(done.output)
    assert found["chosen"] == 1
    assert found["shapes"][1]["starts"] == [{"jobs": 1, "seconds": 0.0}]
    assert 590 <= found["shapes"][0]["starts"][0]["seconds"] <= 600
    done = CliRunner().invoke(hpc, ["plan", "--batch=local", "--cores=9"])
    assert done.exit_code == 1
    assert "it has 4 slots" in done.output
    assert CliRunner().invoke(hpc, [*words, "--shape=cores=4,wall=1"]).exit_code == 78
    assert CliRunner().invoke(hpc, [*words, "--shape=cores"]).exit_code == 2
