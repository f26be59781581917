"""What the OAR driver writes, and what it reads in output recorded from OAR 2.5.9."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.oar import OAR
from dask_hpc.drivers.registry import recognise
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.errors import (
    BatchSystemError,
    BatchSystemUnavailable,
    ConfigurationError,
    SubmitRejected,
)
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

DRIVER = OAR()
VERSION = "oar/2.5.9"
LOGS = Path("/home/alice/logs")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=4, log_directory=LOGS
)
SCRIPT = Path("/c/job.sh")


def printed(stdout: str, *, rc: int = 0, stderr: str = "", sql: str = "") -> Output:
    return Output(Command(("oarstat", "--sql", sql)), rc, stdout, stderr)


def row(**fields: object) -> dict[str, object]:
    return {
        "Job_Id": 21,
        "array_id": 21,
        "array_index": 1,
        "name": "mine-1",
        "state": "Waiting",
        "message": "R=1,W=0:10:0,J=B,N=mine-1 (Karma=0.000,quota_ok)",
        "events": [],
        "exit_code": None,
        "assigned_network_address": [],
        "startTime": 0,
        "scheduledStart": None,
        "stopTime": 0,
    } | fields


def listed(*rows: dict[str, object]) -> str:
    return json.dumps({str(each["Job_Id"]): each for each in rows}, indent=3) + "\n"


def status(**fields: object) -> JobStatus:
    (found,) = DRIVER.states(printed(listed(row(**fields)))).jobs.values()
    return found


def resources(spec: JobSpec) -> str:
    argv = DRIVER.submit(Submission("m", 1), spec, SCRIPT).argv
    return argv[argv.index("-l") + 1]


# What it writes


def test_the_script_shows_everything_the_spec_says_and_opens_its_log() -> None:
    """The directives are comments to OAR, as the script is not executable; no log is spooled."""
    spec = JobSpec(
        command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX, "it's $HOME"),
        cores=16,
        log_directory=Path("/home/alice/my logs"),
        memory=32 * 1024**3,
        nodes=2,
        walltime=90000,
        queue="main",
        account="lab",
        directives=("-t besteffort", "-p \"cluster='big'\""),
        prologue=("module load python",),
        epilogue=("rm -rf $SCRATCH/mine",),
        environment=(("OMP_NUM_THREADS", "1"), ("GREETING", "a b")),
        options={"memory_per_core_property_name": "memcore"},
    )
    assert (
        job_script(spec, DRIVER)
        == """\
#!/usr/bin/env bash
#OAR -l '{memcore>=2048}/nodes=2/core=16,walltime=25:00:00'
#OAR -q main
#OAR --project lab
#OAR -t besteffort
#OAR -p "cluster='big'"

exec >>'/home/alice/my logs/'"${OAR_JOB_NAME}-${OAR_ARRAY_INDEX}".log 2>&1
export OMP_NUM_THREADS=1
export GREETING='a b'
module load python
/opt/env/bin/dask-worker --name "${OAR_JOB_NAME}-${OAR_ARRAY_INDEX}" 'it'"'"'s $HOME' &
dask_hpc_pid=$!
for dask_hpc_signal in INT TERM USR1 USR2; do
    trap "kill -$dask_hpc_signal $dask_hpc_pid 2>/dev/null" "$dask_hpc_signal"
done
while wait "$dask_hpc_pid"; dask_hpc_status=$?; kill -0 "$dask_hpc_pid" 2>/dev/null; do
    :
done
rm -rf $SCRATCH/mine
exit "$dask_hpc_status"
"""
    )


def test_the_shortest_script_asks_for_cores_alone() -> None:
    """What the spec leaves open stays the site's default, and the command replaces the shell."""
    assert (
        job_script(SPEC, DRIVER)
        == """\
#!/usr/bin/env bash
#OAR -l /nodes=1/core=4

exec >>/home/alice/logs/"${OAR_JOB_NAME}-${OAR_ARRAY_INDEX}".log 2>&1
exec /opt/env/bin/dask-worker --name "${OAR_JOB_NAME}-${OAR_ARRAY_INDEX}"
"""
    )


