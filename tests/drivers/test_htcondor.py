"""What the HTCondor driver writes, and what it reads in output recorded from HTCondor 23.9.6."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output, Why
from dask_hpc.drivers.htcondor import HTCondor
from dask_hpc.drivers.htcondor_words import quoted
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

CONDOR = HTCondor()
VERSION = "htcondor/23.9.6"
LOGS = Path("/home/alice/logs")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=4, log_directory=LOGS
)
SCRIPT = Path("/c/job.sh")
HELD = "periodic_remove=JobStatus == 5 && !member(HoldReasonCode, {1, 15, 16})"
KEPT = "getenv=HOME, LANG, LC_ALL, LOGNAME, PATH, SHELL, USER"
ATTRIBUTES = (
    "ClusterId,ProcId,JobBatchName,JobStatus,HoldReason,HoldReasonCode,LastHoldReason,"
    "LastHoldReasonCode,RemoveReason,ExitBySignal,ExitCode,ExitSignal,RemoteHost,LastRemoteHost,"
    "JobCurrentStartDate,EnteredCurrentStatus"
)


def printed(stdout: str, *, rc: int = 0, stderr: str = "") -> Output:
    return Output(Command(("condor",)), rc, stdout, stderr)


def row(word: int = 1, **fields: object) -> dict[str, object]:
    return {"ClusterId": 47, "ProcId": 0, "JobBatchName": "mine-1", "JobStatus": word} | fields


def listed(*rows: dict[str, object]) -> str:
    return "[\n" + "\n,\n".join(json.dumps(each, indent=2) for each in rows) + "\n]\n"


def status(word: int, **fields: object) -> JobStatus:
    (found,) = CONDOR.states(printed(listed(row(word, **fields)))).jobs.values()
    return found


def ended(word: int, **fields: object) -> JobStatus:
    (found,) = CONDOR.ended(printed(listed(row(word, **fields)))).jobs.values()
    return found


def submit(spec: JobSpec, script: Path = SCRIPT) -> tuple[str, ...]:
    return CONDOR.submit(Submission("mine-7f3a", 10), spec, script).argv


# What it writes


def test_the_script_shows_everything_the_spec_says_and_opens_its_log() -> None:
    """The lines of a submit file; HTCondor would empty a log when a job starts again."""
    spec = JobSpec(
        command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX, "it's $HOME"),
        cores=16,
        log_directory=Path("/home/alice/my logs"),
        memory=32 * 10**9,
        gpus=1,
        walltime=90000,
        account="lab",
        directives=('requirements = Machine != "old"',),
        prologue=("module load python",),
        epilogue=("rm -rf $SCRATCH/mine",),
        environment=(("OMP_NUM_THREADS", "1"), ("GREETING", "a b")),
        options={"disk": "1 GB"},
    )
    assert (
        job_script(spec, CONDOR)
        == """\
#!/usr/bin/env bash
#CONDOR request_cpus = 16
#CONDOR request_memory = 30518
#CONDOR request_disk = 976563
#CONDOR request_gpus = 1
#CONDOR accounting_group = lab
#CONDOR allowed_job_duration = 90000
#CONDOR periodic_remove = JobStatus == 5 && !member(HoldReasonCode, {1, 15, 16})
#CONDOR getenv = HOME, LANG, LC_ALL, LOGNAME, PATH, SHELL, USER
#CONDOR requirements = Machine != "old"

exec >>'/home/alice/my logs/'"${DASK_HPC_JOB}-${DASK_HPC_INDEX}".log 2>&1
export OMP_NUM_THREADS=1
export GREETING='a b'
module load python
/opt/env/bin/dask-worker --name "${DASK_HPC_JOB}-${DASK_HPC_INDEX}" 'it'"'"'s $HOME' &
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


