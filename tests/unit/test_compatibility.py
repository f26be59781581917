"""Keywords of dask-jobqueue: each is on the page, and does what the page says."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Security

import dask_hpc
from dask_hpc import HPCCluster
from dask_hpc.cluster import peer
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.request import understand
from dask_hpc.drivers.registry import DRIVERS
from dask_hpc.errors import ConfigurationError

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"

#: Keywords of dask-jobqueue 0.9.0: of JobQueueCluster and Job, then of each class's job.
_COMMON = """
    n_workers job_cls loop security shared_temp_directory silence_logs name asynchronous
    dashboard_address host scheduler_options scheduler_cls interface protocol config_name
    cores memory processes nanny death_timeout local_directory extra worker_command
    worker_extra_args job_extra job_extra_directives env_extra job_script_prologue header_skip
    job_directives_skip log_directory shebang python job_name
"""
COMMON = _COMMON.split()
OWN = {
    "SLURM": "queue project account walltime job_cpu job_mem",
    "PBS": "queue project account resource_spec walltime",
    "Moab": "queue project account resource_spec walltime",
    "SGE": "queue project resource_spec walltime",
    "LSF": "queue project ncpus mem walltime lsf_units use_stdin",
    "OAR": "queue project resource_spec walltime memory_per_core_property_name",
    "HTCondor": "disk submit_command_extra cancel_command_extra",
    "Local": "queue project resource_spec walltime",
}
#: Keys of its jobqueue.yaml, each in at least one section.
_KEYS = """
    name cores memory processes python interface death-timeout local-directory
    shared-temp-directory extra worker-command worker-extra-args shebang queue project account
    walltime env-extra job-script-prologue resource-spec job-extra job-extra-directives
    job-directives-skip log-directory memory-per-core-property-name scheduler-options job-cpu
    job-mem ncpus mem lsf-units use-stdin disk submit-command-extra cancel-command-extra
"""
KEYS = _KEYS.split()

CLASSES = {
    name: getattr(dask_hpc, "LocalJobCluster" if name == "Local" else f"{name}Cluster")
    for name in OWN
}
#: A value that a user might give.
SAMPLES: dict[str, Any] = {
    "cores": 2,
    "memory": "4 GB",
    "processes": 1,
    "security": True,
    "nanny": True,
    "protocol": "tls://",
    "dashboard_address": ":12345",
    "scheduler_options": {"dashboard_address": ":12345", "host": "login1", "port": 8786},
    "config_name": "mine",
    "death_timeout": 60,
    "walltime": "01:00:00",
    "worker_command": "distributed.cli.dask_worker",
    "job_cpu": 2,
    "ncpus": 2,
    "mem": 4 * 10**9,
    "use_stdin": True,
    "lsf_units": "mb",
    "disk": "1 GB",
    "job_extra_directives": ["--x=1"],
    "resource_spec": "select=1:ncpus=2",
}
_LISTS = """
    extra worker_extra_args job_extra env_extra job_script_prologue header_skip
    job_directives_skip submit_command_extra cancel_command_extra