def test_submit_repeats_the_directives_as_arguments() -> None:
    """One array; the user's own options come before ours, of which the last one counts."""
    spec = replace(SPEC, queue="main", directives=("-t besteffort", "-p \"cluster='big'\""))
    command = DRIVER.submit(Submission("mine-7f3a", 10, 1), spec, SCRIPT)
    assert command.argv == (
        *("oarsub", "-l", "/nodes=1/core=4", "-q", "main"),
        *("-t", "besteffort", "-p", "cluster='big'"),
        *("-n", "mine-7f3a", "--array", "10", "-O", "/dev/null", "-E", "/dev/null"),
        "/usr/bin/env bash /c/job.sh",
    )


def test_a_path_and_an_interpreter_are_taken_literally() -> None:
    """The login shell of the job runs the command, so blanks and dollars are quoted."""
    spec = replace(SPEC, shebang="#!/bin/zsh -f")
    script = Path("/c/it's 100%jobid% $HOME/job.sh")
    command = DRIVER.submit(Submission("m", 1), spec, script)
    assert command.argv[-1] == "/bin/zsh -f '/c/it'\"'\"'s 100%jobid% $HOME/job.sh'"


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({"walltime": 61}, {}, "/nodes=1/core=4,walltime=0:01:01"),
        ({"walltime": 1000 * 3600}, {}, "/nodes=1/core=4,walltime=1000:00:00"),
        ({"gpus": 2}, {}, "/nodes=1/gpu=2/core=2"),
        ({"gpus": 3}, {}, "/nodes=1/gpu=3/core=2"),
        ({"memory": 4 * 2**20 + 1}, {}, "/nodes=1/core=4"),
        (
            {"memory": 4 * 2**20 + 1},
            {"memory_per_core_property_name": "memcore"},
            "{memcore>=2}/nodes=1/core=4",
        ),
        (
            {"memory": 2**30},
            {"memory_per_core_property_name": "not_applicable"},
            "/nodes=1/core=4",
        ),
        ({"walltime": 60}, {"resource_spec": "/host=1/cpu=1"}, "/host=1/cpu=1,walltime=0:01:00"),
        (
            {"memory": 2**30},
            {
                "resource_spec": "{gpu='A' OR gpu='B'}/nodes=1/core=4",
                "memory_per_core_property_name": "memcore",
            },
            "{(gpu='A' OR gpu='B') AND memcore>=256}/nodes=1/core=4",
        ),
        ({}, {"resource_spec": "/core=2,walltime=1:0:0"}, "/core=2,walltime=1:0:0"),
    ],
)
def test_one_description_holds_what_is_asked_for(
    fields: dict[str, int], options: dict[str, str], expected: str
) -> None:
    """Cores, GPUs, walltime; memory is a property of the cores, and never less than is used."""
    assert resources(replace(SPEC, options=options, **fields)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, walltime=60, options={"resource_spec": "/core=2,walltime=1:0:0"}),
        replace(SPEC, memory=1, options={"memory_per_core_property_name": "a or 1"}),
        replace(SPEC, queue="a\nb"),
    ],
)
def test_contradictions_are_refused_before_anything_is_submitted(spec: JobSpec) -> None:
    """Two walltimes: the workers would not know when to stop."""
    with pytest.raises(ConfigurationError):
        DRIVER.submit(Submission("m", 1), spec, SCRIPT)


def test_every_value_stays_one_argument() -> None:
    """Whatever a user types in queue or account is no option and no second word."""
    spec = replace(SPEC, queue="a b; c", account="-x 'y'")
    argv = DRIVER.submit(Submission("m", 1), spec, SCRIPT).argv
    assert argv[3:7] == ("-q", "a b; c", "--project", "-x 'y'")


