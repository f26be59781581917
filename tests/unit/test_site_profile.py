"""What the doctor saw becomes a site of the user's own, which is read like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
import yaml

from dask_hpc.cluster.doctor import Diagnosis
from dask_hpc.cluster.request import understand
from dask_hpc.cluster.site_profile import check_free, path_of, write
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.queue import Queue
from dask_hpc.site.discover import Offer
from dask_hpc.site.doctor.asked import Asked
from dask_hpc.site.doctor.checks_between import LOGIN
from dask_hpc.site.doctor.checks_job import Outcome
from dask_hpc.site.doctor.profile_text import section
from dask_hpc.site.doctor.trial import Result
from tests.unit.doctor_reports import GIB, report, route

QUEUES = (
    Queue(
        name="main", max_walltime=86400, nodes=4, cores=16, memory=16 * GIB, gpus=2, default=True
    ),
    Queue(name="short", max_walltime=300, nodes=4, cores=16, memory=16 * GIB),
)
REPORTS = {LOGIN: report("login"), "a": report("node01"), "b": report("node02")}
ROUTES = [
    route(LOGIN, "a", "eth0", bandwidth=9e8),
    route(LOGIN, "a", "ib0", bandwidth=4e8),
    route("a", "b", "eth0", bandwidth=9e8),
    route("a", "b", "ib0", bandwidth=4e8),
]


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dask.config, "PATH", str(tmp_path))
    with dask.config.set({"dask-hpc": {}, "jobqueue": {}}):
        yield


def seen(**more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "asked": Asked(batch="slurm", cores=4),
        "queues": QUEUES,
        "reports": REPORTS,
        "routes": ROUTES,
        "day": "2026-11-23",
    }
    return section("our-cluster", **{**known, **more})


def test_what_was_seen_is_written() -> None:
    """The fast network, a local disk, the limits of each queue."""
    assert seen() == {
        "title": "our-cluster, as dask-hpc doctor saw it on 2026-11-23",
        "batch": "slurm",
        "interface": "ib0",
        "scratch": "/tmp",
        "node": {"cores": 16, "memory": "16 GiB", "gpus": 2, "count": 4},
        "walltime_limit": "1-00:00:00",
        "queues": {
            "main": {
                "node": {"cores": 16, "memory": "16 GiB", "gpus": 2, "count": 4},
                "walltime_limit": "1-00:00:00",
            },
            "short": {
                "node": {"cores": 16, "memory": "16 GiB", "count": 4},
                "walltime_limit": "00:05:00",
            },
        },
    }


def test_an_interface_that_is_not_open_everywhere_is_not_written() -> None:
    """The other one is."""
    routes = [*ROUTES, route("b", "a", "ib0", error="timed out")]
    assert seen(routes=routes)["interface"] == "eth0"


def test_a_login_node_without_the_fast_network_gets_its_own() -> None:
    """Each role has its interface."""
    login = report("login")
    del login["interfaces"]["ib0"]
    found = seen(reports={**REPORTS, LOGIN: login})
    assert (found["interface"], found["scheduler_interface"]) == ("ib0", "eth0")


@pytest.mark.parametrize("spoilt", [{"type": "nfs4"}, {"type": "tmpfs"}, {"free": 1000}])
def test_a_directory_that_is_no_local_disk_is_not_written(spoilt: dict[str, Any]) -> None:
    """On one of the nodes is enough."""
    bad = report("node02")
    bad["disks"]["/tmp"] |= spoilt
    assert "scratch" not in seen(reports={**REPORTS, "b": bad})


@pytest.mark.parametrize(
    ("spoilt", "written"),
    [
        ({"error": "sbatch is not on the PATH there"}, False),
        ({"seconds": 1.0, "code": 1, "text": "refused"}, False),
        ({"seconds": 1.0, "code": 0, "text": ""}, None),
        (None, None),
    ],
)
def test_nodes_that_cannot_ask_the_batch_system_are_written_down(
    spoilt: dict[str, Any] | None, written: bool | None
) -> None:
    """A head in a job has its commands run elsewhere then; without a word it runs them itself."""
    found = seen(reports={**REPORTS, "b": report("node02", query=spoilt)})
    assert found.get("nodes_submit") is written


@pytest.mark.parametrize(
    ("configured", "written"),
    [
        ({"local_directory": "/fast"}, {"local_directory": "/fast"}),
        ({"scratch": "$LOCAL"}, {"scratch": "$LOCAL"}),
        ({"local_directory": "/fast", "scratch": "$LOCAL"}, {"local_directory": "/fast"}),
    ],
)
def test_what_is_configured_stays_what_it_was(
    configured: dict[str, str], written: dict[str, str]
) -> None:
    """A directory that workers must use, or one to look at, whatever was seen of it."""
    reports = {LOGIN: report("login"), "a": report("node01", disks={})}
    found = seen(asked=Asked(batch="slurm", cores=4, **configured), reports=reports)
    assert {key: found[key] for key in found if key in ("scratch", "local_directory")} == written


def test_the_home_directory_is_no_scratch() -> None:
    """It may look like a local disk, and is everybody's."""
    reports = {name: report(each["host"]) for name, each in REPORTS.items()}
    for each in reports.values():
        each["disks"] = {"home": {**each["disks"]["/tmp"], "asked": "/home/alice"}}
    assert "scratch" not in seen(reports=reports)


