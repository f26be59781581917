"""Which drivers there are, and which batch system a machine is told to have."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from dask_hpc.batch import detect as edge
from dask_hpc.cli.batch import batch
from dask_hpc.drivers.local import Local
from dask_hpc.drivers.registry import DRIVERS, GROUP, Detection, Drivers, detect, driver
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

SLURM_PATHS = {name: f"/usr/bin/{name}" for name in Slurm.programs}


class Other(Slurm):
    """A driver of another package."""

    name = "other"
    programs = ("osub", "ostat", "odel")


@pytest.mark.parametrize(("name", "kind"), [("slurm", Slurm), (" Slurm ", Slurm), ("local", Local)])
def test_a_driver_is_made_by_name(name: str, kind: type) -> None:
    """However the user writes it."""
    assert type(driver(name)) is kind


@pytest.mark.parametrize(
    ("name", "hint"), [("slrum", "did you mean 'slurm'?"), ("xyz", "dask_hpc.drivers")]
)
def test_an_unknown_name_is_refused_with_what_there_is(name: str, hint: str) -> None:
    """A close match is offered, else the way to add one."""
    with pytest.raises(ConfigurationError, match="there are: slurm, flux, pbs, ") as caught:
        driver(name)
    assert hint in caught.value.hint


def test_each_driver_goes_by_its_own_name() -> None:
    """The registry and the class agree."""
    assert {name: DRIVERS[name].name for name in DRIVERS} == {name: name for name in DRIVERS}


def test_another_package_may_add_a_driver_but_not_replace_one() -> None:
    """By an entry point, loaded when it is asked for."""
    drivers = Drivers(
        (
            EntryPoint("other", f"{__name__}:Other", GROUP),
            EntryPoint("slurm", f"{__name__}:Other", GROUP),
            EntryPoint("broken", "no.such.module:Driver", GROUP),
        )
    )
    assert list(drivers)[-3:] == ["local", "other", "broken"]
    assert list(drivers).count("slurm") == 1
    assert drivers["other"] is Other
    assert drivers["slurm"] is Slurm


def test_a_machine_with_all_programs_has_the_batch_system() -> None:
    """The reason names the first program's path."""
    assert detect(SLURM_PATHS, {}) == Detection("slurm", "sbatch is /usr/bin/sbatch")


def test_without_a_batch_system_jobs_run_locally() -> None:
    """The reason says what was looked for."""
    found = detect({}, {})
    assert found.name == "local"
    assert "looked for slurm" in found.why


def test_half_a_batch_system_is_none_and_the_reason_says_so() -> None:
    """A node may have squeue alone; inside a job that deserves a word."""
    found = detect({"squeue": "/usr/bin/squeue", "sbatch": None}, {"SLURM_JOB_ID": "12"})
    assert found.name == "local"
    assert "slurm lacks sbatch, scancel" in found.why
    assert "this is slurm job 12" in found.why


def test_of_two_batch_systems_the_first_is_taken_and_the_other_named() -> None:
    """Wrappers of another system's commands are common."""
    drivers = {"other": Other, "slurm": Slurm}
    paths = SLURM_PATHS | {name: f"/opt/{name}" for name in Other.programs}
    assert detect(paths, {}, drivers) == Detection("other", "osub is /opt/osub; also here: slurm")


def test_inside_a_job_its_batch_system_wins() -> None:
    """Whatever else is installed."""
    drivers = {"other": Other, "slurm": Slurm}
    paths = SLURM_PATHS | {name: f"/opt/{name}" for name in Other.programs}
    found = detect(paths, {"SLURM_JOB_ID": "12"}, drivers)
    assert found.name == "slurm"
    assert "job 12" in found.why


@pytest.fixture
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path


def install(directory: Path, body: str) -> None:
    for name in Slurm.programs:
        (directory / name).write_text(f"#!{sys.executable} -S\n{body}\n")
        (directory / name).chmod(0o755)


def test_the_path_is_searched(bin_directory: Path) -> None:
    """Programs that are not executable are not there."""
    assert edge.detect().name == "local"
    install(bin_directory, "print('slurm 22.05.8')")
    assert edge.detect() == Detection("slurm", f"sbatch is {bin_directory}/sbatch")
    assert edge.version("slurm") == "slurm 22.05.8"
    (bin_directory / "scancel").chmod(0o644)
    assert edge.detect().name == "local"


@pytest.mark.parametrize(
    "body", ["raise SystemExit(3)", "pass", "import threading; threading.Event().wait()"]
)
def test_a_version_that_is_not_told_is_empty(
    bin_directory: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper that fails, says nothing or hangs holds nobody up."""
    install(bin_directory, body)
    monkeypatch.setattr(edge, "VERSION_TIMEOUT", 1)
    assert edge.version("slurm") == ""


def test_local_has_no_version_of_its_own(bin_directory: Path) -> None:
    """Nor has a batch system whose programs are not here."""
    assert edge.version("local") == edge.version("slurm") == ""


def test_the_command_tells_people_and_programs(bin_directory: Path) -> None:
    """Plain lines where nothing is a terminal, JSON on request."""
    install(bin_directory, "print('slurm 22.05.8')")
    told = {
        "batch": "slurm",
        "version": "slurm 22.05.8",
        "why": f"sbatch is {bin_directory}/sbatch",
        "server": "answers",
    }
    result = CliRunner().invoke(batch, ["--json"])
    assert json.loads(result.output) == told
    result = CliRunner().invoke(batch)
    assert result.output.splitlines() == [f"{key}: {value}" for key, value in told.items()]


def test_on_a_terminal_a_table_is_drawn(
    bin_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a dash where there is nothing to tell."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert batch.callback is not None
    batch.callback(as_json=False)
    out = capsys.readouterr().out
    assert "local" in out
    assert "│ version │ -" in out


QSUB = dict.fromkeys(("qsub", "qstat", "qdel", "qselect", "qconf"))


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("pbs_version = 23.06.06\n", "pbs"),
        ("Version: master\nCommit: 34ff845417cc0348dfe0a61a491e5e0f4adf6ef4\n", "torque"),
        ("SGE 8.1.9\nusage: qstat [options]\n", "sge"),
        ("Unknown option: version\nUsage:\n    qstat [-f] [-a|-i|-r] [-n [-1]]\n", "local"),
        ("", "local"),
    ],
)
def test_batch_systems_whose_commands_have_the_same_names_are_told_by_their_version(
    printed: str, name: str
) -> None:
    """PBS, TORQUE and Grid Engine all have a qsub, and Slurm ships wrappers of that name."""
    paths = {program: f"/usr/bin/{program}" for program in QSUB}
    found = detect(paths, {}, versions=dict.fromkeys(("pbs", "torque", "sge"), printed))
    assert found.name == name
    if name == "local":
        assert "qsub is /usr/bin/qsub, but its version is not pbs's" in found.why
    else:
        assert "version" in found.why
