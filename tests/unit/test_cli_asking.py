"""What is asked of a cluster on the command line, and its rehearsal."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dask_hpc.cli import asking
from dask_hpc.cli.entry import hpc


def test_options_become_keywords_and_sizes() -> None:
    """Pools have their sizes among their options."""
    found = asking.asked(
        cores=4,
        memory=None,
        name="study",
        jobs=3,
        pools=("gpu:gpus=1,queue=a,b,jobs=2", "big:memory=1 TiB,workers=8", "idle:"),
        more=("spill=never", "job-extra-directives=[--exclusive]", "walltime=01:30"),
    )
    assert found.keywords == {
        "cores": 4,
        "name": "study",
        "spill": "never",
        "job_extra_directives": ["--exclusive"],
        "walltime": "01:30",
        "pools": {"gpu": {"gpus": 1, "queue": "a,b"}, "big": {"memory": "1 TiB"}, "idle": {}},
    }
    assert found.sizes == {None: {"jobs": 3}, "gpu": {"jobs": 2}, "big": {"n": 8}}


def test_one_size_can_be_asked_for() -> None:
    """Jobs, workers, or as many as the tasks can use."""
    assert asking.asked(workers=0).sizes == {None: {"n": 0}}
    assert asking.asked(adapt="0:8").bounds == {"minimum_jobs": 0, "maximum_jobs": 8}
    assert asking.asked(adapt="2:").bounds == {"minimum_jobs": 2}
    with pytest.raises(click.UsageError):
        asking.asked(jobs=1, adapt="0:8")


@pytest.mark.parametrize("text", ["8", "a:b", "1:2:3", "-1:4"])
def test_what_are_no_bounds_is_refused(text: str) -> None:
    """As wrong usage."""
    with pytest.raises(click.UsageError):
        asking.bounds(text)


@pytest.mark.parametrize(
    "text", ["gpu:gpus", ":gpus=1", "gpu:jobs=-1", "gpu:jobs=1,workers=2", "g:a=["]
)
def test_what_is_no_pool_is_refused(text: str) -> None:
    """As wrong usage."""
    with pytest.raises(click.UsageError):
        asking.pool(text)


class Told:
    """A cluster that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def scale(self, **size: object) -> None:
        self.calls.append(size)

    def adapt(self, **bounds: object) -> None:
        self.calls.append(bounds)


def test_sizes_are_asked_for_pool_by_pool() -> None:
    """In the words of scale() and adapt()."""
    told = Told()
    asking.asked(adapt="0:8", pools=("gpu:jobs=2",)).set_size(told)
    assert told.calls == [{"jobs": 2, "pool": "gpu"}, {"minimum_jobs": 0, "maximum_jobs": 8}]


# -- the rehearsal --------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DASK_HPC_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # whatever it runs is not there
    return tmp_path


ASKED = ("--batch", "slurm", "--cores", "4", "--memory", "8 GiB", "--name", "study")


@pytest.mark.parametrize("command", ["up", "run"])
def test_a_dry_run_prints_script_and_command_and_touches_nothing(home: Path, command: str) -> None:
    """No directory is made, no program run."""
    script = [__file__] if command == "run" else []
    result = CliRunner().invoke(hpc, [command, *ASKED, "--jobs", "1500", "--dry-run", *script])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"# pool default: {home}/.dask-hpc/study/job-default.sh"
    assert "#SBATCH --cpus-per-task=4" in lines
    submits = [line for line in lines if line.startswith("sbatch ")]
    assert [word for line in submits for word in line.split() if "--array" in word] == [
        "--array=0-999",
        "--array=0-499",
    ]
    assert list(home.iterdir()) == []


def test_a_dry_run_knows_every_pool(home: Path) -> None:
    """As JSON too; a pool without a size has a script alone."""
    result = CliRunner().invoke(
        hpc, ["up", *ASKED, "--pool", "gpu:gpus=1,jobs=2", "--dry-run", "--json"]
    )
    found = json.loads(result.stdout)
    assert (found["cluster"], found["batch"]) == ("study", "slurm")
    default, gpu = found["pools"]
    assert (default["what"], default["jobs"], default["commands"]) == ("pool default", 0, [])
    assert gpu["jobs"] == 2
    assert "#SBATCH --gres=gpu:1" in gpu["script"]
    assert gpu["commands"][0].endswith(f" {home}/.dask-hpc/study/job-gpu.sh")


def test_a_dry_run_shows_the_job_of_the_head(home: Path) -> None:
    """First, as it is submitted first."""
    words = ("--head", "job", "--head-option", "walltime=12:00:00", "--jobs", "1", "--dry-run")
    text = CliRunner().invoke(hpc, ["up", *ASKED, *words]).stdout
    head, _, workers = text.partition("# pool default")
    assert "#SBATCH --time=12:00:00" in head
    assert "dask_hpc.cluster.head_process" in head
    assert "--job-name=study-head-xxxxxx" in head
    assert "--job-name=study-xxxxxx" in workers
    assert list(home.iterdir()) == []
    mute = CliRunner().invoke(hpc, ["up", *ASKED, "--head-option", "submits=false", *words])
    assert mute.stdout == text
    alone = CliRunner().invoke(hpc, ["up", *ASKED, "--head-option", "walltime=1h", "--dry-run"])
    assert alone.exit_code == 2


@pytest.mark.parametrize("command", ["up", "run"])
def test_what_can_never_work_is_said_before_anything_happens(home: Path, command: str) -> None:
    """Exit code 78."""
    script = [__file__] if command == "run" else []
    wrong = [command, *ASKED, "--option", "wallclock=3", "--dry-run", *script]
    result = CliRunner().invoke(hpc, wrong)
    assert result.exit_code == 78
    assert "no option wallclock=" in result.stderr
    assert list(home.iterdir()) == []