def test_a_directive_can_be_left_out() -> None:
    """By its option's name, as in the script."""
    argv = DRIVER.submit(Submission("m", 1), replace(SPEC, directives_skip=("-l",)), SCRIPT).argv
    assert "-l" not in argv


def test_one_query_asks_for_all_arrays() -> None:
    """By id, where that is known: the table of jobs has no index on names."""
    command = DRIVER.query({"b": "9", "a": "10", "lost-2": None, "lost-1": None})
    assert command.argv == (
        *("oarstat", "--full", "--json", "--sql"),
        "array_id IN (9,10) OR job_name IN ('lost-1','lost-2')",
    )
    assert DRIVER.query({"lost-1": None}).argv[-1] == "job_name IN ('lost-1')"


def test_one_command_cancels_whole_arrays_and_parts() -> None:
    """Only what has not ended, so that nothing is noted against jobs that have."""
    jobs = [*(JobId("66", i) for i in (1, 2)), *(JobId("97", i) for i in (3, 1)), JobId("9", 1)]
    [command] = DRIVER.cancel(jobs, {"66": 2, "97": 10, "9": 1})
    assert command.argv == (
        *("oardel", "--sql"),
        (
            "state NOT IN ('Terminated','Error') AND (array_id IN (9,66)"
            " OR (array_id = 97 AND array_index IN (1,3)))"
        ),
    )


# Ids


def test_recorded_submissions_give_their_ids() -> None:
    """Among the words of admission rules; one job alone has no line for its array."""
    several, one = load(f"{VERSION}/running").all("oarsub")
    assert (DRIVER.submitted(several), DRIVER.submitted(one)) == ("21", "24")


