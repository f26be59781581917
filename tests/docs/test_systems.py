"""The page of each batch system says what its driver does."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import dask.config
import pytest

import dask_hpc
from dask_hpc.cluster.pools import pool_for
from dask_hpc.cluster.request import understand
from dask_hpc.drivers.registry import DRIVERS, driver
from dask_hpc.drivers.script import all_directives
from tests.docs.blocks import ROOT, examples

FOLDER = ROOT / "docs" / "systems"
#: Two systems on one page.
PAGES = {name: FOLDER / f"{'lsf' if name == 'openlava' else name}.md" for name in DRIVERS}


def asked(page: str) -> tuple[str, dict[str, Any]]:
    """Class and keywords of the first cluster on a page."""
    tree = ast.parse(next(b.code for b in examples(page) if b.language == "python"))
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call))
    values = {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
    return ast.unparse(call.func), values


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: str(path.stem))
def test_a_page_shows_the_directives_of_its_example(path: Path) -> None:
    """Those that the driver writes for the cluster above them."""
    page = path.relative_to(ROOT).as_posix()
    shown = next(block.code for block in examples(page) if block.mark("directives"))
    name, keywords = asked(page)
    with dask.config.set({"dask-hpc": {}}):
        request = understand(keywords, fixed=getattr(dask_hpc, name).batch)
    here = Path("/nowhere")
    spec = pool_for(request.options, scheduler_file=here, logs=here, environment={}).spec
    prefix = request.driver.directive_prefix
    written = [f"{prefix} {line}" for line in all_directives(spec, request.driver)]
    assert shown.splitlines() == written


@pytest.mark.parametrize("name", DRIVERS)
def test_a_page_names_the_commands_and_the_keywords_of_its_driver(name: str) -> None:
    """All that it runs, and all that it alone understands."""
    text = PAGES[name].read_text(encoding="utf-8")
    for program in driver(name).programs:
        assert f"`{program}" in text
    for keyword in driver(name).OPTIONS:
        assert f"`{keyword}" in text


def test_each_page_is_of_a_batch_system() -> None:
    """None is left of one that is gone."""
    assert set(FOLDER.glob("*.md")) == set(PAGES.values())
