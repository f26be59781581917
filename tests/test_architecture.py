"""The rules of design.md that a machine can check."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "dask_hpc"
FILES = sorted(SOURCE.rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 50
DRIVER_LINES = 200
#: Imported modules that make a command slow: seconds on a shared file system.
HEAVY = {"distributed", "dask", "tornado", "pandas", "numpy", "bokeh"}
ENTRY = SOURCE / "cli" / "entry.py"
#: Imports that close a circle, each made when it is called for.
CLOSING = {
    # A cluster that is attached to is a cluster, and begins at that class.
    ("dask_hpc.cluster.hpc_cluster", "dask_hpc.cluster.attached"),
}


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def fresh(code: str) -> str:
    """Run code in a new interpreter; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after some code."""
    lines = fresh(f"{code}\nimport sys\nprint('\\n@', *sys.modules)").splitlines()
    return {name.partition(".")[0] for name in lines[-1].split()}


def test_imports_go_down_the_layers_only() -> None:
    """The contracts of import-linter in pyproject.toml hold."""
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_stay_short(path: Path) -> None:
    """A file past 400 lines, or of a driver past 200, or a function past 50 wants to be two things.

    Tables of words (``slurm_words.py``) grow with what batch systems say, and the contract is no
    driver: they count as any file.
    """
    text = path.read_text(encoding="utf-8")
    other = path.stem.endswith("_words") or path.stem == "base"
    driver = path.parent.name == "drivers" and not other
    limit = DRIVER_LINES if driver else FILE_LINES
    assert len(text.splitlines()) <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_says_what_it_is_for(path: Path) -> None:
    """Its first lines are a docstring."""
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_only_commands_print() -> None:
    """Libraries log; the command line and the local batch system's commands print."""
    allowed = re.compile(r"cli/|batch/local")
    printing = [
        f"{relative(path)}:{node.lineno}"
        for path in FILES
        if not allowed.match(relative(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert printing == []


def test_importing_the_package_loads_no_engine() -> None:
    """Public names are imported when they are used."""
    assert loaded_by("import dask_hpc") & HEAVY == set()


def test_importing_the_package_installs_no_signal_handler() -> None:
    """A library leaves the process as it found it."""
    code = (
        "import signal\n"
        "def handlers(): return [signal.getsignal(s) for s in sorted(signal.valid_signals())]\n"
        "before = handlers()\nimport dask_hpc\nprint(before == handlers())"
    )
    assert fresh(code).strip() == "True"


def test_no_module_imports_itself_through_others() -> None:
    """Those that name another's types alone aside."""
    graph = grimp.build_graph("dask_hpc", exclude_type_checking_imports=True, cache_dir=None)
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            if (module, other) not in CLOSING:
                sorter.add(module, other)
    sorter.prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("part", ["node", "launch", "model", "drivers"])
def test_what_starts_on_every_node_loads_no_engine(part: str) -> None:
    """A job's start reads few files: thousands of nodes read them at once."""
    modules = [
        "dask_hpc." + relative(path).removesuffix(".py").replace("/", ".")
        for path in (SOURCE / part).glob("*.py")
        if path.name not in ("__init__.py", "fork_server.py")  # the latter runs in a warm server
        and "distributed" not in path.read_text(encoding="utf-8")
    ]
    loaded = loaded_by("\n".join(f"import {module}" for module in modules))
    assert loaded & HEAVY == set()


def test_the_commands_load_no_engine_until_they_run() -> None:
    """``dask-hpc --help`` and shell completion answer at once."""
    if not ENTRY.exists():
        pytest.skip("dask_hpc.cli.entry is not there yet")
    code = (
        "from click.testing import CliRunner\n"
        "from dask_hpc.cli.entry import hpc\n"
        "result = CliRunner().invoke(hpc, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
    )
    loaded = loaded_by(code)
    assert loaded & HEAVY == set()
    assert not any(
        name.startswith("dask_hpc.cluster.")
        for name in fresh(code + "import sys; print(*sys.modules)").split()
    )
