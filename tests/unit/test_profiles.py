"""Profiles of machines: well-formed, with sources, and below what the user says."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dask.config
import pytest
from click.testing import CliRunner

from dask_hpc.cli.entry import hpc
from dask_hpc.cluster.head_job import submits
from dask_hpc.cluster.options import ClusterOptions, resolve
from dask_hpc.cluster.request import understand
from dask_hpc.config.reader import ACCOUNT_VARIABLES, Layer
from dask_hpc.drivers.registry import DRIVERS
from dask_hpc.errors import ConfigurationError
from dask_hpc.site import profile as module
from dask_hpc.site.profile import UNVERIFIED, Fact, Profile, find, load, names, with_needed

DOCS = Path(__file__).parents[2] / "docs"
GIVEN = {"cores": 1, "account": "lab", "walltime": "10 min"}


@pytest.fixture(autouse=True)
def _no_settings_of_this_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ACCOUNT_VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    with dask.config.set({"dask-hpc": {}, "jobqueue": {}}):
        yield


def facts(profile: Profile) -> list[Fact]:
    one = (profile.cores, profile.memory, profile.gpus, profile.walltime)
    return [
        *profile.keywords.values(),
        *profile.requires.values(),
        *profile.forbids,
        *profile.notes,
        *(fact for fact in one if fact),
    ]


def options(site: str, **keywords: Any) -> ClusterOptions:
    return understand({**GIVEN, **keywords}, site=site).options


@pytest.mark.parametrize("name", names())
def test_every_fact_has_a_source_or_is_called_unverified(name: str) -> None:
    """And every source is an address with the date on which it was read, and used."""
    profile = load(name)
    used = {fact.source for fact in facts(profile)} - {UNVERIFIED}
    assert used == set(profile.sources)
    for source in profile.sources.values():
        assert re.fullmatch(r"https?://\S+", source.url)
        assert date.fromisoformat(source.seen) <= date.today()  # noqa: DTZ011


@pytest.mark.parametrize("name", names())
def test_every_profile_makes_a_request_of_its_batch_system(name: str) -> None:
    """With what the user must give, nothing is missing and nothing is unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        request = understand(GIVEN, site=name)
    assert request.driver.name == load(name).batch
    wanted = load(name).values.get("queue")
    assert request.options.queue == wanted


@pytest.mark.parametrize("name", names())
def test_no_profile_asks_for_more_than_its_node_has(name: str) -> None:
    """Its own keywords raise no doubts."""
    profile = load(name)
    layer = Layer("the profile", {"cores": 1, **profile.values})
    found = resolve({}, [layer], DRIVERS[profile.batch])
    assert not profile.doubts(
        cores=found.cores, memory=found.memory, walltime=found.walltime, queue=found.queue
    )


