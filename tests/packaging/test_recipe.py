"""The conda recipe says what pyproject.toml says, as conda-forge's own tool reads it."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

import dask_hpc
from tests.packaging.conftest import ROOT

RECIPE = ROOT / "recipe" / "recipe.yaml"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
#: What is called otherwise in conda-forge: its `dask` brings much more than PyPI's.
NAMES = {"dask": "dask-core", "jupyter-server": "jupyter_server"}
#: Extras that users install; the others are a developer's.
EXTRAS = ("dashboard", "mpi", "drmaa", "jupyter")


def conda(requirement: str) -> str:
    """One requirement in conda's words."""
    name, version = re.fullmatch(r"([\w.-]+)(\W.*)?", requirement).groups(default="")  # type: ignore[union-attr]
    return f"{NAMES.get(name, name)} {version}".strip()


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """As rattler-build renders it; it refuses what its schema does not know."""
    rattler = pytest.importorskip("rattler_build")
    (variant,) = rattler.Stage0Recipe.from_file(str(RECIPE)).render(rattler.VariantConfig())
    rendered: dict[str, Any] = variant.recipe.to_dict()
    return rendered


def test_the_version_is_the_package_s(recipe: dict[str, Any]) -> None:
    """It stands in one more place only here."""
    assert recipe["package"] == {"name": PROJECT["name"], "version": dask_hpc.__version__}


def test_it_requires_what_the_package_requires(recipe: dict[str, Any]) -> None:
    """The same versions, and the same Python."""
    needed = {conda(each) for each in PROJECT["dependencies"]}
    found = set(recipe["requirements"]["run"])
    assert found == needed | {f"python {PROJECT['requires-python']}", "__unix"}


def test_it_constrains_what_extras_bring(recipe: dict[str, Any]) -> None:
    """Of the extras that users install."""
    extras = PROJECT["optional-dependencies"]
    brought = {each for extra in EXTRAS for each in extras[extra] if "dask-hpc[" not in each}
    found = set(recipe["requirements"]["run_constraints"])
    assert found - {"dask-mpi <0a0"} == {conda(each) for each in brought}


def test_it_is_built_with_what_builds_it(recipe: dict[str, Any]) -> None:
    """The build backend and pip, on the oldest Python."""
    oldest = PROJECT["requires-python"].removeprefix(">=")
    backend = {conda(each) for each in PYPROJECT["build-system"]["requires"]}
    assert set(recipe["requirements"]["host"]) == backend | {"pip", f"python {oldest}.*"}


def test_it_installs_and_tries_the_same_commands(recipe: dict[str, Any]) -> None:
    """A noarch package makes its commands from this list, not from the wheel's."""
    scripts = {f"{name} = {target}" for name, target in PROJECT["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts
    tried = {line.split()[0] for each in recipe["tests"] for line in each.get("script", ())}
    assert tried >= set(PROJECT["scripts"])


def test_what_it_says_about_the_package_is_true(recipe: dict[str, Any]) -> None:
    """Its summary and its licence."""
    about = recipe["about"]
    assert about["summary"] == PROJECT["description"]
    assert about["license"] == PROJECT["license"]
    assert all((ROOT / path).is_file() for path in about["license_file"])