def test_submit_repeats_the_directives_as_arguments() -> None:
    """No submit file is written; ours come last, as the last one counts."""
    spec = replace(
        SPEC,
        directives=('+ProjectName = "chem"', "universe=vanilla"),
        options={"submit_command_extra": "-name 'schedd 2'"},
    )
    assert submit(spec) == (
        *("condor_submit", "-terse", "-name", "schedd 2"),
        *("request_cpus=4", HELD, KEPT),
        *('My.ProjectName="chem"', "universe=vanilla"),
        "batch_name=mine-7f3a",
        "executable=/usr/bin/env",
        'arguments="bash /c/job.sh"',
        "transfer_executable=False",
        'transfer_output_files=""',
        'environment="DASK_HPC_JOB=mine-7f3a DASK_HPC_INDEX=$(ProcId)"',
        *("-queue", "10"),
    )


def test_a_path_is_taken_literally() -> None:
    """Recorded: blanks, quotes, dollars, what looks like a macro (it ran from such a path)."""
    script = Path("/home/alice/sp ace %d it's $HOME $(ProcId)/job.sh")
    given = [each for each in submit(SPEC, script) if each.startswith("arguments=")]
    assert given == [
        "arguments=\"bash '/home/alice/sp ace %d it''s $(DOLLAR)HOME $(DOLLAR)(ProcId)/job.sh'\""
    ]
    with pytest.raises(ConfigurationError, match="would replace"):
        submit(SPEC, Path("/c/$$(Name)/job.sh"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["one", "two three", '"four"', "it's"], "\"one 'two three' '\"\"four\"\"' 'it''s'\""),
        ([""], "\"''\""),
    ],
)
def test_arguments_are_quoted_in_htcondors_way(words: list[str], expected: str) -> None:
    """As condor_submit(1) reads them; the recorded job got these words."""
    assert quoted(words) == expected


def test_another_interpreter_runs_the_script() -> None:
    """HTCondor would not: the script is not executable."""
    given = submit(replace(SPEC, shebang="#!/bin/zsh -f"))
    assert {"executable=/bin/zsh", 'arguments="-f /c/job.sh"'} <= set(given)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        (replace(SPEC, queue="main"), "requirements"),
        (replace(SPEC, nodes=2), ""),
        (replace(SPEC, directives=("hold",)), "key = value"),
        (replace(SPEC, directives=('Environment = "A=1"',)), "prologue"),
        (replace(SPEC, account="a\nb"), ""),
        (replace(SPEC, options={"disk": "much"}), ""),
    ],
)
def test_what_htcondor_has_no_word_for_is_refused(spec: JobSpec, hint: str) -> None:
    """Not left out in silence: a user who names a queue expects to wait in it."""
    with pytest.raises(ConfigurationError) as caught:
        submit(spec)
    assert hint in caught.value.hint


def test_a_directive_of_the_user_takes_the_place_of_ours() -> None:
    """Of two the last one counts, and one can be left out by its name."""
    spec = replace(SPEC, directives=("getenv = True",), directives_skip=("periodic_remove",))
    given = submit(spec)
    assert HELD not in given
    assert given.index("getenv=True") > given.index(KEPT)


@pytest.mark.parametrize(("memory", "mib"), [(2**30, 1024), (2**30 + 1, 1025), (1, 1)])
def test_memory_is_rounded_up(memory: int, mib: int) -> None:
    """A job never gets less memory than its workers will use."""
    assert f"request_memory = {mib}" in CONDOR.directives(replace(SPEC, memory=memory))


def test_one_query_asks_for_all_arrays() -> None:
    """By id, and by name where the id was lost."""
    command = CONDOR.query({"b": "9", "a": "10", "lost": None})
    assert command.argv == (
        *("condor_q", "-json", "-attributes", ATTRIBUTES, "-constraint"),
        'member(ClusterId, {9, 10}) || member(JobBatchName, {"lost"})',
    )
    assert CONDOR.query({"lost": None}).argv[-1] == 'member(JobBatchName, {"lost"})'


