"""The wheel and the sdist: what is in them, and that what is in them works by itself."""

from __future__ import annotations

import email
import json
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import dask_hpc
from tests.packaging.conftest import ROOT, Built, Installed

SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ["mpi", "drmaa", "jupyter", "docs", "test", "demo", "dashboard", "lint", "dev"]


def own_files() -> set[str]:
    """Of the package in the checkout."""
    found = (path for path in (SOURCE / "dask_hpc").rglob("*") if path.is_file())
    return {str(path.relative_to(SOURCE)) for path in found if path.suffix != ".pyc"}


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    """All its files, the data among them, what enables it in Jupyter, and five of its own."""
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    stem = f"dask_hpc-{dask_hpc.__version__}"
    own = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    shared = f"{stem}.data/data/etc/jupyter/jupyter_server_config.d/dask-hpc.json"
    assert names == own_files() | {f"{stem}.dist-info/{name}" for name in own} | {shared}
    assert {
        "dask_hpc/py.typed",
        "dask_hpc/config/dask-hpc.yaml",
        "dask_hpc/site/profiles/ncar-casper.yaml",
    } <= names


def test_what_jupyter_servers_load_is_there(installed: Installed) -> None:
    """Enabled by its installation, and of no weight where JupyterLab's extension is not."""
    file = installed.prefix / "etc" / "jupyter" / "jupyter_server_config.d" / "dask-hpc.json"
    (module,) = json.loads(file.read_text())["ServerApp"]["jpserver_extensions"]
    code = (
        f"import sys, {module} as module\n"
        "(point,) = module._jupyter_server_extension_points()\n"
        "module._load_jupyter_server_extension(None)\n"
        "print(point['module'], 'distributed' in sys.modules)"
    )
    assert installed.run("python", "-c", code).split() == [module, "False"]


def test_the_sdist_gives_the_same_wheel(built: Built) -> None:
    """To the byte: whoever packages it need not have the checkout."""
    assert built.wheel_of_sdist.name == built.wheel.name
    assert built.wheel_of_sdist.read_bytes() == built.wheel.read_bytes()


def test_the_sdist_holds_what_is_built_read_and_tested(built: Built) -> None:
    """The package, its tests and docs; nothing of a developer's own, and nothing generated."""
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    assert tops >= {"src", "tests", "docs", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO"}
    assert tops <= set(_included()) | {"src", "PKG-INFO", "pyproject.toml", ".gitignore"}
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|_build/|\.venv", name)]


def _included() -> list[str]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    paths: list[str] = tool["hatch"]["build"]["targets"]["sdist"]["only-include"]
    return paths


def test_everything_that_the_sdist_names_is_there() -> None:
    """A directory that was renamed would be left out without a word."""
    assert [path for path in _included() if not (ROOT / path).exists()] == []


def test_metadata_says_what_pyproject_says(built: Built) -> None:
    """Name, version, Python, extras: what pip reads."""
    found = metadata(built.wheel)
    assert found["Name"] == "dask-hpc"
    assert found["Version"] == dask_hpc.__version__
    assert found["Requires-Python"] == PROJECT["requires-python"]
    assert sorted(found.get_all("Provides-Extra")) == sorted(EXTRAS)
    needed = [each for each in found.get_all("Requires-Dist") if "extra ==" not in each]
    assert len(needed) == len(PROJECT["dependencies"])


@pytest.mark.parametrize(
    "command",
    [
        ("dask-hpc", "--help"),
        ("dask-hpc", "batch"),
        ("python", "-m", "dask_hpc", "--help"),
        ("dask", "hpc", "--help"),
        ("dask-worker", "--help"),
        ("dask-scheduler", "--help"),
        ("dask-mpi", "--help"),
    ],
    ids=" ".join,
)
def test_installed_commands_work(installed: Installed, command: tuple[str, ...]) -> None:
    """With what the wheel requires and no extra."""
    assert installed.run(*command).strip()


def test_every_command_of_pyproject_is_tried() -> None:
    """And of the entry point in ``dask``."""
    words = {each[0] for each in _tried()}
    assert words >= set(PROJECT["scripts"])


def _tried() -> list[tuple[str, ...]]:
    (mark,) = test_installed_commands_work.pytestmark  # type: ignore[attr-defined]
    commands: list[tuple[str, ...]] = mark.args[1]
    return commands


@pytest.mark.parametrize("words", [("dask-hpc",), ("python", "-m", "dask_hpc")], ids=" ".join)
def test_the_version_is_told_both_ways(installed: Installed, words: tuple[str, ...]) -> None:
    """``dask-hpc --version`` and ``python -m dask_hpc --version``."""
    assert dask_hpc.__version__ in installed.run(*words, "--version")


def test_every_public_name_is_importable(installed: Installed) -> None:
    """From the environment, and its data files are found there."""
    code = (
        "import dask_hpc, pathlib\n"
        "for name in dask_hpc.__all__: getattr(dask_hpc, name)\n"
        "from dask_hpc.config.reader import defaults\n"
        "print(defaults()['death_timeout'])\n"
        "print(pathlib.Path(dask_hpc.__file__).parent)"
    )
    seconds, where = installed.run("python", "-c", code).splitlines()
    assert seconds == "2 min"
    assert Path(where).is_relative_to(installed.prefix)
    assert "ncar-casper" in installed.run("dask-hpc", "site", "list")


def test_a_cluster_runs_from_the_wheel_alone(installed: Installed) -> None:
    """The jobs find everything in it that they need."""
    code = (
        "from dask_hpc import LocalJobCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalJobCluster(cores=1, memory='512 MiB', n_workers=1) as cluster:\n"
        "        print(cluster.get_client().submit(sum, [1, 2]).result(timeout=40))\n"
    )
    script = installed.home / "script.py"
    script.write_text(code)
    assert installed.run("python", str(script)).split()[-1] == "3"
