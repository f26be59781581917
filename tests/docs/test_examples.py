"""Every example of the README and of the pages is run, or says above itself why not.

What the comments above the examples mean is in `tests.docs.blocks`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest
import yaml

import dask_hpc
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.request import understand
from dask_hpc.drivers.registry import DRIVERS
from tests.docs.blocks import EXAMPLES, PRINTED, ROOT, Block, blocks, examples, pages
from tests.integration.account import Account

PAGES = pages()
ALL = [block for page in PAGES for block in examples(page)]
PLAYED = [page for page in PAGES if any(b.language == "python" and b.runs for b in examples(page))]
SHOWN = [
    page
    for page in PAGES
    if any(b.language in ("console", "bash") and b.runs for b in examples(page))
]


def ids(block: Block) -> str:
    return str(block)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a reader who has never used dask, on a machine of 64 cores without a queue."""
    directory = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "SLURM_"))}
    here = Path(sys.executable).parent
    yield kept | {
        "HOME": str(directory),
        "DASK_CONFIG": str(directory / ".config" / "dask"),
        "DASK_DASK_HPC__BATCH": "local",
        "DASK_DASK_HPC__DASHBOARD_PORT": "0",
        "DASK_HPC_LOCAL_SLOTS": "64",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
    }
    Account(directory).kill_everything()


@pytest.fixture(scope="module")
def played(home: dict[str, str]) -> dict[str, str]:
    """What went wrong on each page."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.play", *PLAYED],
        capture_output=True,
        text=True,
        check=False,
        env=home,
        cwd=ROOT,
        timeout=240,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_has_a_language_that_is_understood(page: str) -> None:
    """An example is run; what something prints is ``text``, or has none."""
    said = {block.language for block in blocks(page)}
    strange = {word for word in said if not word.startswith("{")} - {*EXAMPLES, *PRINTED}
    assert not strange


@pytest.mark.parametrize("block", [b for b in ALL if not b.runs], ids=ids)
def test_what_is_not_run_says_who_does_it_or_why_not(block: Block) -> None:
    """A test that exists, or a reason in words."""
    for named in block.mark("site"):
        for each in named.split():
            path, _, test = each.partition("::")
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^ *(?:async )?def {test}\(", source, re.MULTILINE), each
    for reason in block.mark("no"):
        assert len(reason.split()) > 2, "say why"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PLAYED)
def test_the_python_of_a_page_runs(page: str, played: dict[str, str]) -> None:
    """As a reader would type it, block after block."""
    assert not played[page], played[page]


@pytest.mark.parametrize("page", SHOWN)
def test_the_commands_of_a_page_run(page: str, home: dict[str, str], tmp_path: Path) -> None:
    """One after the other in one shell; each ends with exit code 0."""
    lines = ["set -euxo pipefail"]
    for block in examples(page):
        if block.language in ("console", "bash") and block.runs:
            typed = [line[2:] for line in block.code.splitlines() if line[:2] == "$ "]
            assert typed, f"{block}: no line begins with '$ '"
            lines += [block.before, *typed]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        env=home,
        cwd=tmp_path,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "python"], ids=ids)
def test_python_has_names_and_keywords_that_exist(block: Block) -> None:
    """Also where it is not run."""
    tree = compile(
        block.before + block.code, str(block), "exec",
        flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )  # fmt: skip
    known = {*ClusterOptions.__dataclass_fields__, *understood_by_the_class()}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "dask_hpc":
            assert {each.name for each in node.names} <= {*dask_hpc.__all__, "mpi"}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "dask_hpc":
            assert node.attr in {*dask_hpc.__all__, "mpi", "errors"}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("HPCCluster"):
            assert {each.arg for each in node.keywords if each.arg} <= known


def understood_by_the_class() -> set[str]:
    """Keywords that are no options of a job, or one batch system's own."""
    own = {name for driver in DRIVERS for name in dask_hpc_driver_options(driver)}
    return own | set(dask_hpc.HPCCluster.__init__.__code__.co_varnames) | {"pools", "jobs"}


def dask_hpc_driver_options(name: str) -> set[str]:
    from dask_hpc.drivers.registry import driver

    return set(driver(name).OPTIONS)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "yaml" and b.runs], ids=ids)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_configuration_is_understood(block: Block) -> None:
    """For each batch system and each site that it speaks of."""
    whole = yaml.safe_load(block.before + block.code)
    assert whole
    said = whole.get("dask-hpc", {})  # it may be another package's
    asked = {"cores": 1, "account": "abc123", "walltime": "10 min"}
    with dask.config.set({"dask-hpc": said}):
        for batch in [name for name in DRIVERS if name in said] or ["local"]:
            assert understand(asked, batch=batch).options
        for site in said.get("sites", {}):
            assert understand(asked, site=site).options