def test_the_history_is_read_backwards_for_one_day() -> None:
    """It may be gigabytes, and is asked for right after an end."""
    [command] = CONDOR.history({"9", "10"})
    assert command.argv == (
        *("condor_history", "-json", "-attributes", ATTRIBUTES, "-constraint"),
        "member(ClusterId, {9, 10})",
        *("-since", "EnteredCurrentStatus < time() - 86400"),
    )


def test_one_command_cancels_whole_arrays_and_parts() -> None:
    """Whole clusters by their id, else job by job."""
    jobs = [*(JobId("66", i) for i in (0, 1)), *(JobId("97", i) for i in (3, 0)), JobId("9", 0)]
    [command] = CONDOR.cancel(jobs, {"66": 2, "97": 10, "9": 1})
    assert command.argv == ("condor_rm", "9", "66", "97.0", "97.3")


def test_one_job_that_waits_is_analysed() -> None:
    """They are alike, and an analysis is long."""
    assert CONDOR.why("66").argv == (
        *("condor_q", "-better-analyze", "-constraint"),
        *("ClusterId == 66 && JobStatus == 1", "-limit", "1"),
    )


# Ids


def test_recorded_submissions_give_their_ids() -> None:
    """First and last job, also of one."""
    outputs = load(f"{VERSION}/driver-array").all("condor_submit")
    assert [CONDOR.submitted(output) for output in outputs] == ["166", "167"]


@pytest.mark.parametrize(
    "stdout",
    ["47.0 - 47.19\n", "Welcome!\n1.5 - 2.5 days to go\n47.0 - 47.0\r\nBye 42.\n"],
)
def test_the_id_is_found_among_chatter(stdout: str) -> None:
    """Only a line that is a range of one cluster counts."""
    assert CONDOR.submitted(printed(stdout)) == "47"


