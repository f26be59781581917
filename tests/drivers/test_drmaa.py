"""The driver of DRMAA: what it builds and what it reads."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.drmaa import DRMAA
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.errors import BatchSystemError, ConfigurationError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

SYSTEM = DRMAA()
PREFIX = (sys.executable, "-P", "-m", "dask_hpc.batch.drmaa")
SPEC = JobSpec(command=("worker", "--name", WORKER_PREFIX), cores=1, log_directory=Path("/logs"))
NATIVE = "-pe smp {slots} -l h_rt={walltime} -q {queue}"


def printed(stdout: str = "", stderr: str = "", returncode: int = 0) -> Output:
    return Output(Command(PREFIX), returncode, stdout, stderr)


def test_the_script_shows_what_is_asked_for() -> None:
    """The native specification with its numbers, the user's lines, and DRMAA attributes."""
    spec = replace(
        SPEC,
        cores=4,
        walltime=90061,
        queue="all.q",
        directives=("-R y", "drmaa_job_category=dask"),
        options={"native_specification": "-pe smp {cores} -q {queue} -v A={B}"},
    )
    prefix = (
        '"${DASK_HPC_JOB}-${SGE_TASK_ID:-${SLURM_ARRAY_TASK_ID:-${LSB_JOBINDEX:-'
        "${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-"
        "$(readlink /proc/$$/fd/1 | sed 's/.*-//; s/[.]log$//')}}}}}\""
    )
    assert job_script(spec, SYSTEM).splitlines() == [
        "#!/usr/bin/env bash",
        "#DRMAA -pe smp 4 -q all.q -v A={B}",
        "#DRMAA drmaa_wct_hlimit=25:01:01",
        "#DRMAA -R y",
        "#DRMAA drmaa_job_category=dask",
        "",
        f"exec worker --name {prefix}",
    ]
    command = SYSTEM.submit(Submission("mine-1", 3, 1), spec, Path("/c/a job.sh"))
    assert command.argv == (
        *PREFIX,
        "submit",
        "--name=mine-1",
        "--count=3",
        "--logs=/logs",
        "--native=-pe smp 4 -q all.q -v A={B} -R y",
        "--set=drmaa_wct_hlimit=25:01:01",
        "--set=drmaa_job_category=dask",
        "--",
        "/usr/bin/env",
        "bash",
        "/c/a job.sh",
    )


def test_a_walltime_that_the_native_specification_says_is_not_said_twice() -> None:
    """Grid Engine's library, for one, knows no attribute for it."""
    spec = replace(SPEC, walltime=600, queue="q", options={"native_specification": NATIVE})
    assert SYSTEM.directives(spec) == ("-pe smp 1 -l h_rt=600 -q q",)


def test_attributes_can_be_left_out() -> None:
    """By their names, as any directive."""
    spec = replace(SPEC, walltime=600, directives_skip=("drmaa_wct_hlimit",))
    command = SYSTEM.submit(Submission("m", 1, 1), spec, Path("j"))
    assert not any(word.startswith("--set") for word in command.argv)


def test_what_drmaa_has_no_words_for_is_not_silently_dropped() -> None:
    """Four cores of which the batch system grants one would be a lie to it."""
    with pytest.raises(ConfigurationError, match="no words for cores, queue") as caught:
        SYSTEM.directives(replace(SPEC, cores=4, queue="all.q"))
    assert "native_specification" in caught.value.hint
    SYSTEM.directives(replace(SPEC, cores=4, directives=("-pe smp 4",)))


def test_a_placeholder_without_a_value_is_refused() -> None:
    """It must not reach the batch system as it is, or as None."""
    spec = replace(SPEC, options={"native_specification": NATIVE})
    with pytest.raises(ConfigurationError, match=r"asks for \{walltime\}"):
        SYSTEM.directives(spec)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"SGE_TASK_ID": "3"}, "a-b-3"),
        ({"SLURM_ARRAY_TASK_ID": "4"}, "a-b-4"),
        ({"LSB_JOBINDEX": "5"}, "a-b-5"),
        ({"PBS_ARRAYID": "6"}, "a-b-6"),
        ({}, "a-b-17"),
    ],
)
def test_a_job_finds_its_index(variables: dict[str, str], name: str, tmp_path: Path) -> None:
    """DRMAA has no variable for it: the batch system's own, else the name of the job's log."""
    log = tmp_path / "a-b-17.log"
    with log.open("w") as out:
        subprocess.run(
            ["bash", "-c", f'echo "{SYSTEM.worker_prefix}"'],
            stdout=out,
            check=True,
            env={"PATH": os.environ["PATH"], "DASK_HPC_JOB": "a-b", **variables},
        )
    assert log.read_text() == f"{name}\n"


