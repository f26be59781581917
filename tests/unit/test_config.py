"""What is configured where, and which place wins."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask.config
import pytest
import yaml

from dask_hpc.cluster.options import resolve
from dask_hpc.cluster.request import understand
from dask_hpc.config import reader
from dask_hpc.config.reader import layers
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import ConfigurationError

#: What dask-jobqueue 0.9.0 registers when it is imported, as far as these tests need it.
PACKAGE = {
    "name": "dask-worker",
    "cores": None,
    "death-timeout": 60,
    "worker-command": "distributed.cli.dask_worker",
    "worker-extra-args": [],
    "shebang": "#!/usr/bin/env bash",
    "walltime": "00:30:00",
    "queue": None,
    "job-extra-directives": [],
    "scheduler-options": {},
}
EVERY_SYSTEM = ("oar", "pbs", "sge", "slurm", "moab", "lsf", "htcondor", "local")


@pytest.fixture(autouse=True)
def _no_settings_of_this_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever runs the tests may have a configuration and variables of their own."""
    for name in reader.ACCOUNT_VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dask.config, "defaults", [])
    monkeypatch.setattr(dask.config, "collect", dict)
    with dask.config.set({"dask-hpc": {}, "jobqueue": {}}):
        yield


def configured(text: str) -> Any:
    """Set a configuration file's text."""
    return dask.config.set({"jobqueue": {}, "dask-hpc": {}} | yaml.safe_load(text))


def values(batch: str = "slurm", **how: Any) -> dict[str, Any]:
    """What the layers come to."""
    found: dict[str, Any] = {}
    for layer in layers(batch, **how):
        found |= {name: value for name, value in layer.values.items() if value is not None}
    return found


def test_every_shipped_default_is_an_option_of_a_cluster() -> None:
    """And every option has a default there, so that the file is the list of them."""
    shipped = layers("slurm")[0].values
    known = set(resolve({"cores": 1}, layers("slurm"), Slurm).__dataclass_fields__) - {"own"}
    assert set(shipped) == known


def test_a_site_wins_over_a_batch_system_and_that_over_the_common_values() -> None:
    """The more special place decides."""
    text = """
    dask-hpc:
      cores: 1
      queue: common
      walltime: 1 h
      slurm: {queue: of slurm, walltime: 2 h}
    """
    with configured(text):
        found = values(site={"walltime": "3 h"})
    assert (found["cores"], found["queue"], found["walltime"]) == (1, "of slurm", "3 h")


def test_sections_of_other_batch_systems_and_sites_are_no_keywords() -> None:
    """One file for all machines."""
    with configured("dask-hpc: {pbs: {queue: x}, mine: {queue: y}, sites: {a: {queue: z}}}"):
        assert "queue" not in values(systems=("pbs", "mine"))
        with (
            pytest.raises(ConfigurationError, match="no option slrum="),
            configured("dask-hpc: {slrum: {queue: x}}"),
        ):
            resolve({"cores": 1}, layers("slurm"), Slurm)


def test_dashes_are_underscores() -> None:
    """Dask's own files are written with dashes."""
    with configured("dask-hpc: {slurm: {job-extra-directives: [--qos=x]}}"):
        assert values()["job_extra_directives"] == ["--qos=x"]


@pytest.mark.parametrize("text", ["dask-hpc: 3", "dask-hpc: {slurm: main}"])
def test_a_section_that_is_none_is_refused(text: str) -> None:
    """With its name."""
    with configured(text), pytest.raises(ConfigurationError, match="not a section"):
        values()


@pytest.mark.parametrize("text", ["dask-hpc: {sites: 1}", "dask-hpc: {sites: {a: main}}"])
def test_a_site_that_is_no_section_is_refused(text: str) -> None:
    """With its name."""
    with configured(text), pytest.raises(ConfigurationError, match="not a section"):
        reader.user_sites()


# dask-jobqueue's configuration


def test_a_dask_jobqueue_file_counts_where_ours_is_silent() -> None:
    """A user who comes from there keeps their settings."""
    text = """
    jobqueue:
      slurm: {queue: theirs, account: lab, job-cpu: 4, death-timeout: 30}
    dask-hpc: {queue: ours}
    """
    with configured(text):
        found = resolve({"cores": 1}, layers("slurm"), Slurm)
    assert (found.queue, found.account, found.own) == ("ours", "lab", {"job_cpu": "4"})
    assert found.death_timeout == 30


def test_newer_names_win_over_older_ones_there() -> None:
    """As dask-jobqueue itself reads its file."""
    text = "jobqueue: {slurm: {account: new, project: old, env-extra: [a], extra: [--x]}}"
    with configured(text):
        found = resolve({"cores": 1}, layers("slurm"), Slurm)
    assert (found.account, found.job_script_prologue) == ("new", ("a",))
    assert found.worker_extra_args == ("--x",)