@pytest.mark.parametrize(
    "stdout",
    ["", "47\n", "47.0 - 48.3\n", "47.0 - 47.1\n48.0 - 48.1\n", "0.0 - 0.1\n", "4.0 - 4.1"],
)
def test_no_id_is_guessed(stdout: str) -> None:
    """With none or several candidates the submission is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no single cluster id") as caught:
        CONDOR.submitted(printed(stdout))
    assert not isinstance(caught.value, SubmitRejected)


@pytest.mark.parametrize("rc", [-9, 1])
def test_a_submission_that_says_nothing_is_not_refused(rc: int) -> None:
    """Killed, or silent: it may have been accepted before."""
    with pytest.raises(BatchSystemError, match="no single") as caught:
        CONDOR.submitted(printed("", rc=rc))
    assert not isinstance(caught.value, SubmitRejected)


def test_a_refusal_repeats_htcondors_own_words() -> None:
    """Without the list of options, and never taken for a passing failure."""
    said, hints = [], []
    for output in load(f"{VERSION}/driver-refused").all("condor_submit"):
        if output.returncode == 0:
            continue
        assert not CONDOR.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            CONDOR.submitted(output)
        said.append(caught.value.args[0].removeprefix("condor_submit refused the job: "))
        hints.append(caught.value.hint)
    assert said[:2] == [
        (
            "Failed to commit job submission into the queue.; "
            "accounting group nosuch is not known: use lab or other"
        ),
        "Invalid accounting_group: lab x",
    ]
    assert said[2].startswith("Parse error in expression:; Requirements = (()")
    assert said[3:] == [
        "I don't know about the 'nosuch' universe.",
        "it does not know one of its options",
    ]
    assert [bool(hint) for hint in hints] == [True, True, True, True, False]


# States


def test_each_process_of_a_cluster_is_a_job() -> None:
    """Idle, then running with node and start; found by name as well as by id."""
    seen = load(f"{VERSION}/driver-array")
    asked = CONDOR.query({"drv-array": "166", "drv-one": "167"})
    every = {*(JobId("166", i) for i in range(3)), JobId("167", 0)}
    idle = CONDOR.states(seen.replay(asked))
    assert idle.names == {"drv-array": "166", "drv-one": "167"}
    assert dict(idle.jobs) == dict.fromkeys(every, JobStatus(JobState.PENDING))
    running = CONDOR.states(seen.replay(asked, 1)).jobs
    assert {each.state for each in running.values()} == {JobState.RUNNING}
    assert {each.node for each in running.values()} <= {"node01", "node02", "node03", "node04"}
    assert all((each.start or 0) > 1795392000 for each in running.values())
    lost = seen.replay(CONDOR.query({"drv-array": None, "drv-one": "167"}))
    assert CONDOR.states(lost).names == idle.names


def test_what_is_removed_leaves_the_queue_for_the_history() -> None:
    """There it was cancelled, and by whom."""
    seen = load(f"{VERSION}/driver-array")
    asked = CONDOR.query({"drv-array": "166", "drv-one": "167"})
    assert CONDOR.states(seen.replay(asked, -1)).jobs == {}
    past = CONDOR.ended(seen.replay(CONDOR.history(["166", "167"])[0])).jobs
    assert len(past) == 4
    assert {(each.state, each.reason) for each in past.values()} == {
        (JobState.CANCELLED, "cancelled by alice")
    }


def test_every_way_to_end_is_told() -> None:
    """By the history; over walltime or memory, or not to be started: by the last hold."""
    seen = load(f"{VERSION}/driver-ends")
    listing = CONDOR.ended(seen.all("condor_history")[0])
    told = {
        name: (each.state, each.reason.partition(":")[0], each.exit_code, each.signal)
        for name, array in listing.names.items()
        for each in [listing.jobs[JobId(array, 0)]]
    }
    over = "it needed more memory than it had asked for (Error from slot1_2@node04"
    longer = "its walltime is over (The job exceeded allowed job duration of 00"
    files = (
        "Transfer input files failure at access point login while sending files"
        " to execution point slot1_2@node01. Details"
    )
    assert told == {
        "drv-ok": (JobState.COMPLETED, "", 0, None),
        "drv-exit3": (JobState.FAILED, "", 3, None),
        "drv-kill": (JobState.FAILED, "", None, 9),
        "drv-noscript": (JobState.FAILED, "", 127, None),
        "drv-oom": (JobState.OUT_OF_MEMORY, over, None, None),
        "drv-wall": (JobState.TIMEOUT, longer, None, None),
        "drv-iwd": (JobState.FAILED, files, None, None),
    }
    done = listing.jobs[JobId("172", 0)]
    assert (done.node, done.start, done.end) == ("node04", 1795392353, 1795392354)


def test_an_end_is_told_while_the_job_is_still_held() -> None:
    """Before HTCondor's next look at what is to be removed, which takes up to minutes."""
    oom, wall, rest = map(CONDOR.states, load(f"{VERSION}/driver-ends").all("condor_q"))
    assert [each.state for each in oom.jobs.values()] == [JobState.OUT_OF_MEMORY]
    assert [each.state for each in wall.jobs.values()] == [JobState.TIMEOUT]
    assert [(each.state, each.reason) for each in rest.jobs.values()] == [
        (JobState.HELD, "submitted on hold at user's request")
    ]


def test_a_job_that_a_person_holds_may_go_on() -> None:
    """Held while it ran, then running again."""
    held, again, *_ = (
        next(iter(CONDOR.states(output).jobs.values()), None)
        for output in load(f"{VERSION}/driver-held").all("condor_q")
    )
    assert held == JobStatus(JobState.HELD, "via condor_hold (by user alice)")
    assert again is not None
    assert (again.state, again.signal) == (JobState.RUNNING, None)


