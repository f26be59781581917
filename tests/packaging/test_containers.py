"""The images: what they copy is enough to build, both are the same, and jobs run inside one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import tomllib
from pathlib import Path

import psutil
import pytest

from tests.helpers import wait_until
from tests.integration.account import Account
from tests.integration.supervised import running
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


#: A program that plays ``apptainer exec [OPTIONS] IMAGE COMMAND``: it wants an image that exists,
#: in which there is another Python, on its PATH alone; and as Apptainer itself, it stays, waits for
#: the command and passes on signals (MonitorContainer in its source).
RUNTIME = """
import os, signal, subprocess, sys

words = iter(sys.argv[1:])
assert next(words) == "exec"
for image in words:
    if not image.startswith("-"):
        break
    next(words)
if not os.path.exists(image):
    sys.exit(f"FATAL:   could not open image {image}")
inside = {**os.environ, "APPTAINER_CONTAINER": image, "PATH": "@BIN@:/usr/bin:/bin"}
inside.pop("PYTHONPATH", None)
command = ["/usr/bin/env", *words]
process = subprocess.Popen(command, env=inside)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: process.send_signal(number))
status = process.wait()
sys.exit(status if status >= 0 else 128 - status)
"""


@pytest.fixture
def runtime(tmp_path: Path, installed: Installed) -> Path:
    code = tmp_path / "runtime.py"
    code.write_text(RUNTIME.replace("@BIN@", str(installed.prefix / "bin")))
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "{code}" "$@"\n')
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
    with account.cluster(python=inside, n_workers=2) as cluster, cluster.get_client() as client:
        assert f"'{image}' python -m dask_hpc worker" in cluster.job_script()
        cluster.wait_for_workers(2, timeout=45)
        seen = client.run(lambda: (sys.prefix, os.environ["APPTAINER_CONTAINER"]))
        assert set(seen.values()) == {(str(installed.prefix), str(image))}

        # a signal of the batch system to the job's first process alone
        first, *_ = client.scheduler_info(n_workers=-1)["workers"]
        data = client.scatter({"x": list(range(1000))}, workers=[first])["x"]
        # from the worker: the fork server, the supervisor, the runtime
        above = client.run(lambda: psutil.Process().parents()[2].pid, workers=[first])[first]
        job = psutil.Process(above)
        assert str(runtime.parent.parent / "runtime.py") in job.cmdline()
        job.send_signal(signal.SIGTERM)
        wait_until(lambda: not running(job))
        assert data.result(timeout=20) == list(range(1000))
