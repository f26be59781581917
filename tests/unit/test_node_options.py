"""Options of a node supervisor, and its endings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.cli import worker as cli
from dask_hpc.errors import ConfigurationError, HeadUnreachable, HPCError, NodeError
from dask_hpc.node import ending, environment, options
from dask_hpc.node.options import WorkerOptions


def make(**wanted: object) -> WorkerOptions:
    return WorkerOptions(scheduler="tls://h:1", **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"scheduler": None}, "needs the scheduler's address"),
        ({"scheduler_file": Path("f")}, "one of them"),
        ({"interface": "ib0", "host": "h"}, "both say where to listen"),
        ({"nworkers": 0}, "leaves nothing to run"),
        ({"worker_class": "Worker"}, "no import path"),
        ({"interface": "ib0,"}, "neither a name nor a pattern"),
        ({"nthreads": 0}, "at least one thread"),
        ({"node": "big-01"}, "cannot be a part of a worker's name"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    wanted: dict[str, object], message: str
) -> None:
    """Before anything is imported or started."""
    with pytest.raises(ConfigurationError, match=message):
        WorkerOptions(**{"scheduler": "tls://h:1", **wanted})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "count", "names"),
    [
        ({"name": "job"}, 1, ["job"]),
        ({"name": "5"}, 1, [5]),
        ({"name": "job", "nworkers": 1}, 1, ["job-0"]),
        ({"name": "job", "nworkers": 2}, 2, ["job-0", "job-1"]),
        ({}, 1, ["host-7-0"]),
        ({"nworkers": 2}, 2, ["host-7-0", "host-7-1"]),
        ({"name": "job", "nworkers": 2, "node": "3"}, 2, ["job-3.0", "job-3.1"]),
        ({"name": "job", "node": "big_01"}, 1, ["job-big_01.0"]),
    ],
)
def test_workers_are_numbered_when_their_number_is_given(
    wanted: dict[str, object], count: int, names: list[str | int]
) -> None:
    """A job's workers are NAME-k even if there is one; a worker by hand keeps its name."""
    assert options.worker_names(make(**wanted), count, unique="host-7") == names


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("0.5", 0.5), ("5 min", 300), ("01:30:00", 5400)]
)
def test_durations_read_as_the_engine_reads_them(text: str, seconds: float) -> None:
    """A bare number is seconds."""
    assert options.parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "soon", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With an example of what to write."""
    with pytest.raises(ConfigurationError, match="-> write"):
        options.parse_seconds(text)


def test_resources_are_pairs() -> None:
    """Spaces and commas both separate."""
    assert options.parse_resources("GPU=2, MEM=10e9") == {"GPU": 2, "MEM": 10e9}
    with pytest.raises(ConfigurationError, match="GPU"):
        options.parse_resources("GPU")


def test_the_number_of_workers_is_a_number_or_auto() -> None:
    """Nothing else is guessed."""
    assert options.parse_nworkers("auto") == "auto"
    assert options.parse_nworkers("-1") == -1
    with pytest.raises(ConfigurationError, match="many"):
        options.parse_nworkers("many")


@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_no_two_processes_are_dealt_the_same_port(
    count: int, first: int, more: int, other: int
) -> None:
    """Overlapping ranges are divided, or refused; they never collide."""
    workers = f"{3000}:{3000 + first + more}"
    nannies = f"{3000 + first}:{3000 + first + other}"
    try:
        dealt = options.share_ports(workers, nannies, count)
    except ConfigurationError:
        return
    assert len(dealt) == count
    ports = [port for pair in dealt for side in pair for port in side]
    assert len(ports) == len(set(ports))
    assert all(side for pair in dealt for side in pair)


def test_without_ports_the_system_chooses() -> None:
    """Which is the rule."""
    assert options.share_ports(None, "0", 2) == [([], []), ([], [])]


@pytest.mark.parametrize("text", ["x", "9:8", "70000", "-3"])
def test_what_is_no_port_is_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(ConfigurationError, match="3000:3026"):
        options.parse_ports(text)


# --- the environment -----------------------------------------------------------------------------


def test_a_missing_or_random_hash_seed_is_fixed_and_the_users_word_stays() -> None:
    """Equal string hashes in all workers; threads as the user set them."""
    assert environment.missing({}) == dict(environment.DEFAULTS)
    users = {**environment.DEFAULTS, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "4"}
    assert environment.missing(users) == {}
    assert environment.missing({**users, "PYTHONHASHSEED": "random"}) == {"PYTHONHASHSEED": "6640"}


# --- endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasons", "text"),
    [
        ([], "all workers ended"),
        ([ending.BROKEN, "nanny-close-gracefully"], "closed by the cluster"),
        ([ending.BROKEN], "the head is gone"),
        (["worker-lifetime-reached"], "the lifetime of the workers is over"),
    ],
)
def test_the_last_line_says_why_in_plain_words(reasons: list[str], text: str) -> None:
    """The engine's words are for its developers."""
    assert ending.finished(reasons) == ending.Ending(0, text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HeadUnreachable("x", hint="y"), 75),
        (ConfigurationError("x"), 78),
        (NodeError("x"), 78),
        (HPCError("x"), 70),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error: HPCError, code: int) -> None:
    """Machines read the last line of a log."""
    end = ending.failed(error)
    assert end.code == code
    assert "\n" not in end.reason


# --- the command line ----------------------------------------------------------------------------


def read(*arguments: str) -> WorkerOptions:
    with cli.worker.make_context("worker", list(arguments)) as context:
        return cli.read_options(**context.params)


def test_the_command_line_becomes_options() -> None:
    """As a job script writes it."""
    wanted = read(
        *("--scheduler-file", "/s.json", "--nworkers", "4", "--nthreads", "2"),
        *("--memory-limit", "1 GiB", "--death-timeout", "5 min", "--fork-preload", "pandas"),
        *("--spill", "never", "--scratch", "/s/$USER", "--await-head", "2 min"),
    )
    assert wanted == WorkerOptions(
        scheduler_file=Path("/s.json"),
        nworkers=4,
        nthreads=2,
        memory_limit="1 GiB",
        death_timeout=300,
        fork_preload=("pandas",),
        spill="never",
        scratch="/s/$USER",
        await_head=120,
    )
    with pytest.raises(ConfigurationError, match="needs the --scheduler-file"):
        read("tls://h:1", "--await-head", "9")


def test_arguments_of_a_preload_are_not_the_address() -> None:
    """`dask worker` takes the first of them for the scheduler."""
    wanted = read("--scheduler-file", "/s", "--preload", "m", "--colour", "red")
    assert wanted.preload_argv == ("--colour", "red")
    assert read("tls://h:1", "--preload", "m", "--x").preload_argv == ("--x",)


@pytest.mark.parametrize("flag", ["--no-nanny", "--dashboard"])
def test_what_is_not_offered_says_why(flag: str) -> None:
    """A flag of the engine is never silently ignored."""
    with pytest.raises(ConfigurationError, match="is not offered: "):
        read("tls://h:1", flag)


def test_half_an_identity_is_refused() -> None:
    """It would connect without a certificate, and be refused by the head without a word."""
    with pytest.raises(ConfigurationError, match="all three"):
        read("tls://h:1", "--tls-cert", "/c.pem")
