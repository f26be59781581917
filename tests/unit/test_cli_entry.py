"""The front door: what is imported when, and how errors are shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from dask_hpc.cli import entry
from dask_hpc.errors import (
    BatchSystemError,
    ConfigurationError,
    HeadUnreachable,
    UnknownCluster,
    WorkersTimeout,
)
from tests.unit.cli_fakes import cluster, have


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
    [
        (ConfigurationError("wrong", hint="do right"), 78),
        (UnknownCluster("none"), 3),
        (HeadUnreachable("silent"), 3),
        (WorkersTimeout("late"), 4),
        (BatchSystemError("x"), 1),
    ],
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
    """Click's own exit code, and what may have been meant."""
    result = CliRunner().invoke(entry.hpc, ["wroker"])
    assert result.exit_code == 2
    assert "Did you mean 'worker'?" in result.output
    assert "Did you mean" not in CliRunner().invoke(entry.hpc, ["xyzzy"]).output


def test_ctrl_c_is_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a shell, and no traceback."""

    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "load", interrupted)
    result = CliRunner().invoke(entry.hpc, ["worker"])
    assert (result.exit_code, result.output) == (130, "interrupted\n")


def test_help_says_what_exit_codes_mean() -> None:
    """All that the commands use."""
    text = CliRunner().invoke(entry.hpc, ["--help"]).output
    for code in (entry.NO_CLUSTER, entry.NO_WORKERS, entry.BAD_REQUEST, entry.INTERRUPTED):
        assert f" {code} " in text


@pytest.mark.parametrize("name", entry._COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    """And is called as the table says; its options have a help."""
    command = entry.load(name)
    assert command.name == name
    assert CliRunner().invoke(entry.hpc, [name, "--help"]).exit_code == 0


# -- speed ----------------------------------------------------------------------------------------


def cpu_seconds(*arguments: str) -> float:
    """User and system time of `dask-hpc ARGUMENTS`, the best of five: the machine may be loaded."""
    best = float("inf")
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-m", "dask_hpc", *arguments], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        best = min(best, used.ru_utime + used.ru_stime)
    return best


def test_help_costs_less_than_150_ms() -> None:
    """Of CPU."""
    assert cpu_seconds("--help") < 0.150


def test_a_list_costs_less_than_400_ms_and_no_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor a table's library, in a pipe."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DASK_HPC_HOME", raising=False)
    assert cpu_seconds("ls") < 0.400
    heavy = {"distributed", "dask", "rich", "yaml", "jinja2", "numpy"}
    assert not imported_by("ls") & heavy


# -- completion -----------------------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What the shell offers for the last word."""
    complete = BashComplete(entry.hpc, {}, "dask-hpc", "_DASK_HPC_COMPLETE")
    return [each.value for each in complete.get_completions(list(words[:-1]), words[-1])]


def test_commands_options_and_names_of_clusters_are_completed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The commands from the table, without an import."""
    have(monkeypatch, cluster("study"), cluster("other"))
    assert completed("s") == ["status", "scale", "site", "scheduler"]
    assert completed("status", "--wa") == ["--watch"]
    assert completed("--v") == ["--version"]
    for command in ("status", "scale", "adapt", "renew", "jobs", "logs", "attach", "down"):
        assert completed(command, "st") == ["study"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_read_its_completion(shell: str) -> None:
    """By the variable that click looks at."""
    result = CliRunner().invoke(entry.hpc, ["completion", shell])
    assert f"_DASK_HPC_COMPLETE={shell}_complete" in result.stdout


def test_bash_completes_commands_with_it() -> None:
    """The words go through the command itself."""
    done = subprocess.run(
        [sys.executable, "-m", "dask_hpc"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={
            **os.environ,
            "_DASK_HPC_COMPLETE": "bash_complete",
            "COMP_WORDS": "dask-hpc sta",
            "COMP_CWORD": "1",
        },
    )
    assert done.stdout == "plain,status\n"