def test_the_name_is_the_id() -> None:
    """Of chatter and one name, the name."""
    assert SYSTEM.submitted(printed("a banner of two words\nmine-1\n")) == "mine-1"
    for text in ("", "one\ntwo\n", "two words\n"):
        with pytest.raises(BatchSystemError, match="no single job name") as caught:
            SYSTEM.submitted(printed(text))
        assert not isinstance(caught.value, SubmitRejected)


def test_a_submit_command_that_is_killed_leaves_the_submission_in_doubt() -> None:
    """It may have arrived: it is looked for by its name."""
    with pytest.raises(BatchSystemError) as caught:
        SYSTEM.submitted(printed(returncode=-9))
    assert not isinstance(caught.value, SubmitRejected)


def test_a_refusal_has_the_batch_systems_words_and_our_hint() -> None:
    """Each where it belongs."""
    said = "drmaa: error: no suitable queues\n"
    with pytest.raises(SubmitRejected, match=r"refused the job: error: no suitable queues$"):
        SYSTEM.submitted(printed(stderr=said, returncode=1))
    said = "drmaa: the Python package drmaa is not installed here\n  -> run: pip install 'x'\n"
    with pytest.raises(SubmitRejected) as caught:
        SYSTEM.submitted(printed(stderr=said, returncode=1))
    assert caught.value.hint == "run: pip install 'x'"


def test_query_and_cancel_go_by_name() -> None:
    """A submission whose id was lost has nothing else."""
    assert SYSTEM.query({"a": "a", "b-c": None}).argv == (*PREFIX, "query", "a", "b-c")
    jobs = [JobId("a", 1), JobId("a", 2), *(JobId("b-c", i) for i in (1, 2, 3, 7))]
    [command] = SYSTEM.cancel(jobs, {"a": 2, "b-c": 9})
    assert command.argv == (*PREFIX, "cancel", "a", "b-c_[1-3,7]")


def test_the_library_finds_room_for_its_thread_storage() -> None:
    """Debian's library of Grid Engine does not load into a running Python otherwise."""
    command = SYSTEM.query({"a": None})
    environment = command.environment({"SGE_ROOT": "/opt/sge"})
    assert environment["GLIBC_TUNABLES"] == "glibc.rtld.optional_static_tls=4096"
    assert environment["SGE_ROOT"] == "/opt/sge"


def test_states_reads_every_column() -> None:
    """Chatter and half a line are no jobs."""
    text = (
        "chatter | of | a sitecustomize\n"
        "a_1|running||\n"
        "a_2|failed|3|\n"
        "a_3|failed||SIGKILL\n"
        "a_4|failed||aborted\n"
        "b.c_x-d_1|done|0|\n"
        "b.c_x-d_2|user_on_hold||\n"
        "b.c_x-d_3|runn"
    )
    listing = SYSTEM.states(printed(text))
    assert listing.names == {"a": "a", "b.c_x-d": "b.c_x-d"}
    assert listing.jobs == {
        JobId("a", 1): JobStatus(JobState.RUNNING),
        JobId("a", 2): JobStatus(JobState.FAILED, exit_code=3),
        JobId("a", 3): JobStatus(JobState.FAILED, signal=9),
        JobId("a", 4): JobStatus(JobState.FAILED, "aborted: it could not start, or was cancelled"),
        JobId("b.c_x-d", 1): JobStatus(JobState.COMPLETED, exit_code=0),
        JobId("b.c_x-d", 2): JobStatus(JobState.HELD, "held by you"),
    }


@pytest.mark.parametrize(("word", "state"), [*DRMAA.STATES.items(), ("new", JobState.RUNNING)])
def test_every_state_is_known_and_a_new_one_is_no_end(word: str, state: JobState) -> None:
    """GFD-R.133, drmaa_job_ps; and the two of our own."""
    (each,) = SYSTEM.states(printed(f"a_1|{word}||\n")).jobs.values()
    assert each.state is state


def test_only_silence_of_the_batch_system_is_transient() -> None:
    """A refusal stays one."""
    busy = "drmaa: the batch system does not answer: unable to send message to qmaster"
    assert SYSTEM.is_transient(printed(stderr=busy, returncode=75))
    assert not SYSTEM.is_transient(printed(stderr="drmaa: no DRMAA library: x", returncode=1))
    assert not SYSTEM.answered(printed(stderr=busy, returncode=75))
