"""The images: what they copy is enough to build, both are the same, and jobs run inside one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from dask_hpc import LocalJobCluster
from tests.integration.account import Account
from tests.packaging.conftest import ROOT, Built, Installed, build

DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text()
DEFINITION = (ROOT / "containers" / "dask-hpc.def").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def copied() -> set[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def section(name: str) -> list[str]:
    """Lines of a section of the definition."""
    (body,) = re.findall(rf"^%{name}\n((?:    .*\n|\n)+)", DEFINITION, re.MULTILINE)
    return [line.strip() for line in body.splitlines() if line.strip()]


def commands() -> list[str]:
    """What the Dockerfile runs."""
    (body,) = re.findall(r"^RUN ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    return [" ".join(each.split()) for each in body.replace("\\\n", "").split("&&")]


def test_both_images_are_the_same() -> None:
    """Base, files, commands."""
    assert {line.split()[0] for line in section("files")} == copied()
    assert section("post") == commands()
    (base,) = re.findall(r"^ARG BASE=docker.io/library/(\S+)$", DOCKERFILE, re.MULTILINE)
    assert f"\nFrom: {base}\n" in DEFINITION


def test_what_they_copy_gives_the_wheel(tmp_path: Path, built: Built) -> None:
    """A file that the build comes to need is missed here first."""
    source = tmp_path / "source"
    source.mkdir()
    for name in copied():
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, source / name)
    wheel = build(source, tmp_path / "out", "--wheel")
    assert wheel.read_bytes() == built.wheel.read_bytes()


def test_the_extras_that_they_install_exist() -> None:
    """By their present names: pip passes over one that it does not know."""
    (names,) = re.findall(r"/build\[(.*)\]", commands()[1])
    assert set(names.split(",")) <= set(EXTRAS)


@pytest.fixture
def runtime(tmp_path: Path, installed: Installed) -> Path:
    """A program that plays ``apptainer exec [OPTIONS] IMAGE COMMAND``.

    It wants an image that exists, and in it there is another Python, on its PATH alone.
    """
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/bash\n"
        'while [ "${1#-}" != "$1" ] || [ "$1" = exec ]; do\n'
        '    [ "$1" = --bind ] && shift\n'
        "    shift\n"
        "done\n"
        '[ -f "$1" ] || { echo "FATAL: could not open image $1" >&2; exit 255; }\n'
        'export APPTAINER_CONTAINER="$1"\n'
        f"export PATH={shlex.quote(str(installed.prefix / 'bin'))}:$PATH\n"
        "shift\n"
        "unset PYTHONPATH\n"
        'exec "$@"\n'
    )
    program.chmod(0o700)
    return program


@pytest.mark.filterwarnings("ignore:Mismatched versions")  # the image has no numpy
def test_jobs_run_in_an_image(
    account: Account, runtime: Path, tmp_path: Path, installed: Installed
) -> None:
    """``python=`` is a command: the runtime, its options, the image, the Python inside."""
    image = tmp_path / "my images" / "dask-hpc.sif"
    image.parent.mkdir()
    image.touch()
    inside = f"{runtime} exec --bind {tmp_path}:/data {shlex.quote(str(image))} python"
    with LocalJobCluster(cores=2, processes=2, memory="1 GiB", python=inside) as cluster:
        assert f"'{image}' python -m dask_hpc worker" in cluster.job_script()
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=45)
        with cluster.get_client() as client:
            seen = client.run(lambda: (sys.prefix, os.environ["APPTAINER_CONTAINER"]))
    assert set(seen.values()) == {(str(installed.prefix), str(image))}
