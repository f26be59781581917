"""What users install: both distributions, built once, and an environment with the wheel in it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import account

__all__ = ["account"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Built:
    """The distributions: of the checkout, and the wheel that the sdist gives."""

    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and what it requires, and nothing else."""

    prefix: Path
    home: Path

    def run(self, *words: str) -> str:
        """What a command of the environment prints; it must succeed, as a user who has nothing."""
        done = subprocess.run(
            [self.prefix / "bin" / words[0], *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def build(source: Path, out: Path, *what: str) -> Path:
    """Run the build in this environment, whose hatchling is the one of the extra `test`."""
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", out, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.mktemp("dist")
    sdist = build(ROOT, base / "sdist", "--sdist")
    subprocess.run(["tar", "-xzf", sdist, "-C", base], check=True)
    source = base / sdist.name.removesuffix(".tar.gz")
    return Built(
        sdist,
        build(ROOT, base / "wheel", "--wheel"),
        build(source, base / "wheel-of-sdist", "--wheel"),
    )


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    prefix = tmp_path_factory.mktemp("environment")
    venv.create(prefix, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python"]
    done = subprocess.run(
        [*pip, prefix / "bin" / "python", "install", "--no-compile", built.wheel],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Installed(prefix, tmp_path_factory.mktemp("home"))