@pytest.mark.parametrize(
    "stdout",
    [
        "OAR_ARRAY_ID=7\n",
        "[ADMISSION RULE] OAR_ARRAY_ID=9 is nice\n  \nOAR_JOB_ID=7\nOAR_JOB_ID=8\nOAR_ARRAY_ID=7\n",
        "OAR_JOB_ID=7\r\n",
        "Welcome, job 12\nOAR_JOB_ID=7\nReservation valid --> OK\n",
    ],
)
def test_the_id_is_found_among_chatter(stdout: str) -> None:
    """Only a line that is an id counts."""
    assert DRIVER.submitted(printed(stdout)) == "7"


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "OAR_JOB_ID=-5\n",
        "OAR_JOB_ID=7\nOAR_JOB_ID=8\n",
        "OAR_ARRAY_ID=\n",
        "7\n",
        "OAR_JOB_ID=1",
    ],
)
def test_no_id_is_guessed(stdout: str) -> None:
    """With none or several candidates the submission is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no single array id") as caught:
        DRIVER.submitted(printed(stdout))
    assert not isinstance(caught.value, SubmitRejected)


@pytest.mark.parametrize("rc", [-9, 1])
def test_a_submission_that_says_nothing_is_not_refused(rc: int) -> None:
    """Killed, or silent: it may have been accepted before."""
    with pytest.raises(BatchSystemError, match="no single") as caught:
        DRIVER.submitted(printed("", rc=rc))
    assert not isinstance(caught.value, SubmitRejected)


def test_a_refusal_repeats_oars_own_words() -> None:
    """Each on one line; none is taken for a passing failure, not even an error of the database."""
    said, hints = [], []
    for output in load(f"{VERSION}/refused").all("oarsub"):
        if output.returncode == 0:
            continue
        assert not DRIVER.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            DRIVER.submitted(output)
        said.append(caught.value.args[0].removeprefix("oarsub refused the job: "))
        hints.append(caught.value.hint)
    enough = "Simple array job submission is used; There are not enough resources for your request"
    assert said[:3] == ["ERROR : The queue nosuch does not exist", enough, enough]
    assert 'column "gpu" does not exist' in said[3]
    assert said[4:6] == [r"/!\ Cannot recognize the resource description : host=x", enough]
    assert 'column "nosuch" does not exist' in said[6]
    assert said[7:] == [
        "[ADMISSION RULE] Only member of the group admin can submit jobs in the admin queue",
        "[ADMISSION RULE] Error: unknown job type: nosuch",
        "Unknown option: nosuch",
    ]
    words = ["queue", "oarnodes", "oarnodes", "property", "hierarchy", "oarnodes", "property"]
    assert all(word in hint for word, hint in zip(words, hints, strict=False))


# States


def test_each_element_of_an_array_is_a_job() -> None:
    """Waiting, then running with node and start; found by name as well as by id."""
    seen = load(f"{VERSION}/running")
    asked = DRIVER.query({"rec-array": "21", "rec-one": "24"})
    every = {*(JobId("21", i) for i in (1, 2, 3)), JobId("24", 1)}
    waiting = DRIVER.states(seen.replay(asked))
    assert waiting.names == {"rec-array": "21", "rec-one": "24"}
    assert dict(waiting.jobs) == dict.fromkeys(every, JobStatus(JobState.PENDING))
    running = DRIVER.states(seen.replay(asked, 1)).jobs
    assert dict(running) == dict.fromkeys(
        every, JobStatus(JobState.RUNNING, node="node01", start=1795391760, end=1795392360)
    )
    lost = seen.replay(DRIVER.query({"rec-array": None, "rec-one": "24"}))
    assert DRIVER.states(lost).names == {"rec-array": "21", "rec-one": "24"}


def test_a_job_that_has_been_placed_waits_for_its_start() -> None:
    """The start that OAR foresees is an estimate; a held job has none."""
    held, placed, _ = map(DRIVER.states, load(f"{VERSION}/ends").all("oarstat"))
    assert held.jobs[JobId("35", 1)] == JobStatus(JobState.HELD)
    assert placed.jobs[JobId("38", 1)] == JobStatus(JobState.PENDING, start=1795391822)


def test_every_way_to_end_is_told() -> None:
    """Exit 3 and signal 9 are Terminated; Error is one of many things: the events tell which."""
    listing = DRIVER.states(load(f"{VERSION}/ends").all("oarstat")[-1])
    told = {
        name: (ended.state, ended.reason, ended.exit_code, ended.signal)
        for name, array in listing.names.items()
        for ended in [listing.jobs[JobId(array, 1)]]
    }
    assert told == {
        "rec-ok": (JobState.COMPLETED, "", 0, None),
        "rec-exit3": (JobState.FAILED, "", 3, None),
        "rec-kill": (JobState.FAILED, "", None, 9),
        "rec-noscript": (JobState.FAILED, "", 127, None),
        "rec-oom": (JobState.FAILED, "", 137, None),  # OAR does not tell of memory
        "rec-wall": (JobState.TIMEOUT, "its walltime is over", None, None),
        "rec-nodir": (
            JobState.FAILED,
            "its working directory is not on the node",
            None,
            None,
        ),
        "rec-held": (JobState.CANCELLED, "cancelled by alice", None, None),
        "rec-root": (JobState.CANCELLED, "cancelled by root", None, None),
        "rec-be": (JobState.PREEMPTED, "a job of a higher class took its cores", None, None),
    }
    ended = listing.jobs[JobId("33", 1)]
    assert (ended.node, ended.start, ended.end) == ("node01", 1795391813, 1795391826)


def test_a_job_submitted_again_by_oar_is_the_same_job() -> None:
    """Its node did not answer: the new job has the array and the index of the old one."""
    away, back = load(f"{VERSION}/node-failed").all("oarstat")
    assert DRIVER.states(away).jobs == {
        JobId("42", index): JobStatus(
            JobState.PENDING,
            "no free resources that fit (No enough matching resources (no_matching_slot))",
        )
        for index in (1, 2)
    }
    again = DRIVER.states(back).jobs
    assert {job.index: each.state for job, each in again.items()} == {
        1: JobState.COMPLETED,
        2: JobState.COMPLETED,
    }


def test_a_changed_walltime_is_no_end() -> None:
    """OAR notes it as an event of the type of those whose walltime is over."""
    extended = load("oar/2.5.9/extend")
    noted = extended.all("oarstat")[-1].stdout
    events = json.loads(noted)["1541"]["events"]
    assert [event["type"] for event in events] == ["WALLTIME"]
    cancelled = {"type": "FRAG_JOB_REQUEST", "description": "User alice requested to frag the job"}
    assert status(state="Error", events=[*events, cancelled]).state is JobState.CANCELLED
    over = {"type": "WALLTIME", "description": "[sarko] Job [33] from 1 with 10; current time=12"}
    assert status(state="Error", events=[*events, over]).state is JobState.TIMEOUT


def test_without_a_second_life_a_node_that_did_not_answer_is_told() -> None:
    """Not the job's fault."""
    events = [{"type": "CPUSET_ERROR", "description": "[bipbip] OAR suspects nodes"}]
    ended = status(state="Error", events=events)
    assert (ended.state, ended.reason) == (
        JobState.NODE_FAIL,
        "a node of it could not be set up",
    )