@pytest.mark.parametrize("name", names())
def test_every_profile_is_on_the_page(name: str) -> None:
    """In the table of docs/sites.md, with its sources."""
    text = (DOCS / "sites.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    assert load(name).title in row
    for source in load(name).sources.values():
        assert source.url in row


# What wins


def test_a_profile_is_weaker_than_the_configuration_and_keywords() -> None:
    """It says what holds for everybody there."""
    assert options("olcf-andes").queue == "batch"
    with dask.config.set({"dask-hpc": {"queue": "gpu"}}):
        assert options("olcf-andes").queue == "gpu"
        assert options("olcf-andes", queue="batch").queue == "batch"
    with dask.config.set({"jobqueue": {"slurm": {"queue": "gpu"}}}):
        assert options("olcf-andes").queue == "gpu"


def test_directives_that_a_site_needs_stay_beside_the_users_own() -> None:
    """Unless the user sets or skips the same option."""
    own = options("nersc-perlmutter-cpu", job_extra_directives=["--licenses=cfs"])
    assert own.job_extra_directives == ("--constraint=cpu", "--qos=regular", "--licenses=cfs")
    other = options("nersc-perlmutter-cpu", job_extra_directives=["--qos=debug"])
    assert other.job_extra_directives == ("--constraint=cpu", "--qos=debug")
    skipped = options("nersc-perlmutter-cpu", job_directives_skip=["--qos"])
    assert skipped.job_extra_directives == ("--constraint=cpu",)


def test_resources_of_pbs_are_told_apart() -> None:
    """They are all -l."""
    needed = ("-l filesystems=home:eagle",)
    assert with_needed(needed, ("-l place=scatter",), ()) == [*needed, "-l place=scatter"]
    assert with_needed(needed, ("-l filesystems=home",), ()) == ["-l filesystems=home"]


def test_what_a_site_wants_is_said_before_anything_is_submitted() -> None:
    """And how to set it for good."""
    with pytest.raises(ConfigurationError, match="NCAR Casper wants account=") as caught:
        understand({"cores": 1}, site="ncar-casper")
    assert "sites: ncar-casper: account:" in caught.value.hint


def test_an_account_in_the_environment_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """PBS users of NCAR have it there."""
    monkeypatch.setenv("PBS_ACCOUNT", "UABC0001")
    assert understand({"cores": 1}, site="ncar-casper").options.account == "UABC0001"


@pytest.mark.parametrize(
    ("keywords", "doubt"),
    [
        ({"cores": 33}, "33 cores, and its nodes have 32"),
        ({"memory": "1 TiB"}, "1 TiB of memory, and its nodes have 256 GB"),
        ({"walltime": "3 d"}, "3-00:00:00 of walltime, and 2-00:00:00 is the most"),
    ],
)
def test_more_than_a_machine_has_is_doubted(keywords: Any, doubt: str) -> None:
    """A warning only: machines change, and profiles are late."""
    with pytest.warns(UserWarning, match=doubt):
        options("olcf-andes", **keywords)


def test_another_queue_has_other_limits() -> None:
    """The profile knows those of its own queue."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert options("olcf-frontier", queue="extended", walltime="24 h").walltime == 86400


# Sites of one's own


def test_a_users_own_site_comes_first() -> None:
    """Its keywords win over the common ones; its batch system counts."""
    mine = {"batch": "oar", "queue": "night", "cores": 4, "notes": ["be kind"]}
    with dask.config.set({"dask-hpc": {"queue": "day", "sites": {"mine": mine}}}):
        request = understand({}, site="mine")
    assert (request.driver.name, request.options.queue) == ("oar", "night")
    assert request.options.cores == 4


def test_a_section_of_the_name_of_a_profile_adds_to_it() -> None:
    """An account once and for all."""
    sites = {"ncar-casper": {"account": "UABC0001", "walltime": "1 h"}}
    with dask.config.set({"dask-hpc": {"sites": sites}}):
        found = understand({"cores": 1}, site="ncar-casper").options
    assert (found.queue, found.account, found.walltime) == ("casper", "UABC0001", 3600)


@pytest.mark.parametrize("requires", [["account"], {"account": "ask the helpdesk"}])
def test_a_users_own_site_may_want_keywords(requires: Any) -> None:
    """A group shares one file."""
    mine = {"batch": "slurm", "cores": 1, "requires": requires}
    with dask.config.set({"dask-hpc": {"sites": {"mine": mine}}}):
        with pytest.raises(ConfigurationError, match="mine wants account="):
            understand({}, site="mine")
        assert understand({"account": "x"}, site="mine").options.account == "x"


def test_a_site_says_whether_jobs_may_submit_jobs() -> None:
    """A head in a job obeys it unless its own options say else; nothing said is a yes."""
    silent = understand(GIVEN, batch="slurm")
    assert (submits(silent, {}), submits(silent, {"submits": False})) == (True, False)
    with dask.config.set({"dask-hpc": {"sites": {"mine": {"nodes_submit": False}}}}):
        request = understand(GIVEN, batch="slurm", site="mine")
        assert "jobs may submit jobs: no  [your configuration]" in run("show", "mine")
    assert (submits(request, {}), submits(request, {"submits": True})) == (False, True)
    with (
        dask.config.set({"dask-hpc": {"sites": {"mine": {"nodes_submit": "no way"}}}}),
        pytest.raises(ConfigurationError, match=r"mine.nodes_submit .* is 'no way'"),
    ):
        understand(GIVEN, site="mine")


def test_a_profile_that_comes_along_may_say_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its source; the user's own word wins."""
    text = "title: x\nbatch: slurm\nnodes_submit: {value: false, source: unverified}\n"
    (tmp_path / "there.yaml").write_text(text)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert find("there", {}).nodes_submit == Fact(False, UNVERIFIED)
    own = find("there", {"there": {"nodes_submit": True}}).nodes_submit
    assert own == Fact(True, module.OWN)


def test_an_unknown_site_is_refused_with_a_suggestion() -> None:
    """And with the names there are."""
    with pytest.raises(ConfigurationError, match="did you mean 'ncar-casper'"):
        find("ncar-caspar", {})
    with pytest.raises(ConfigurationError, match="dask-hpc site list"):
        find("zzz", {"mine": {}})


def test_a_profile_that_is_not_as_it_has_to_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name: a fact without a source is none."""
    (tmp_path / "bad.yaml").write_text("title: x\nbatch: slurm\nkeywords: {queue: main}\n")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(ConfigurationError, match="the profile bad cannot be read"):
        load("bad")


# The command


def run(*words: str) -> str:
    result = CliRunner().invoke(hpc, ["site", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_names_all_machines_the_users_first() -> None:
    """One per line."""
    with dask.config.set({"dask-hpc": {"sites": {"zoo": {"title": "Ours"}}}}):
        lines = run("list").splitlines()
        listed = json.loads(run("list", "--json"))
    assert re.fullmatch(r"zoo +- +Ours  \(yours\)", lines[0])
    assert [line.split()[0] for line in lines[1:]] == names()
    assert listed["ncar-casper"] == "pbs"


def test_the_command_shows_each_fact_with_its_source() -> None:
    """And what the user's configuration adds."""
    with dask.config.set({"dask-hpc": {"sites": {"olcf-andes": {"queue": "gpu"}}}}):
        text = run("show", "olcf-andes")
        shown = json.loads(run("show", "olcf-andes", "--json"))
    assert "  cores = 32  [guide]\n" in text
    assert "  queue = 'gpu'\n" in text
    assert "queue = 'batch'" not in text
    assert "[guide] https://github.com/olcf/" in text
    assert shown["walltime"] == {"value": 172800, "source": "guide"}


def test_the_command_refuses_an_unknown_machine() -> None:
    """As a message."""
    result = CliRunner().invoke(hpc, ["site", "show", "nowhere"])
    assert result.exit_code == 78
    assert result.output.startswith("Error: no site 'nowhere'")