def test_a_job_that_htcondor_holds_has_failed_and_leaves_the_queue() -> None:
    """Nobody would release it: a file that cannot be opened, for example."""
    seen = load(f"{VERSION}/driver-held")
    *_, listed_, gone = map(CONDOR.states, seen.all("condor_q"))
    (failed,) = listed_.jobs.values()
    assert failed.state is JobState.FAILED
    assert "Failed to open '/nonexistent/log'" in failed.reason
    assert gone.jobs == {}
    (past,) = CONDOR.ended(seen.all("condor_history")[0]).jobs.values()
    assert (past.state, past.reason) == (failed.state, failed.reason)


def test_a_pools_own_policy_on_memory_is_understood() -> None:
    """Without cgroups sites hold jobs by an expression, in their own words (code 26)."""
    over = CONDOR.states(load(f"{VERSION}/memory-policy").all("condor_q")[0])
    (held,) = over.jobs.values()
    assert (held.state, held.reason) == (
        JobState.OUT_OF_MEMORY,
        "memory usage of 1191 MB is over the 384 MB provisioned",
    )


def test_an_evicted_job_waits_and_starts_again_under_its_id() -> None:
    """What its first life left behind is neither a start nor an end."""
    before, away, back = (
        next(iter(CONDOR.states(output).jobs.values()))
        for output in load(f"{VERSION}/driver-vacated").all("condor_q")
    )
    assert away == JobStatus(JobState.PENDING)
    assert before.state is back.state is JobState.RUNNING
    assert (back.start or 0) > (before.start or 0)


def test_a_signal_of_a_life_before_is_no_end() -> None:
    """ExitSignal stays after a release; ExitBySignal tells which of the two counts."""
    done = ended(4, ExitBySignal=False, ExitCode=0, ExitSignal=15)
    assert (done.state, done.exit_code, done.signal) == (JobState.COMPLETED, 0, None)
    killed = ended(4, ExitBySignal=True, ExitCode=0, ExitSignal=9)
    assert (killed.state, killed.exit_code, killed.signal) == (JobState.FAILED, None, 9)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (1, JobState.PENDING),
        (2, JobState.RUNNING),
        (3, JobState.ENDING),
        (4, JobState.COMPLETED),
        (5, JobState.HELD),
        (6, JobState.ENDING),
        (7, JobState.RUNNING),
        (9, JobState.RUNNING),
    ],
)
def test_every_state_is_known_and_a_new_one_is_not_an_end(word: int, expected: JobState) -> None:
    """An HTCondor newer than the table must not make us start jobs again."""
    assert status(word).state is expected


@pytest.mark.parametrize(
    ("fields", "state", "reason"),
    [
        (
            {"RemoveReason": "via condor_rm (by user root)", "LastHoldReasonCode": 34},
            JobState.CANCELLED,
            "cancelled by root",
        ),
        (
            {"RemoveReason": "SYSTEM_PERIODIC_REMOVE", "LastHoldReasonCode": None},
            JobState.CANCELLED,
            "SYSTEM_PERIODIC_REMOVE",
        ),
        (
            {"RemoveReason": "PeriodicRemove", "LastHoldReasonCode": 1, "LastHoldReason": "x"},
            JobState.CANCELLED,
            "PeriodicRemove",
        ),
        (
            {"RemoveReason": "PeriodicRemove", "LastHoldReasonCode": 47, "LastHoldReason": "x"},
            JobState.TIMEOUT,
            "its walltime is over (x)",
        ),
    ],
)
def test_a_removed_job_was_cancelled_unless_it_was_held(
    fields: dict[str, object], state: JobState, reason: str
) -> None:
    """A person's word counts more than what had happened before."""
    past = ended(3, **fields)
    assert (past.state, past.reason) == (state, reason)


# Why


def test_what_no_machine_has_makes_a_job_impossible() -> None:
    """HTCondor accepts it and lets it wait for ever; whole machines are counted, busy or not."""
    never, later, running = map(CONDOR.because, load(f"{VERSION}/driver-why").outputs[3:6])
    assert never == Why(
        "none of 4 machines has what it asks for: TARGET.Cpus >= RequestCpus", impossible=True
    )
    assert later == running == Why()