def test_a_node_that_is_declared_dead_takes_its_jobs_along() -> None:
    """OAR itself asks for their end, as the user oar."""
    (lost,) = DRIVER.states(load(f"{VERSION}/node-dead").all("oarstat")[-1]).jobs.values()
    assert (lost.state, lost.reason, lost.node) == (
        JobState.NODE_FAIL,
        "OAR took its node away",
        "node04",
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Waiting", JobState.PENDING),
        ("Hold", JobState.HELD),
        ("toLaunch", JobState.PENDING),
        ("toAckReservation", JobState.PENDING),
        ("Launching", JobState.PENDING),
        ("Running", JobState.RUNNING),
        ("Suspended", JobState.RUNNING),
        ("Resuming", JobState.RUNNING),
        ("Finishing", JobState.ENDING),
        ("toError", JobState.ENDING),
        ("Terminated", JobState.COMPLETED),
        ("Error", JobState.FAILED),
        ("Teleporting", JobState.RUNNING),
    ],
)
def test_every_state_is_known_and_a_new_one_is_not_an_end(state: str, expected: JobState) -> None:
    """An OAR newer than the table must not make us start jobs again."""
    assert status(state=state).state is expected


@pytest.mark.parametrize(
    ("message", "reason", "impossible"),
    [
        ("R=1,W=0:10:0,J=B,N=mine (Karma=0.000,quota_ok)", "", False),
        (
            "Cannot find enough resources for job 7",
            "no free resources that fit (Cannot find enough resources for job 7)",
            False,
        ),
        ("Something new", "Something new", False),
        (
            "Job will never run (deadline=7), setting it to error",
            "Job will never run (deadline=7), setting it to error",
            True,
        ),
        (None, "", False),
    ],
)
def test_reasons_are_told_in_words_or_as_they_are(
    message: str | None, reason: str, *, impossible: bool
) -> None:
    """The message of a job that was placed says what it asks for, and is no reason."""
    told = status(message=message)
    assert (told.reason, told.impossible) == (reason, impossible)


def test_an_error_without_a_known_event_repeats_the_message() -> None:
    """Better than nothing."""
    ended = status(state="Error", message="Job exterminated by Leon", stopTime=9)
    assert (ended.state, ended.reason, ended.end) == (
        JobState.FAILED,
        "Job exterminated by Leon",
        9,
    )


# Answers


