"""The job script: what reaches the shell as text, and what as code."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_hpc.drivers.script import NODE, WORKER_PREFIX, job_script
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

SLURM = Slurm()
SPEC = JobSpec(command=("true",), cores=1, log_directory=Path("/logs"))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def script(**changes: Any) -> str:
    return job_script(replace(SPEC, **changes), SLURM)


def run(text: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script as Slurm does: as a file, with its variables set."""
    variables = {"SLURM_JOB_NAME": "mine-7f", "SLURM_ARRAY_TASK_ID": "3"}
    return subprocess.run(
        ["bash", "-c", text],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        check=False,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS.filter(lambda word: word not in (WORKER_PREFIX, NODE)), max_size=4), WORDS)
def test_any_word_survives_the_shell(words: Sequence[str], value: str) -> None:
    """Blanks, quotes, line breaks, dollars: the command gets them as they were."""
    text = script(command=("printf", "%s\\0", "head", *words), environment=(("GIVEN", value),))
    text = text.replace("exec ", 'printf "%s\\0" "$GIVEN"\nexec ', 1)
    out = run(text).stdout.decode().split("\0")[:-1]
    assert out == [value, "head", *words]


def test_the_worker_name_comes_from_the_running_job() -> None:
    """Job name and index are known in the job alone."""
    text = script(command=("printf", "%s", WORKER_PREFIX))
    assert run(text).stdout == b"mine-7f-3"


def test_without_an_epilogue_the_command_replaces_the_shell() -> None:
    """Signals of the batch system reach it directly."""
    assert script().endswith("\nexec true\n")


def test_an_epilogue_runs_after_the_command_and_keeps_its_exit_status() -> None:
    """A worker that failed must not look as if it had ended well."""
    text = script(command=("bash", "-c", "echo work; exit 7"), epilogue=("echo clean",))
    assert "exec " not in text
    done = run(text)
    assert (done.stdout, done.returncode) == (b"work\nclean\n", 7)


def test_skipping_matches_whole_option_names() -> None:
    """Skipping --mem leaves --mem-per-cpu alone."""
    text = script(memory=2**30, directives_skip=("--mem", "--node"))
    assert "--mem" not in text
    assert "--nodes=1" in text


def test_skipping_leaves_the_users_own_directives() -> None:
    """Skip ours, write yours: --mem=0 for the whole node."""
    text = script(memory=2**30, directives=("--mem=0",), directives_skip=("--mem",))
    assert text.count("--mem") == 1
    assert "#SBATCH --mem=0\n" in text


def test_an_empty_directive_is_left_out() -> None:
    """A configuration file may hold one."""
    assert script(directives=("", " ")) == script()


@pytest.mark.parametrize(
    "changes",
    [
        {"directives": ("--comment=a\nrm -rf /",)},
        {"directives": ("--comment=a\rb",)},
        {"directives": ("#SBATCH --exclusive",)},
        {"queue": "main\n#SBATCH --uid=0"},
        {"environment": (("A B", "1"),)},
        {"environment": (("A=1; rm -rf /; B", "1"),)},
        {"environment": (("A\n", "1"),)},
        {"command": ("true", "\0")},
    ],
)
def test_what_would_break_out_of_its_line_is_refused(changes: dict[str, Any]) -> None:
    """Line breaks in directives, names that are no names, null characters."""
    with pytest.raises(ConfigurationError):
        script(**changes)


def test_the_command_starts_where_the_user_is_if_the_node_has_that(tmp_path: Path) -> None:
    """A user's own modules lie there; a directory that the node lacks is no failure."""
    here = tmp_path / "my 100% $dir"
    here.mkdir()
    assert run(script(command=("pwd",), directory=here)).stdout.decode().strip() == str(here)
    gone = run(script(command=("true",), directory=tmp_path / "gone"))
    assert (gone.returncode, gone.stderr) == (0, b"")