"""
LISTS = _LISTS.split()
CASES = [(name, word) for name in OWN for word in [*COMMON, *OWN[name].split()]]


@pytest.fixture(autouse=True)
def _no_settings_of_this_account() -> Iterator[None]:
    with dask.config.set({"dask-hpc": {}, "jobqueue": {"mine": {"cores": 1}}}):
        yield


def rows() -> dict[tuple[str, str], str]:
    """What the page says of each keyword, by class (empty: of every class)."""
    found: dict[tuple[str, str], str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        word = re.fullmatch(r"`(\w+)`", cells[0])
        if word and len(cells) == 3:
            found["", word[1]] = cells[1]
        elif word and len(cells) == 4:
            found |= {(name, word[1]): cells[2] for name in cells[1].split()}
    return found


def sample(word: str) -> Any:
    return SAMPLES.get(word, ["--a"] if word in LISTS else "x")


def ask(name: str, **keywords: Any) -> Any:
    """Understand a request to one class as the class does, and start nothing."""
    return understand({"cores": 2, **keywords}, fixed=CLASSES[name].batch)


@pytest.mark.parametrize(("name", "word"), CASES)
def test_each_keyword_does_what_the_page_says(name: str, word: str) -> None:
    """On each class: understood, understood with a warning, or refused with advice."""
    said = rows()
    verdict = said.get((name, word), said.get(("", word)))
    assert verdict in ("same", "renamed", "differs", "no effect", "refused"), "not on the page"
    if word in inspect.signature(HPCCluster.__init__).parameters:
        assert verdict in ("same", "differs")
    elif verdict == "refused":
        with pytest.raises(ConfigurationError, match=word) as caught:
            ask(name, **{word: sample(word)})
        assert caught.value.hint
    elif verdict == "no effect":
        new = peer.ALIASES.get(word, word)
        with pytest.warns(UserWarning, match=f"{new}= has no effect here"):
            ask(name, **{word: sample(word)})
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ask(name, **{word: sample(word)})


def test_the_page_speaks_of_no_other_keyword() -> None:
    """A row whose keyword is gone would be wrong."""
    known = {("", word) for word in COMMON}
    known |= {(name, word) for name in OWN for word in OWN[name].split()}
    assert set(rows()) == known


@pytest.mark.parametrize("key", KEYS)
def test_each_configuration_key_is_on_the_page(key: str) -> None:
    """In the table of keys."""
    text = PAGE.read_text(encoding="utf-8").partition("## Configuration")[2]
    assert f"`{key}`" in text


@pytest.mark.parametrize("name", OWN)
def test_a_keyword_of_another_class_is_called_so(name: str) -> None:
    """The message says whose it is."""
    foreign = "ncpus" if name != "LSF" else "job_cpu"
    whose = "lsf and openlava" if name != "LSF" else "slurm"
    with pytest.raises(ConfigurationError, match=f"{foreign}= is an option of {whose}, not of"):
        ask(name, **{foreign: 2})


# What differs, exactly


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"dashboard_address": ":12345"}, ("dashboard_port", 12345)),
        ({"dashboard_address": "0.0.0.0:12345"}, ("dashboard_port", 12345)),
        ({"dashboard_address": 0}, ("dashboard_port", 0)),
        ({"dashboard_address": False}, ("dashboard", False)),
        ({"interface": "ib0"}, ("scheduler_interface", "ib0")),
        ({"host": "login1"}, ("host", "login1")),
        ({"port": 8786}, ("scheduler_port", 8786)),
        ({"protocol": "tls"}, ("insecure", False)),
        ({"dashboard": False}, ("dashboard", False)),
        ({"interface": None}, ("scheduler_interface", None)),
    ],
)
def test_options_of_the_scheduler_have_their_place(given: Any, found: tuple[str, Any]) -> None:
    """Those that have an equivalent."""
    options = ask("SLURM", scheduler_options=given).options
    assert getattr(options, found[0]) == found[1]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scheduler_options": {"idle_timeout": "1 h"}}, r"distributed\.scheduler\.idle-timeout"),
        ({"scheduler_options": {"validate": True}}, "understood: dashboard"),
        ({"scheduler_options": [1]}, "must be a dict"),
        ({"scheduler_options": {"dashboard_address": "localhost"}}, "no port"),
        ({"security": Security()}, "takes True or False"),
        ({"protocol": "tcp"}, "insecure=True"),
        ({"protocol": "ucxx"}, "neither encryption nor authentication"),
        ({"protocol": "ucxx", "insecure": True}, "needs the package distributed-ucxx"),
        ({"protocol": "inproc", "insecure": True}, "there are: tcp, tls, ws, wss"),
        ({"nanny": False}, "nanny=False is not offered"),
        ({"worker_command": "dask_cuda.cli"}, "--worker-class"),
        ({"project": "a", "account": "b"}, "keep account="),
    ],
)
def test_what_is_not_offered_is_refused_with_advice(keywords: Any, message: str) -> None:
    """What to do instead stands in the message."""
    with pytest.raises(ConfigurationError, match=message):
        ask("SLURM", **keywords)


def test_security_false_is_a_cluster_without_it() -> None:
    """As dask-jobqueue's default is; here it must be said."""
    assert ask("SLURM", security=False).options.insecure
    assert not ask("SLURM", security=True).options.insecure


def test_an_older_name_beside_the_newer_one_is_no_error_when_they_agree() -> None:
    """Scripts for several versions give both."""
    assert ask("SLURM", project="lab", account="lab").options.account == "lab"


def test_a_submit_files_shebang_is_passed_over() -> None:
    """Of dask-jobqueue's HTCondor section; here a job runs a shell script."""
    found = ask("HTCondor", shebang="#!/usr/bin/env condor_submit").options
    assert found.shebang == "#!/usr/bin/env bash"


@pytest.mark.parametrize(("level", "number"), [("error", logging.ERROR), (30, 30), ("WARNING", 30)])
def test_levels_of_logs_are_words_or_numbers(level: Any, number: int) -> None:
    """As the engine takes them."""
    assert peer.log_level(level) == number
    with pytest.raises(ConfigurationError, match="no such level"):
        peer.log_level("loud")


# The page on configuration


def test_the_page_on_configuration_names_every_keyword() -> None:
    """Common ones, and those of one batch system."""
    text = PAGE.with_name("configuration.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(\w+)`", text))
    common = set(ClusterOptions.__dataclass_fields__) - {"own"}
    assert common <= words
    for batch in DRIVERS:
        assert {batch, *DRIVERS[batch].OPTIONS} <= words
