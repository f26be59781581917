"""The driver of the embedded batch system: what it builds and what it reads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.local import Local
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.errors import BatchSystemError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

LOCAL = Local()
PREFIX = (sys.executable, "-P", "-m", "dask_hpc.batch.local")


def printed(stdout: str = "", stderr: str = "", returncode: int = 0) -> Output:
    return Output(Command(PREFIX), returncode, stdout, stderr)


def test_script_asks_in_bytes_and_seconds() -> None:
    """The whole job script, as the batch system reads it."""
    spec = JobSpec(
        command=("worker", "--name", WORKER_PREFIX),
        cores=4,
        memory=8 * 1024**3,
        walltime=3600,
        log_directory=Path("/logs"),
        environment=(("OMP_NUM_THREADS", "1"),),
    )
    assert job_script(spec, LOCAL).splitlines() == [
        "#!/usr/bin/env bash",
        "#LOCAL --cores=4",
        "#LOCAL --memory=8589934592",
        "#LOCAL --walltime=3600",
        "",
        "export OMP_NUM_THREADS=1",
        'exec worker --name "${LOCAL_JOB_NAME}-${LOCAL_ARRAY_TASK_ID}"',
    ]


def test_directives_leave_out_what_is_not_asked() -> None:
    """Memory and walltime are the batch system's to choose unless given."""
    spec = JobSpec(command=("true",), cores=1, log_directory=Path("/logs"))
    assert LOCAL.directives(spec) == ("--cores=1",)


def test_submit_names_the_jobs_and_their_logs() -> None:
    """One command for the whole array."""
    spec = JobSpec(command=("true",), cores=1, log_directory=Path("/c/logs"))
    command = LOCAL.submit(Submission("name-ab12", 3), spec, Path("/c/job.sh"))
    assert command.argv == (
        *PREFIX,
        "submit",
        "--name=name-ab12",
        "--count=3",
        "--log=/c/logs/name-ab12-%a.log",
        "/c/job.sh",
    )


@pytest.mark.parametrize("text", ["17\n", "chatter of a sitecustomize\n17\n"])
def test_submitted_reads_the_id(text: str) -> None:
    """The line that is a number is the id."""
    assert LOCAL.submitted(printed(text)) == "17"


def test_submitted_tells_why_a_job_is_refused() -> None:
    """A refusal carries the batch system's own words."""
    with pytest.raises(SubmitRejected, match=r"refused the job: /c/job.sh is no script"):
        LOCAL.submitted(printed(stderr="local: /c/job.sh is no script", returncode=1))


def test_submitted_without_an_id_is_an_error() -> None:
    """A success without an id is not taken for one."""
    with pytest.raises(BatchSystemError, match="no job id"):
        LOCAL.submitted(printed())


def test_query_asks_by_name() -> None:
    """Names find submissions whose id was lost."""
    assert LOCAL.query({"a": "1", "b": None}).argv == (*PREFIX, "query", "--name=a,b")


def test_states_reads_every_column() -> None:
    """Times, exit codes and signals come out as numbers, what is empty as None."""
    listing = LOCAL.states(
        printed(
            "chatter | of | a sitecustomize\n"
            "3_0|RUNNING||1795380440.55||||a\n"
            "3_1|FAILED|its script ended with exit code 2|10|20.5|2||a\n"
            "3_2|TIMEOUT|it ran into its walltime of 5 s|10|20||9|a\n"
            "4_0|PENDING|waiting for free cores|||||b-c\n"
            "4_1|PENDING|impossible: it asks for 9 cores, the local batch system has 8|||||b-c\n"
        )
    )
    assert listing.names == {"a": "3", "b-c": "4"}
    assert listing.jobs == {
        JobId("3", 0): JobStatus(JobState.RUNNING, node="localhost", start=1795380440.55),
        JobId("3", 1): JobStatus(
            JobState.FAILED,
            "its script ended with exit code 2",
            node="localhost",
            exit_code=2,
            start=10.0,
            end=20.5,
        ),
        JobId("3", 2): JobStatus(
            JobState.TIMEOUT,
            "it ran into its walltime of 5 s",
            node="localhost",
            signal=9,
            start=10.0,
            end=20.0,
        ),
        JobId("4", 0): JobStatus(JobState.PENDING, "waiting for free cores"),
        JobId("4", 1): JobStatus(
            JobState.PENDING,
            "impossible: it asks for 9 cores, the local batch system has 8",
            impossible=True,
        ),
    }


def test_a_state_of_a_later_version_is_not_an_end() -> None:
    """An unknown word never makes a job count as ended."""
    assert LOCAL.states(printed("3_0|NEW||||||a\n")).jobs[JobId("3", 0)].state.live


def test_every_word_of_the_batch_system_is_known() -> None:
    """The table covers the states the server writes."""
    from dask_hpc.batch.local_state import State

    assert set(LOCAL.STATES) == set(State)


def test_cancel_names_whole_arrays_and_parts() -> None:
    """A whole array by its id, a part as ranges."""
    jobs = [JobId("3", 0), JobId("3", 1), *(JobId("4", i) for i in (0, 1, 2, 7))]
    [command] = LOCAL.cancel(jobs, {"3": 2, "4": 9})
    assert command.argv == (*PREFIX, "cancel", "3", "4_[0-2,7]")


def test_a_busy_server_is_transient_and_a_refusal_is_not() -> None:
    """Only trouble that passes is worth another try."""
    busy = "local: local batch system is busy: no answer from /d/socket"
    assert LOCAL.is_transient(printed(stderr=busy, returncode=75))
    assert not LOCAL.is_transient(printed(stderr="local: no script", returncode=1))


def test_arrays_are_as_large_as_the_batch_system_takes() -> None:
    """And it remembers the end of each of their jobs."""
    from dask_hpc.batch.local import MOST_JOBS
    from dask_hpc.batch.local_book import KEEP_JOBS

    assert LOCAL.default_array_limit == MOST_JOBS == KEEP_JOBS
