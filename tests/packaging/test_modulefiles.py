"""The module files, read by the programs that sites have: Environment Modules and Lmod."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import dask_hpc
from tests.packaging.conftest import ROOT, Installed

#: Where testbeds/modules-up.sh unpacks them.
BED = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds")) / "modules"
MODULE = f"dask-hpc/{dask_hpc.__version__}"


@dataclass(frozen=True)
class Reader:
    """A program that turns a module file into shell code.

    Parameters
    ----------
    argv
        What comes before ``bash load NAME``.
    file
        Which of our files it reads.
    suffix
        Of a module file's name.
    """

    argv: tuple[str, ...]
    file: str
    suffix: str = ""


def environment_modules() -> Reader:
    found = sorted(BED.glob("environment-modules/usr/lib/*/modulecmd.tcl"))
    if not found or shutil.which("tclsh") is None:
        pytest.skip("no Environment Modules: testbeds/modules-up.sh (root, Debian 12) has them")
    return Reader(("tclsh", str(found[0])), "dask-hpc.tcl")


def lmod(file: str, suffix: str) -> Reader:
    found = sorted(BED.glob("lmod/usr/share/lmod/*/libexec/lmod"))
    if not found or shutil.which("lua5.3") is None:
        pytest.skip("no Lmod: testbeds/modules-up.sh (root, Debian 12) has it")
    return Reader(("lua5.3", str(found[0])), file, suffix)


READERS: dict[str, Callable[[], Reader]] = {
    "environment-modules": environment_modules,
    "lmod": lambda: lmod("dask-hpc.lua", ".lua"),
    "lmod-reads-tcl": lambda: lmod("dask-hpc.tcl", ""),
}


@dataclass(frozen=True)
class Site:
    """A machine whose administrator installed the module."""

    reader: Reader
    modules: Path
    home: Path

    def shell(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """Run lines of bash where ``module`` is what the reader's own function is."""
        words = " ".join(self.reader.argv)
        function = f'module() {{ eval "$({words} bash "$@")"; }}'
        return subprocess.run(
            ["bash", "-uc", "\n".join([function, *lines])],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home), "MODULEPATH": str(self.modules)},
        )


@pytest.fixture(params=READERS)
def site(request: pytest.FixtureRequest, tmp_path: Path, installed: Installed) -> Site:
    reader = READERS[request.param]()
    root, modules = tmp_path / "opt", tmp_path / "modulefiles"
    root.mkdir()
    (root / dask_hpc.__version__).symlink_to(installed.prefix)
    text = (ROOT / "modulefiles" / reader.file).read_text()
    assert text.count("/opt/dask-hpc") == 1
    for version in (dask_hpc.__version__, "0.0.0"):  # the second is not installed
        file = modules / "dask-hpc" / f"{version}{reader.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("/opt/dask-hpc", str(root)))
    return Site(reader, modules, tmp_path)


def test_the_module_gives_the_commands(site: Site, tmp_path: Path) -> None:
    """And takes them away again."""
    done = site.shell(
        f"module load {MODULE}",
        "dask-hpc --version",
        "python -m dask_hpc --version",
        "command -v dask-hpc dask-worker dask-scheduler dask-mpi dask",
        f"module unload {MODULE}",
        "command -v dask-hpc || echo gone",
    )
    assert done.returncode == 0, done.stderr
    first, second, *commands, last = done.stdout.splitlines()
    assert dask_hpc.__version__ in first
    assert dask_hpc.__version__ in second
    directory = tmp_path / "opt" / dask_hpc.__version__ / "bin"
    assert {Path(each).parent for each in commands} == {directory}
    assert len(commands) == 5
    assert last == "gone"


def test_the_newest_version_is_what_its_name_alone_loads(site: Site) -> None:
    """As with any module."""
    done = site.shell("module load dask-hpc", "dask-hpc --version")
    assert dask_hpc.__version__ in done.stdout, done.stderr


def test_a_version_that_is_not_installed_is_an_error(site: Site) -> None:
    """In words, with the place; nothing is loaded."""
    done = site.shell("module load dask-hpc/0.0.0", "command -v dask-hpc || echo nothing")
    told = " ".join(done.stderr.split())  # Lmod breaks lines
    assert "dask-hpc/0.0.0 is not installed in" in told
    assert done.stdout.split()[-1] == "nothing"


def test_the_module_tells_what_it_is(site: Site) -> None:
    """``module whatis`` and ``module help``."""
    done = site.shell(f"module whatis {MODULE}", f"module help {MODULE}")
    assert "batch queue" in done.stderr + done.stdout
    assert "dask-hpc doctor" in done.stderr + done.stdout


def test_the_configuration_of_the_installation_counts(site: Site, installed: Installed) -> None:
    """What an administrator writes in its etc/dask is every user's default."""
    file = installed.prefix / "etc" / "dask" / "site.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('dask-hpc:\n  walltime: "17 min"\n  batch: local\n')
    look = "python - <<'EOF'\nimport dask\nprint(dask.config.get('dask-hpc.walltime'))\nEOF"
    try:
        done = site.shell(f"module load {MODULE}", look)
        assert "17 min" in done.stdout, done.stderr
    finally:
        file.unlink()