def test_the_query_leaves_the_reason_to_the_analysis() -> None:
    """Its "no match found" is said of jobs that merely wait as well."""
    output = load(f"{VERSION}/driver-why").all("condor_q")[-1]
    told = CONDOR.states(output).jobs.values()
    assert {(each.state, each.reason, each.impossible) for each in told} == {
        (JobState.PENDING, "", False)
    }


def test_a_pool_without_machines_proves_nothing() -> None:
    """They may all be down, or start when they are asked for."""
    text = "Of 0 machines,\n      0 are rejected by your job's requirements\n"
    assert CONDOR.because(printed(text)) == CONDOR.because(printed("")) == Why()


# Answers


def test_nothing_known_lists_nothing_and_that_is_an_answer() -> None:
    """The queue prints nothing at all, the history an empty list; both exit 0."""
    seen = load(f"{VERSION}/driver-refused")
    queue = seen.replay(CONDOR.query({"nosuch": None, "x": "999999"}))
    past = seen.replay(CONDOR.history(["999999"])[0])
    assert CONDOR.answered(queue)
    assert (queue.stdout, past.stdout) == ("", "[\n]\n")
    assert CONDOR.states(queue).jobs == CONDOR.ended(past).jobs == {}


def test_chatter_around_the_list_is_ignored() -> None:
    """A wrapper's banner before and after it; and a row without a job's id."""
    text = f"Welcome [alice]\n{listed(row(), {})}Bye.\n"
    assert set(CONDOR.states(printed(text)).jobs) == {JobId("47", 0)}
    assert CONDOR.states(printed("Welcome\n")).jobs == {}


@pytest.mark.parametrize("cut", [4, 40, 100, -3])
def test_a_list_cut_short_is_no_answer(cut: int) -> None:
    """Half a list would make the other half gone."""
    text = listed(row(), row(ProcId=1))
    with pytest.raises(BatchSystemUnavailable):
        CONDOR.states(printed(text[:cut]))


def test_jobs_that_are_gone_are_cancelled() -> None:
    """Of unknown and ended ones condor_rm says so, and exits 1."""
    *_, gone = load(f"{VERSION}/driver-array").all("condor_rm")
    *_, unknown = load(f"{VERSION}/driver-refused").all("condor_rm")
    for output in (gone, unknown):
        assert output.returncode == 1
        assert CONDOR.cancelled(output)


def test_another_users_job_cannot_be_cancelled() -> None:
    """Told of single jobs alone, and asking again does not help."""
    one, *_ = load(f"{VERSION}/driver-refused").all("condor_rm")
    assert "Permission denied" in one.stderr
    assert not CONDOR.cancelled(one)
    assert not CONDOR.is_transient(one)


def test_a_schedd_that_is_down_is_transient() -> None:
    """Every command says so; the history is a file, and still answers."""
    down = 0
    for output in load(f"{VERSION}/server-down").outputs:
        if output.returncode != 0:
            down += 1
            assert CONDOR.is_transient(output)
            assert not CONDOR.answered(output)
            assert not CONDOR.cancelled(output)
        else:
            assert not CONDOR.is_transient(output)
    assert down == 6


def test_the_version_tells_htcondor_from_others() -> None:
    """Without asking the schedd."""
    output = load(f"{VERSION}/driver-version").replay(CONDOR.version)
    assert recognise(HTCondor, output.stdout) == "23.9.6"


def test_ten_thousand_jobs_are_read_in_one_go() -> None:
    """One query a tick for 10,000 jobs must not hold up the scheduler's event loop."""
    text = listed(*(row(2, ProcId=i) for i in range(10_000)))
    start = time.perf_counter()
    jobs = CONDOR.states(printed(text)).jobs
    print(f"10,000 jobs read in {time.perf_counter() - start:.3f} s")
    assert len(jobs) == 10_000
