"""The front door: what is imported when, and how errors are shown."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dask_hpc.cli import entry
from dask_hpc.errors import BatchSystemError, ConfigurationError


def imported_by(*arguments: str) -> set[str]:
    """Modules that `dask-hpc ARGUMENTS` imports."""
    code = (
        "import sys; from dask_hpc.cli.entry import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("worker", "--help")])
def test_help_imports_no_engine(arguments: tuple[str, ...]) -> None:
    """Help is instant, and a worker's start may still change its environment."""
    modules = imported_by(*arguments)
    heavy = {"distributed", "dask", "dask_hpc.cluster", "rich", "yaml", "jinja2", "numpy"}
    assert not modules & heavy


def test_help_imports_no_command() -> None:
    """Their first lines stand in a table."""
    assert {name for name in imported_by("--help") if name.startswith("dask_hpc.cli.")} == {
        "dask_hpc.cli.entry"
    }


def test_the_module_and_the_group_show_the_same_commands() -> None:
    """`python -m dask_hpc` is what job scripts call; `dask hpc` what users find."""
    done = subprocess.run(
        [sys.executable, "-m", "dask_hpc", "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "COLUMNS": "80"},
    )
    for name in ("worker", "scheduler", "demo", "batch"):
        assert f"  {name} " in done.stdout
    assert "Usage: dask-hpc" in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError("wrong", hint="do right"), 78), (BatchSystemError("x"), 1)],
)
def test_an_error_of_ours_is_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """No traceback for what the user can mend."""

    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(entry, "load", fail)
    result = CliRunner().invoke(entry.hpc, ["worker"])
    assert result.exit_code == code
    assert result.output.startswith(f"Error: {error}")


def test_a_refused_option_ends_the_classic_command_with_its_message() -> None:
    """`dask-worker` shows errors as `dask-hpc worker` does."""
    done = subprocess.run(
        [sys.executable, "-c", "from dask_hpc.cli.entry import worker; worker()", "--no-nanny"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 78
    assert done.stderr.startswith("Error: --no-nanny is not offered")


def test_an_unknown_command_is_a_usage_error() -> None:
    """Click's own exit code."""
    assert CliRunner().invoke(entry.hpc, ["wroker"]).exit_code == 2