def test_without_jobs_only_what_the_batch_system_says_is_written() -> None:
    """Nothing is made up of the login node."""
    found = seen(reports={LOGIN: report("login")}, routes=[])
    assert "interface" not in found
    assert "scratch" not in found
    assert found["node"]["cores"] == 16


def test_where_no_queue_is_the_default_the_largest_that_is_open_counts() -> None:
    """The batch system takes the one that fits."""
    queues = (
        Queue(name="a", max_walltime=60, cores=8, memory=GIB, nodes=1),
        Queue(name="b", max_walltime=600, cores=4, memory=2 * GIB, nodes=3),
        Queue(name="c", cores=99, starts_jobs=False),
    )
    found = seen(queues=queues)
    assert found["node"] == {"cores": 8, "memory": "2 GiB", "count": 3}
    assert found["walltime_limit"] == "00:10:00"
    endless = seen(queues=(*queues, Queue(name="d", cores=1)))
    assert "walltime_limit" not in endless


def diagnosis() -> Diagnosis:
    result = Result(Outcome(directory="/d", program="python", expected=2), ROUTES)
    asked = Asked(batch="slurm", cores=4)
    return Diagnosis("slurm", asked, Offer(QUEUES), [], dict(REPORTS), result)


def test_the_site_is_read_back_and_limits_requests() -> None:
    """Its keywords are defaults; more than a queue has is a warning with the numbers."""
    path = write("our-cluster", diagnosis(), force=False)
    assert path == path_of("our-cluster")
    with dask.config.set(yaml.safe_load(path.read_text())):
        found = understand({"cores": 4}, site="our-cluster").options
        assert (found.interface, found.scratch, found.local_directory) == ("ib0", "/tmp", None)
        with pytest.warns(UserWarning, match="00:10:00 of walltime, and 00:05:00 is the most"):
            understand({"cores": 4, "queue": "short", "walltime": "10 min"}, site="our-cluster")
        with pytest.warns(UserWarning, match="17 cores, and its nodes have 16"):
            understand({"cores": 17}, site="our-cluster")


def test_nothing_is_overwritten_unless_forced() -> None:
    """Neither a file nor a site that another file has."""
    write("our-cluster", diagnosis(), force=False)
    with pytest.raises(ConfigurationError, match="there is a site our-cluster already"):
        check_free("our-cluster", force=False)
    write("our-cluster", diagnosis(), force=True)
    with (
        dask.config.set({"dask-hpc": {"sites": {"mine": {}}}}),
        pytest.raises(ConfigurationError, match="--force"),
    ):
        write("mine", diagnosis(), force=False)


@pytest.mark.parametrize("name", ["../x", "", "a b", "-x"])
def test_a_name_is_no_path(name: str) -> None:
    """It becomes a part of a file's name."""
    with pytest.raises(ConfigurationError):
        check_free(name, force=True)


@pytest.mark.parametrize("wrong", [{"node": 16}, {"queues": ["main"]}, {"queues": {"main": 3}}])
def test_limits_that_are_no_section_are_refused(wrong: dict[str, Any]) -> None:
    """With what to write instead."""
    with (
        dask.config.set({"dask-hpc": {"sites": {"mine": {"batch": "slurm", **wrong}}}}),
        pytest.raises(ConfigurationError, match="not a section"),
    ):
        understand({"cores": 1}, site="mine")
