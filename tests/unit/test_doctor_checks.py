"""The doctor's judgements: values in, findings out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.cli.doctor import together
from dask_hpc.cluster.doctor import judge_trial
from dask_hpc.errors import BatchSystemError, SubmitRejected
from dask_hpc.model.job import JobState, JobStatus
from dask_hpc.model.queue import Queue
from dask_hpc.site.doctor import checks_between, checks_job, checks_node, checks_site
from dask_hpc.site.doctor.asked import Asked, used_interface
from dask_hpc.site.doctor.checks_between import LOGIN
from dask_hpc.site.doctor.checks_job import Outcome
from dask_hpc.site.doctor.finding import Status, ok, problem, rough, warning, worst
from dask_hpc.site.doctor.trial import Result
from tests.unit.doctor_reports import GIB, report, route

ASKED = Asked(batch="slurm", cores=4)
PARTIES = {LOGIN: report("login"), "a": report("node01"), "b": report("node02")}


def test_the_gravest_finding_counts() -> None:
    """And nothing found is all well."""
    assert worst([]) is Status.OK
    assert worst([ok("a", ""), warning("b", ""), ok("c", "")]) is Status.WARNING
    assert worst([problem("a", ""), warning("b", "")]) is Status.PROBLEM


def test_what_is_alike_on_several_machines_is_one_row() -> None:
    """Rows of one name stay together, in the order of their first; nothing is lost."""
    rows = together(
        [ok("clock", "node01"), ok("tls", "x"), ok("clock", "node02"), problem("clock", "node03")]
    )
    assert [(row.name, row.seen) for row in rows] == [
        ("clock", "node01\nnode02"),
        ("clock", "node03"),
        ("tls", "x"),
    ]


# -- the batch system and its queues ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "seconds", "status"),
    [("answers", 0.1, "ok"), ("answers", 9.0, "warning"), ("connection refused", 0.1, "problem")],
)
def test_a_batch_system_answers_in_time(server: str, seconds: float, status: str) -> None:
    """A slow one is a warning, a silent one a problem."""
    assert checks_site.batch("slurm", "x", server=server, seconds=seconds).status == status


QUEUES = (
    Queue(name="main", max_walltime=3600, nodes=4, cores=16, memory=8 * GIB, default=True),
    Queue(name="closed", takes_jobs=False),
    Queue(name="down", starts_jobs=False),
    Queue(name="theirs", yours=False),
    Queue(name="route", routes=True),
)


@pytest.mark.parametrize(
    ("name", "usable"),
    [("main", True), ("route", True), ("closed", False), ("down", False), ("theirs", False),
     ("nosuch", False), (None, True)],
)  # fmt: skip
def test_nothing_is_tried_where_nothing_starts(name: str | None, usable: bool) -> None:
    """A job there would wait for ever."""
    found = next((q for q in QUEUES if q.name == name), None)
    asked = Asked(batch="slurm", cores=1, queue=name)
    assert checks_site.usable(asked, QUEUES, found) is usable


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({}, "ok", "4 nodes, 16 cores, 8 GiB, walltime: 01:00:00"),
        ({"walltime": 7200}, "problem", "a walltime of 02:00:00, and 01:00:00 is the most"),
        ({"cores": 17}, "problem", "17 cores, and its nodes have 16"),
        ({"memory": 9 * GIB}, "problem", "9 GiB of memory, and its nodes have 8 GiB"),
        ({"nodes": 5}, "problem", "5 nodes, and 4 is the most"),
        ({"queue": "nosuch"}, "problem", "there are: main, closed, down"),
        ({"queue": "closed"}, "problem", "takes no jobs now"),
        ({"queue": "down"}, "problem", "starts none"),
        ({"queue": "theirs"}, "problem", "not for you"),
        ({"queue": "route"}, "warning", "only hands jobs on"),
    ],
)
def test_a_job_fits_its_queue(asked: dict[str, Any], status: str, words: str) -> None:
    """What is asked beyond the limit is named with the limit."""
    wanted = Asked(**{"batch": "slurm", "cores": 1, **asked})
    queue = next((q for q in QUEUES if q.name == (wanted.queue or "main")), None)
    [found] = checks_site.queue(wanted, QUEUES, queue, "")
    assert found.status == status
    assert words in found.seen


def test_a_short_default_walltime_is_a_warning() -> None:
    """Where none is configured, the queue's own ends the workers."""
    queue = Queue(name="main", default_walltime=600)
    found = checks_site.queue(Asked(batch="slurm", cores=1), [queue], queue, "")
    assert [each.status for each in found] == ["ok", "warning"]
    given_one = Asked(batch="slurm", cores=1, walltime=60)
    assert len(checks_site.queue(given_one, [queue], queue, "")) == 1