def test_its_defaults_change_nothing_when_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour of walltime is nobody's wish; what the user set beside them counts."""
    shipped = {"jobqueue": {name: dict(PACKAGE) for name in EVERY_SYSTEM}}
    monkeypatch.setattr(dask.config, "defaults", [shipped])
    merged = {**PACKAGE, "queue": "theirs"}
    with dask.config.set({"jobqueue": {"slurm": merged}}):
        found = resolve({"cores": 1}, layers("slurm"), Slurm)
    assert (found.walltime, found.death_timeout, found.queue) == (None, 120, "theirs")


def test_a_default_of_its_that_the_user_wrote_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether dask-jobqueue is imported or not makes no difference."""
    file = {"jobqueue": {"slurm": {"walltime": "00:30:00"}}}
    with dask.config.set(file):
        before = resolve({"cores": 1}, layers("slurm"), Slurm)
    shipped = {"jobqueue": {name: dict(PACKAGE) for name in EVERY_SYSTEM}}
    monkeypatch.setattr(dask.config, "defaults", [shipped])
    monkeypatch.setattr(dask.config, "collect", lambda: file)
    with dask.config.set({"jobqueue": {"slurm": dict(PACKAGE)}}):
        after = resolve({"cores": 1}, layers("slurm"), Slurm)
    assert before == after
    assert after.walltime == 1800


def test_defaults_of_a_sites_own_package_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a package registers one section, on purpose."""
    site = {"jobqueue": {"slurm": {"queue": "of the site"}}}
    monkeypatch.setattr(dask.config, "defaults", [site])
    with dask.config.set(site):
        assert values()["queue"] == "of the site"


def test_the_real_file_of_dask_jobqueue_is_read() -> None:
    """Uncommented as a whole, as people do: every key of it is understood or passed over."""
    package = find_spec("dask_jobqueue")  # not imported: that would write a file in this account
    if package is None or package.origin is None:
        pytest.skip("dask-jobqueue is not installed")
    file = Path(package.origin).with_name("jobqueue.yaml")
    with dask.config.set(yaml.safe_load(file.read_text(encoding="utf-8"))):
        found = resolve({"cores": 1}, layers("slurm"), Slurm)
    assert (found.walltime, found.death_timeout) == (1800, 60)


def test_keys_that_nobody_knows_are_passed_over_there_as_it_does() -> None:
    """Its section may hold what a site's own package reads."""
    with configured("jobqueue: {slurm: {flavour: x, queue: main}}"):
        assert resolve({"cores": 1}, layers("slurm"), Slurm).queue == "main"


def test_what_is_not_offered_is_refused_there_with_its_place() -> None:
    """It would change what runs."""
    with (
        configured("jobqueue: {slurm: {worker-command: dask_cuda.cli}}"),
        pytest.raises(
            ConfigurationError, match=r"jobqueue\.slurm in your dask configuration: worker_command="
        ),
    ):
        resolve({"cores": 1}, layers("slurm"), Slurm)


def test_a_section_of_its_is_read_by_name() -> None:
    """config_name= of dask-jobqueue, in place of the batch system's section."""
    with configured("jobqueue: {slurm: {queue: a, cores: 1}, mine: {queue: b}}"):
        assert values(peer_section="mine")["queue"] == "b"
        assert "cores" not in values(peer_section="mine")
        with pytest.raises(ConfigurationError, match=r"no jobqueue\.yours"):
            values(peer_section="yours")


def test_torque_reads_the_section_of_moab() -> None:
    """The only one of dask-jobqueue's that is for it."""
    with configured("jobqueue: {moab: {queue: a}, pbs: {queue: b}}"):
        assert values("torque")["queue"] == "a"
        assert values("pbs")["queue"] == "b"


def test_its_name_of_jobs_is_what_names_of_clusters_start_with() -> None:
    """Two clusters of one user have the same configuration."""
    with configured("jobqueue: {slurm: {name: night-run}}"):
        request = understand({"cores": 1}, batch="slurm")
        assert request.prefix == "night-run"
        assert understand({"cores": 1, "job_name": "day"}, batch="slurm").prefix == "day"


# The account


def test_the_account_may_be_in_the_batch_systems_own_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PBS users have PBS_ACCOUNT; what is configured wins over it."""
    monkeypatch.setenv("PBS_ACCOUNT", "lab")
    assert values("pbs")["account"] == "lab"
    assert "account" not in values("slurm")
    with configured("dask-hpc: {account: other}"):
        assert values("pbs")["account"] == "other"


def test_reading_leaves_dasks_configuration_as_it_is() -> None:
    """Nothing is registered with dask, so that a value there is one that somebody set."""
    before = dict(dask.config.config)
    values()
    assert dask.config.config == before
