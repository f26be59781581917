"""The named classes, and how a batch system and a site are chosen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dask.config
import pytest

import dask_hpc
from dask_hpc import HPCCluster
from dask_hpc.cluster import request as module
from dask_hpc.cluster.request import understand
from dask_hpc.config.reader import ACCOUNT_VARIABLES
from dask_hpc.drivers.registry import DRIVERS, Detection
from dask_hpc.errors import ConfigurationError

CLASSES = {
    "SLURMCluster": "slurm",
    "FluxCluster": "flux",
    "PBSCluster": "pbs",
    "TorqueCluster": "torque",
    "MoabCluster": "torque",
    "SGECluster": "sge",
    "LSFCluster": "lsf",
    "OARCluster": "oar",
    "HTCondorCluster": "htcondor",
    "DRMAACluster": "drmaa",
    "LocalJobCluster": "local",
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ACCOUNT_VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "detect", lambda: Detection("slurm", "for the test"))
    with dask.config.set({"dask-hpc": {}, "jobqueue": {}}):
        yield


def ask(**how: Any) -> str:
    keywords = how.pop("keywords", {"cores": 1})
    return understand(keywords, **how).driver.name


@pytest.mark.parametrize(("name", "batch"), CLASSES.items())
def test_each_named_class_is_one_batch_systems(name: str, batch: str) -> None:
    """It is an HPCCluster that need not look."""
    kind = getattr(dask_hpc, name)
    assert issubclass(kind, HPCCluster)
    assert ask(fixed=kind.batch) == batch


def test_every_batch_system_has_a_class_or_is_a_kind_of_one_that_has() -> None:
    """A driver without a class would be found by detection alone."""
    with_class = tuple(DRIVERS[batch] for batch in CLASSES.values())
    assert [name for name in DRIVERS if not issubclass(DRIVERS[name], with_class)] == []


def test_all_public_names_are_there_and_no_other() -> None:
    """``from dask_hpc import *`` works, and a wrong name is an AttributeError."""
    assert set(dask_hpc.__all__) == {*CLASSES, "HPCCluster", "__version__", "connect", "plan"}
    assert sorted(dask_hpc.__all__) == dir(dask_hpc)
    for name in dask_hpc.__all__:
        assert getattr(dask_hpc, name)
    with pytest.raises(AttributeError, match="SlurmCluster"):
        _ = dask_hpc.SlurmCluster


def test_the_package_is_imported_without_its_classes() -> None:
    """They cost the engine."""
    code = "import sys, dask_hpc; print([m for m in sys.modules if m.startswith('dask_hpc.')])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_batch_system_is_the_one_asked_for_then_the_sites_then_the_configured_one() -> None:
    """And only then the one that the machine has."""
    account = {"cores": 1, "account": "lab"}
    assert ask() == "slurm"
    with dask.config.set({"dask-hpc": {"batch": "oar"}}):
        assert ask() == "oar"
        assert ask(site="ncar-casper", keywords=account) == "pbs"
        assert ask(batch="local") == "local"


def test_a_class_takes_no_other_batch_system() -> None:
    """Unless it is a kind of its own: OpenLava has LSF's commands."""
    with pytest.raises(ConfigurationError, match="this class is for slurm, not for pbs"):
        ask(fixed="slurm", batch="pbs")
    assert ask(fixed="lsf", batch="openlava") == "openlava"


def test_the_local_batch_system_knows_its_cores() -> None:
    """A first try needs no keyword."""
    assert understand({}, fixed="local").options.cores >= 1
    with dask.config.set({"dask-hpc": {"cores": 3}}):
        assert understand({}, fixed="local").options.cores == 3


# Sites


def test_a_configured_site_counts_where_it_fits() -> None:
    """A local cluster on the machine of a configured site is just that."""
    with dask.config.set({"dask-hpc": {"site": "olcf-andes", "account": "lab"}}):
        assert understand({}, fixed="slurm").options.queue == "batch"
        assert understand({"cores": 1}, fixed="local").options.queue is None


def test_a_class_of_another_batch_system_than_the_sites_is_refused() -> None:
    """When both were asked for in so many words."""
    with pytest.raises(ConfigurationError, match="OLCF Andes has slurm, not pbs"):
        ask(fixed="pbs", site="olcf-andes")


def test_a_number_is_no_site() -> None:
    """Workers are asked for by keyword."""
    with pytest.raises(ConfigurationError, match="name of a site, not 4"):
        HPCCluster(4)  # type: ignore[arg-type]