def test_an_unknown_name_lists_nothing_and_that_is_an_answer() -> None:
    """Exit 0 and nothing printed."""
    output = load(f"{VERSION}/refused").replay(DRIVER.query({"nosuch": None}))
    assert DRIVER.answered(output)
    assert (DRIVER.states(output).jobs, DRIVER.states(output).names) == ({}, {})


def test_an_array_that_is_not_listed_is_no_answer() -> None:
    """A statement that the database refuses exits 0 as well, and OAR forgets no job."""
    seen = load(f"{VERSION}/refused")
    unknown = seen.replay(DRIVER.query({"x": "999999"}))
    refused = seen.replay(Command(("oarstat", "--full", "--json", "--sql", "nosuch = 3")))
    assert (unknown.returncode, unknown.stdout) == (refused.returncode, refused.stdout) == (0, "")
    assert not DRIVER.answered(unknown)


def test_chatter_around_the_list_is_ignored() -> None:
    """A wrapper's banner before and after it, with braces too."""
    text = f"Welcome {{alice}}\n{listed(row())}Bye.\n"
    assert set(DRIVER.states(printed(text)).jobs) == {JobId("21", 1)}
    assert DRIVER.states(printed("Welcome\n")).jobs == {}


@pytest.mark.parametrize("cut", [3, 40, 200, -4])
def test_a_list_cut_short_is_no_answer(cut: int) -> None:
    """Half a list would make the other half gone."""
    text = listed(row(), row(Job_Id=22, array_index=2))
    with pytest.raises(BatchSystemUnavailable):
        DRIVER.states(printed(text[:cut]))


def test_a_list_of_something_else_is_no_answer() -> None:
    """For example of an OAR that writes other fields."""
    with pytest.raises(BatchSystemUnavailable, match="lacks"):
        DRIVER.states(printed('{\n   "7" : {\n      "id" : 7\n   }\n}\n'))


def test_jobs_that_are_being_killed_or_gone_are_cancelled() -> None:
    """Exit 6 of those asked for before, exit 0 and silence of those that have ended."""
    once, twice, thrice, after = load(f"{VERSION}/running").all("oardel")
    assert [each.returncode for each in (once, twice, thrice, after)] == [0, 6, 6, 0]
    assert (after.stdout, after.stderr) == ("", "")
    assert all(DRIVER.cancelled(each) for each in (once, twice, thrice, after))
    unknown = load(f"{VERSION}/refused").all("oardel")[0]
    assert DRIVER.cancelled(unknown)


def test_another_users_jobs_cannot_be_cancelled() -> None:
    """Exit 1, and asking again does not help."""
    _, *others = load(f"{VERSION}/refused").all("oardel")
    assert len(others) == 2
    for output in others:
        assert not DRIVER.cancelled(output)
        assert not DRIVER.is_transient(output)


def test_a_server_that_is_down_is_transient() -> None:
    """A job is left behind, though oarsub says that it is killed: its fate is not known."""
    listed_, sub, delete, *database = load(f"{VERSION}/server-down").outputs
    assert listed_.returncode == 0
    assert "OAR_JOB_ID=72" in sub.stdout
    for output in (sub, delete, *database):
        assert output.returncode != 0
        assert DRIVER.is_transient(output)
        assert not DRIVER.answered(output)
        assert not DRIVER.cancelled(output)


def test_the_version_tells_oar_from_others() -> None:
    """Without asking the server."""
    output = load(f"{VERSION}/refused").replay(DRIVER.version)
    assert recognise(OAR, output.stdout) == "2.5.9"


def test_ten_thousand_jobs_are_read_in_one_go() -> None:
    """One query a tick for 10,000 jobs must not hold up the scheduler's event loop."""
    text = listed(*(row(Job_Id=i, array_index=i, state="Running") for i in range(1, 10_001)))
    start = time.perf_counter()
    jobs = DRIVER.states(printed(text)).jobs
    print(f"10,000 jobs read in {time.perf_counter() - start:.3f} s")
    assert len(jobs) == 10_000