# -- one node ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoilt", "name", "status", "words"),
    [
        ({"python": {"version": "3.9.1", "executable": "/x", "prefix": "/env"}},
         "python", "problem", "3.9.1"),
        ({"python": {"version": "3.11.2", "executable": "/x", "prefix": "/other"}},
         "python", "warning", "/other"),
        ({"packages": {"numpy": "2.4"}}, "packages", "problem", "lacks dask, distributed"),
        ({"packages": {"dask": "2025.1", "distributed": "2026.8.0", "dask-hpc": "1",
                       "numpy": "2.4"}}, "packages", "problem", "dask 2026.8.0 here, 2025.1 on"),
        ({"packages": {"dask": "2026.8.0", "distributed": "2026.8.0", "dask-hpc": "1"}},
         "packages", "warning", "numpy 2.4 here, none on node01"),
        ({"import": {"seconds": 20.0}}, "import time", "warning", "20.0 s"),
        ({"import": {"seconds": 99.0}}, "import time", "problem", "99.0 s"),
        ({"import": {"error": "No module named 'distributed'"}},
         "import time", "problem", "No module"),
        ({"limits": {"NOFILE": [256, 256]}}, "limits", "problem", "no more than 256 open files"),
        ({"limits": {"NOFILE": [1024, 2048]}}, "limits", "warning", "2048"),
        ({"limits": {"NOFILE": [-1, -1], "NPROC": [100, 100]}}, "limits", "problem", "processes"),
        ({"cores": {"amount": 2, "source": "the machine", "promised": False}},
         "cores and memory", "warning", "the batch system tells nothing"),
        ({"cores": {"amount": 2, "source": "NCPUS", "promised": True}},
         "cores and memory", "problem", "4 cores were asked for"),
        ({"query": {"error": "sbatch is not on the PATH there"}},
         "batch system from a node", "warning", "not on the PATH"),
        ({"query": {"seconds": 1.0, "code": 1, "text": "refused"}},
         "batch system from a node", "warning", "refused"),
        ({"mpi": {"mpirun": "/x/mpirun", "worlds": [], "code": 1, "text": "PMIx aborts"}},
         "MPI pair", "problem", "PMIx aborts"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_node_is_named(
    spoilt: dict[str, Any], name: str, status: str, words: str
) -> None:
    """One thing spoilt is one finding that is not ok."""
    result = Result(Outcome(directory="/d", program="python", expected=1))
    result.outcome = Outcome(
        directory="/d", program="python", expected=1, reports={"a": report(**spoilt)}
    )
    parties = {LOGIN: report("login"), **result.outcome.reports}
    found = [each for each in judge_trial(result, parties, ASKED) if each.status != Status.OK]
    assert [(each.name, each.status) for each in found if each.name == name] == [(name, status)]
    assert words in next(each.seen for each in found if each.name == name)
    assert all(each.advice for each in found)
    assert {each.name for each in found} <= {name, "python"}  # no packages: it is another one


def test_a_node_that_cannot_ask_comes_with_the_setting_for_it() -> None:
    """The advice is what to write, and is right only where the batch system did not answer."""
    mute = checks_node.submission_from(report(query={"error": "no qsub there"}))
    assert "nodes_submit: false" in mute.advice
    assert not checks_node.submission_from(report()).advice


def test_a_healthy_node_is_all_well() -> None:
    """Nothing is made up."""
    reports = {"a": report("node01"), "b": report("node02")}
    outcome = Outcome(directory="/d", program="python", expected=2, reports=reports)
    both = [route(s, t, i) for s in PARTIES for t in PARTIES if s != t for i in ("eth0", "ib0")]
    result = Result(outcome, both, {"a": (0.1, 0.1)}, {"a": (-1.0, 1.0)})
    found = judge_trial(result, {LOGIN: report("login"), **reports}, ASKED)
    assert [each for each in found if each.status != Status.OK] == []
    assert {"jobs", "python", "clock", "TLS", "routes over ib0", "shared directory"} <= {
        each.name for each in found
    }


def test_a_python_too_old_to_look_is_still_told_apart() -> None:
    """Its report has little more than its version."""
    old = {"host": "node01", "name": "a", "time": 1.0,
           "python": {"version": "3.6.8", "executable": "/p", "prefix": "/usr"}}  # fmt: skip
    outcome = Outcome(directory="/d", program="python", expected=1, reports={"a": old})
    found = judge_trial(Result(outcome), {LOGIN: report("login"), "a": old}, ASKED)
    assert {each.name for each in found if each.status == "problem"} == {"python", "packages"}


def world(size: int, **environ: str) -> dict[str, Any]:
    return {"size": size, "library": "Open MPI v5.0.1", "path": "/x/libmpi.so", "environ": environ}


def test_worlds_of_one_are_a_wrong_pair() -> None:
    """Both sides are named, and what to change."""
    environ = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "0"}
    mpi = {"mpirun": "/m/mpirun", "code": 0, "text": "", "worlds": [world(1, **environ)] * 2}
    found = checks_node.mpi(report(mpi=mpi))
    assert found.status is Status.PROBLEM
    assert "/m/mpirun" in found.seen
    assert "Open MPI v5.0.1" in found.seen
    assert "mpirun of Open MPI" in found.advice
    right = {**mpi, "worlds": [world(2)] * 2}
    assert checks_node.mpi(report(mpi=right)).status is Status.OK


@pytest.mark.parametrize(
    ("label", "spoilt", "status", "words"),
    [
        ("scratch", {}, "ok", "50 GiB free"),
        ("scratch", {"free": 1024}, "problem", "is full: 1 KiB"),
        ("scratch", {"error": "Read-only file system"}, "problem", "Read-only"),
        ("scratch", {"type": "nfs4"}, "warning", "network"),
        ("scratch", {"type": "fuse.sshfs"}, "warning", "network"),
        ("scratch", {"type": "daos"}, "warning", "network"),
        ("scratch", {"type": "tmpfs"}, "warning", "memory"),
        ("scratch", {"free": GIB // 2}, "warning", "little room"),
        ("/tmp", {"error": "Permission denied"}, "warning", "Permission denied"),
        ("home", {"files_per_second": 9.0}, "warning", "slow"),
    ],
)
def test_a_directory_is_judged_by_its_use(
    label: str, spoilt: dict[str, Any], status: str, words: str
) -> None:
    """A directory that the user chose and that cannot be used is a problem, a candidate less."""
    found = checks_node.disk(label, {**report()["disks"]["/tmp"], **spoilt}, "node01")
    assert found is not None
    assert found.status == status
    assert words in found.seen


def test_a_candidate_that_the_site_does_not_have_is_nothing() -> None:
    """A variable that is not set; unless the user names it."""
    unset = {"asked": "$X", "path": "$X", "error": "the variable is not set", "unset": True}
    assert checks_node.disk("$X", unset, "node01") is None
    named = checks_node.disk("scratch", unset, "node01")
    assert named is not None
    assert named.status is Status.PROBLEM


# -- interfaces and routes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "eth0"),
        ("ib0", "ib0"),
        ("hsn0, ib*", "ib0"),
        ("auto", "ib0"),
        ("ib9", ""),
        ("docker0", "docker0"),
        ("*", "eth0"),
        ("hsn0 ib0", ""),
    ],
)
def test_an_interface_is_taken_by_name_list_or_pattern(asked: str | None, expected: str) -> None:
    """As a node takes it: the user's word wins over ours, a pattern means no container's bridge."""
    assert used_interface(asked, report()) == expected


@pytest.mark.parametrize("spoilt", [{"up": False}, {"addresses": []}])
def test_an_interface_that_cannot_be_used_is_none(spoilt: dict[str, Any]) -> None:
    """Down, or without an address: the others are listed."""
    broken = report()
    broken["interfaces"]["ib0"] |= spoilt
    found = checks_node.interface("workers", "ib0", broken)
    assert found.status is Status.PROBLEM
    assert "eth0 (10.77.0.11, 1 Gbit/s)" in found.seen
    assert "docker0" not in found.seen


def test_a_closed_route_is_named_with_both_ends() -> None:
    """The interface in use is a problem, another one a warning."""
    shut = route("a", "b", "eth0", error="timed out")
    [found] = checks_between.routes([shut], PARTIES, ASKED)
    assert found.status is Status.PROBLEM
    assert found.name == "route node01 to node02"
    assert "over eth0" in found.seen
    found = checks_between.routes([shut, route("a", "b", "ib0")], PARTIES, ASKED)[-1]
    assert found.status is Status.PROBLEM
    other = route("a", "b", "ib0", error="timed out")
    found = checks_between.routes([other, route("a", "b", "eth0")], PARTIES, ASKED)[-1]
    assert found.status is Status.WARNING


def test_without_any_open_route_even_an_unused_interface_is_a_problem() -> None:
    """There is nothing to change to."""
    shut = route("a", "b", "ib0", error="timed out")
    [found] = checks_between.routes([shut], PARTIES, ASKED)
    assert found.status is Status.PROBLEM


@pytest.mark.parametrize(
    ("target", "interface", "status"),
    [
        (LOGIN, "eth0", "problem"),
        (LOGIN, "ib0", "warning"),
        ("b", "eth0", "warning"),
        ("b", "ib0", "problem"),
    ],
)
def test_each_role_has_its_interface(target: str, interface: str, status: str) -> None:
    """The scheduler's counts towards the login node, the workers' towards nodes."""
    asked = Asked(batch="slurm", cores=1, interface="ib0", scheduler_interface="eth0")
    other = {"eth0": "ib0", "ib0": "eth0"}[interface]
    shut = route("a", target, interface, error="timed out")
    found = checks_between.routes([shut, route("a", target, other)], PARTIES, asked)
    assert found[-1].status == status


def test_a_node_without_our_packages_runs_another_python() -> None:
    """Even if the interpreter has the same path and version."""
    assert checks_node.python(report("login"), report(packages={})).status is Status.PROBLEM


def test_a_network_of_the_nodes_alone_is_no_fault() -> None:
    """The login node has no such interface, and another one is open."""
    login = report("login")
    del login["interfaces"]["ib0"]
    shut = route(LOGIN, "a", "ib0", error="timed out")
    found = checks_between.routes(
        [shut, route(LOGIN, "a", "eth0")], {**PARTIES, LOGIN: login}, ASKED
    )
    assert [each.status for each in found] == [Status.OK]


def test_a_certificate_that_is_refused_is_named() -> None:
    """Clocks are the usual reason."""
    said = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid"
    found = checks_between.tls([route(LOGIN, "a", error=said)], PARTIES)
    assert found is not None
    assert found.status is Status.PROBLEM
    unreadable = {**PARTIES, "a": report(tls="[Errno 13] Permission denied")}
    found = checks_between.tls([], unreadable)
    assert found is not None
    assert "Permission denied" in found.seen


# -- clocks and the shared directory -----------------------------------------------------------


@given(
    skew=st.floats(-1e6, 1e6),
    written=st.floats(0, 100),
    before=st.floats(0, 50),
    after=st.floats(0, 50),
)
def test_a_clock_is_within_its_bounds(
    skew: float, written: float, before: float, after: float
) -> None:
    """Whatever the skew, what the file's two moments prove holds it."""
    seen = (written - before, written + after)
    least, most = checks_between.clock_bounds({"written": written + skew, "time": 0.0}, seen)
    assert least - 1e-6 <= skew <= most + 1e-6


@pytest.mark.parametrize(
    ("bounds", "status", "words"),
    [
        ((-0.4, 0.4), "ok", "within"),
        ((-60.0, 0.1), "ok", "within"),
        ((599.0, 601.0), "problem", "599.0 s ahead of"),
        ((-3.0, -1.0), "warning", "1.0 s behind"),
    ],
)
def test_only_what_is_proved_of_a_clock_is_said(
    bounds: tuple[float, float], status: str, words: str
) -> None:
    """A file that was seen late says little."""
    [found] = checks_between.clock({"a": bounds}, PARTIES)
    assert found.status == status
    assert words in found.seen


def test_round_trips_tell_clocks_in_both_directions() -> None:
    """The shortest one counts."""
    measured = [
        route(LOGIN, "a", ahead=9.0, round_trip=1.0),
        route("a", LOGIN, ahead=-600.0, round_trip=0.002),
        route("a", "b", ahead=5.0),
    ]
    assert checks_between.measured_clocks(measured) == {"a": (599.999, 600.001)}


@pytest.mark.parametrize(
    ("delays", "status"), [((0.1, 0.2), "ok"), ((9.0, 0.1), "warning"), ((0.1, None), "warning")]
)
def test_files_are_seen_soon(delays: tuple[float, float | None], status: str) -> None:
    """Late is a warning, for the jobs that wait for files."""
    [found] = checks_between.shared({"a": delays}, PARTIES, "/d")
    assert found.status == status


def test_memory_of_one_machine_is_no_shared_directory() -> None:
    """That is known without a job."""
    assert checks_between.login_directory({"type": "ext4"}, "/d") is None
    found = checks_between.login_directory({"type": "tmpfs"}, "/dev/shm/x")
    assert found is not None
    assert found.name == "shared directory"


# -- jobs ----------------------------------------------------------------------


def outcome(**more: Any) -> Outcome:
    return Outcome(**{"directory": "/home/a/doctor-1", "program": "/env/python", "expected": 2,
                      **more})  # fmt: skip


PENDING = JobStatus(JobState.PENDING, "resources")
ENDED = JobStatus(JobState.FAILED, "exit 0:53")


@pytest.mark.parametrize(
    ("more", "name", "status", "words"),
    [
        ({"refused": SubmitRejected("sbatch refused the job: no")}, "submission", "problem", "no"),
        ({"refused": BatchSystemError("no single job id in: you get a mail")},
         "submission", "problem", "you get a mail"),
        ({"statuses": [PENDING]}, "jobs", "warning", "still waiting after 0 s: resources"),
        ({"statuses": [JobStatus(JobState.PENDING, "too big", impossible=True)]},
         "jobs", "problem", "can never start: too big"),
        ({"statuses": [JobStatus(JobState.HELD, "can't open /home/a/doctor-1/logs/x: no")]},
         "shared directory", "problem", "can't open"),
        ({"statuses": [JobStatus(JobState.HELD, "it could not be started (log directory)")]},
         "shared directory", "problem", "log directory"),
        ({"statuses": [JobStatus(JobState.RUNNING)], "waited": 90.0},
         "jobs", "problem", "a job runs, and no probe has reported after 90 s"),
        ({"statuses": [ENDED]}, "shared directory", "problem", "neither report nor log"),
        ({"statuses": [ENDED],
          "logs": ["python: can't open file '/home/a/doctor-1/probe.pyz': [Errno 13] no"]},
         "shared directory", "problem", "can't open file"),
        ({"statuses": [ENDED], "logs": ["Illegal instruction"]},
         "jobs", "problem", "Illegal instruction"),
        ({"reports": {"a": report("node01")}}, "jobs", "problem", "1 of 2 probes"),
        ({"reports": {"a": report("node01"), "b": report("node01")}},
         "jobs", "warning", "both jobs were on one node"),
        ({"reports": {"a": report("node01"), "b": report("node02")}},
         "jobs", "ok", "node01, node02"),
    ],
)  # fmt: skip
def test_what_became_of_the_jobs_is_said(
    more: dict[str, Any], name: str, status: str, words: str
) -> None:
    """Refused, waiting, never, ended without a word, half here."""
    [found] = checks_job.jobs(outcome(**more))
    assert (found.name, found.status) == (name, status)
    assert words in found.seen


@pytest.mark.parametrize(
    "line",
    [
        "/var/spool/slurmd/job1/slurm_script: line 7: module: command not found",
        'Lmod has detected the following error: The following module(s) are unknown: "nosuch"',
        "ERROR: Unable to locate a modulefile for 'nosuch'",
        "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for 'nosuch'",
        "/bin/sh: 1: conda: not found",
    ],
)  # fmt: skip
def test_a_line_of_the_prologue_that_failed_is_shown(line: str) -> None:
    """The job goes on, and something is missing there."""
    [found] = checks_job.prologue([f"hello\n{line}\n{checks_job.STARTS}x starts\nnot found\n"])
    assert found.status is Status.PROBLEM
    assert line.strip() in found.seen
    assert "hello" not in found.seen


def test_what_the_probe_itself_prints_is_no_prologue() -> None:
    """Nor is a greeting."""
    assert checks_job.prologue(["Welcome!\n" + checks_job.STARTS + "x\ncommand not found\n"]) == []


def test_amounts_have_three_digits() -> None:
    """A table is read by people."""
    assert rough(76544576 << 10) == "73 GiB"
    assert rough(0) == "0 B"
