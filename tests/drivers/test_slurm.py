"""What the Slurm driver writes, and what it reads in output recorded from Slurm 22.05.8."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.drivers.slurm_words import exclusion
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

SLURM = Slurm()
VERSION = "slurm/22.05.8"
LOGS = Path("/home/alice/rec-h/logs")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=4, log_directory=LOGS
)


def query(*names: str) -> Command:
    return SLURM.query(dict.fromkeys(names))


def printed(stdout: str, *, rc: int = 0, stderr: str = "") -> Output:
    return Output(Command(("slurm",)), rc, stdout, stderr)


def row(element: str, state: str = "PENDING", reason: str = "None") -> str:
    return f"{element}|{state}||N/A|N/A|mine-1|{reason}\n"


def status(element: str, state: str = "PENDING", reason: str = "None") -> JobStatus:
    (found,) = SLURM.states(printed(row(element, state, reason))).jobs.values()
    return found


def local(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# What it writes


def test_the_script_requests_everything_the_spec_says() -> None:
    """Each field of a spec becomes one directive; the rest of the script is the site's lines."""
    spec = JobSpec(
        command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX, "it's $HOME"),
        cores=16,
        log_directory=LOGS,
        memory=32 * 10**9,
        nodes=2,
        gpus=1,
        walltime=90000,
        queue="main",
        account="lab",
        directives=("--exclusive", "--mem=0"),
        directives_skip=("--mem",),
        prologue=("module load python",),
        epilogue=("rm -rf $SCRATCH/mine",),
        environment=(("OMP_NUM_THREADS", "1"), ("GREETING", "a b")),
    )
    assert (
        job_script(spec, SLURM)
        == """\
#!/usr/bin/env bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --no-kill
#SBATCH --gres=gpu:1
#SBATCH --time=1-01:00:00
#SBATCH --partition=main
#SBATCH --account=lab
#SBATCH --signal=USR1@60
#SBATCH --exclusive
#SBATCH --mem=0

export DASK_HPC_WARNING=USR1@60
export OMP_NUM_THREADS=1
export GREETING='a b'
module load python
/opt/env/bin/dask-worker --name "${SLURM_JOB_NAME}-${SLURM_ARRAY_TASK_ID}" 'it'"'"'s $HOME' &
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
        job_script(SPEC, SLURM)
        == """\
#!/usr/bin/env bash
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4

exec /opt/env/bin/dask-worker --name "${SLURM_JOB_NAME}-${SLURM_ARRAY_TASK_ID}"
"""
    )


@pytest.mark.parametrize(("memory", "option"), [(2**30, "1024M"), (2**30 + 1, "1025M"), (1, "1M")])
def test_memory_is_rounded_up(memory: int, option: str) -> None:
    """A job never gets less memory than its workers will use."""
    spec = JobSpec(command=("true",), cores=1, log_directory=LOGS, memory=memory)
    assert f"--mem={option}" in SLURM.directives(spec)


def test_submit_names_the_job_on_the_command_line() -> None:
    """Name, array and log are options: a user's SBATCH_* variables beat a script's directives."""
    command = SLURM.submit(Submission("mine-7f3a", 10), SPEC, Path("/c/job.sh"))
    assert command.argv == (
        "sbatch",
        "--parsable",
        "--job-name=mine-7f3a",
        "--array=0-9",
        f"--output={LOGS}/mine-7f3a-%a.log",
        "--open-mode=append",
        "/c/job.sh",
    )


def test_a_percent_sign_in_the_log_directory_is_taken_literally() -> None:
    """Sbatch replaces %j and the like in file names; a directory's own sign is doubled."""
    command = SLURM.submit(
        Submission("m", 1), replace(SPEC, log_directory=Path("/c/100%j")), Path("job.sh")
    )
    assert "--output=/c/100%%j/m-%a.log" in command.argv


def test_a_users_defaults_for_slurm_commands_are_kept_from_them() -> None:
    """SQUEUE_PARTITION would hide jobs, SBATCH_WAIT would block; the site's settings stay."""
    users = {
        "SQUEUE_PARTITION": "short",
        "SQUEUE_ACCOUNT": "lab",
        "SLURM_TIME_FORMAT": "relative",
        "SBATCH_WAIT": "1",
        "SCANCEL_INTERACTIVE": "1",
    }
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_TIMELIMIT": "10", "PATH": "/bin"}
    commands = (
        SLURM.submit(Submission("m", 1), SPEC, Path("job.sh")),
        query("m"),
        *SLURM.cancel([JobId("1", 0)], {}),
        *SLURM.history(["1"]),
        SLURM.limits(),
    )
    for command in commands:
        assert command.environment(users | kept) == kept


def test_a_head_inside_a_job_does_not_pass_on_its_own_limits() -> None:
    """SLURM_MEM_PER_CPU beside the new job's SLURM_MEM_PER_NODE makes its srun refuse to start."""
    outer = {"SLURM_MEM_PER_CPU": "200", "SLURM_CPU_BIND_LIST": "0x1", "SLURM_JOB_ID": "12"}
    command = SLURM.submit(Submission("m", 1), SPEC, Path("job.sh"))
    assert command.environment(outer) == {"SLURM_JOB_ID": "12"}


def test_whole_arrays_are_cancelled_by_id_and_parts_by_ranges() -> None:
    """One scancel, however many jobs."""
    jobs = [JobId("80", 0), JobId("80", 1), *(JobId("97", i) for i in (3, 0, 1, 2, 7))]
    [command] = SLURM.cancel(jobs, {"80": 2, "97": 10})
    assert command.argv == ("scancel", "--quiet", "80", "97_[0-3,7]")


# Ids


@pytest.mark.parametrize(
    "stdout",
    [
        "1234\n",
        "1234;testbed\n",
        "Submitted batch job 1234\n",
        "Submitted batch job 1234 on cluster testbed\n",
        "Welcome! 3 nodes are down since 2026.\nProject 17 has 1200 core-hours\n1234\nBye 42.\n",
        "sbatch: wrapper v2\n  1234  \n\n",
        "1234\r\n",
        "Submitted batch job 1234\n1234\n",
    ],
)
def test_the_id_is_found_among_chatter(stdout: str) -> None:
    """Only a line that is an id counts, never a number inside a sentence."""
    assert SLURM.submitted(printed(stdout)) == "1234"


@pytest.mark.parametrize("stdout", ["", "job 12 is in\n", "2026\n1234\n", "0\n"])
def test_no_id_is_guessed(stdout: str) -> None:
    """With none or several candidates the submission is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no single job id") as caught:
        SLURM.submitted(printed(stdout))
    assert not isinstance(caught.value, SubmitRejected)


def test_recorded_submissions_give_their_ids() -> None:
    """Plain, with --parsable, and on a named cluster."""
    outputs = load(f"{VERSION}/submit-cluster").all("sbatch")
    assert [SLURM.submitted(output) for output in outputs] == ["71", "72", "73"]


def test_a_limit_on_the_users_jobs_is_told_from_a_mistake() -> None:
    """More may be submitted once some have ended; a walltime too long has the same last line."""
    assert SLURM.LIMITED is not None
    (output,) = load(f"{VERSION}/limit-refused").all("sbatch")
    assert SLURM.LIMITED.search(output.text)
    assert not SLURM.LIMITED.search(output.text.replace("AssocMaxSubmitJob", "QOSMaxWallPerJob"))
    for refused in load(f"{VERSION}/submit-refused").all("sbatch"):
        assert not SLURM.LIMITED.search(refused.text)


def test_excluded_nodes_join_the_users_own() -> None:
    """An option of the command beats the script's: it has to say both."""
    given = exclusion(("n1", "n2"), ("--exclude=bad[1-3]", "-x worse", "--exclusive"))
    assert given == ("--exclude=bad[1-3],worse,n1,n2",)
    assert exclusion((), ("--exclude=bad",)) == ()


def test_a_refusal_repeats_slurms_own_words() -> None:
    """Every line of sbatch, without its prefix; no refusal is taken for a passing failure."""
    said = []
    for output in load(f"{VERSION}/submit-refused").all("sbatch"):
        assert not SLURM.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            SLURM.submitted(output)
        said.append(caught.value.args[0].removeprefix("sbatch refused the job: "))
    assert said == [
        (
            "invalid partition specified: nosuch; "
            "Batch job submission failed: Invalid partition name specified"
        ),
        "Invalid --time specification",
        (
            "CPU count per node can not be satisfied; "
            "Batch job submission failed: Requested node configuration is not available"
        ),
        (
            "Memory specification can not be satisfied; "
            "Batch job submission failed: Requested node configuration is not available"
        ),
        "Batch job submission failed: User's group not permitted to use this partition",
        "Batch job submission failed: Requested node configuration is not available",
        "sbatch: unrecognized option '--nosuch=1'; Try \"sbatch --help\" for more information",
        "Batch job submission failed: Invalid job array specification",
        "Unable to open file /home/alice/rec-h/nosuch.sh",
    ]


@pytest.mark.parametrize(
    ("stderr", "hint"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit", "fewer"),
        ("sbatch: error: invalid partition specified: x", "sinfo"),
        ("Invalid account or account/partition combination specified", "account="),
        ("Requested node configuration is not available", "sinfo"),
        ("something new", ""),
    ],
)
def test_a_common_refusal_says_what_to_do_next(stderr: str, hint: str) -> None:
    """The message alone does not tell a new user which command or keyword helps."""
    with pytest.raises(SubmitRejected) as caught:
        SLURM.submitted(printed("", rc=1, stderr=stderr))
    assert hint in caught.value.hint


# States


def test_each_element_of_a_waiting_array_is_a_job() -> None:
    """Held elements among them; the start is Slurm's estimate."""
    seen = load(f"{VERSION}/array-pending")
    listing = SLURM.states(seen.replay(query("rec-array"), 1))
    assert listing.names == {"rec-array": "42"}
    assert set(listing.jobs) == {JobId("42", i) for i in range(10)}
    assert listing.jobs[JobId("42", 0)] == JobStatus(
        JobState.PENDING, start=local("2026-11-22T21:47:28")
    )
    held = listing.jobs[JobId("42", 6)]
    assert held.state is JobState.HELD
    assert held.reason == "held by its owner: scontrol release (JobHeldUser)"


def test_elements_cancelled_as_they_wait_leave_the_list() -> None:
    """Slurm keeps no record of them: neither squeue nor sacct names them again."""
    seen = load(f"{VERSION}/array-pending")
    listed = SLURM.states(seen.replay(query("rec-array"), 2)).jobs
    assert {job.index for job in listed} == {0, 1, 3, 4, 5, 6, 9}
    (_, after) = seen.all("sacct")
    assert {job.index for job in SLURM.ended(after).jobs} == {0, 1, 3, 4, 5, 6, 9}


def test_a_cancelled_job_does_not_keep_the_reason_it_waited_for() -> None:
    """Slurm leaves BeginTime or JobHeldUser in the record of a job that has ended."""
    seen = load(f"{VERSION}/array-pending")
    jobs = SLURM.states(seen.replay(query("rec-array"), -1)).jobs
    assert {(each.state, each.reason) for each in jobs.values()} == {(JobState.CANCELLED, "")}


def test_irregular_elements_are_all_listed() -> None:
    """With --array each has a row; without, squeue cuts them after 30 characters, unmarked."""
    seen = load(f"{VERSION}/array-cut")
    cut, whole = seen.all("squeue")
    listing = SLURM.states(whole)
    waiting = {job.index for job, each in listing.jobs.items() if each.state is JobState.HELD}
    assert waiting == {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59}
    with pytest.raises(BatchSystemUnavailable, match="short"):
        SLURM.states(cut)


@pytest.mark.parametrize(
    ("element", "indices"),
    [
        ("80_[3-9%3]", {3, 4, 5, 6, 7, 8, 9}),
        ("80_[0-1,3-6,9]", {0, 1, 3, 4, 5, 6, 9}),
        ("80_[1-9:2]", {1, 3, 5, 7, 9}),
        ("80_[0]", {0}),
        ("80_17", {17}),
    ],
)
def test_a_row_may_stand_for_many_elements(element: str, indices: set[int]) -> None:
    """A wrapper may drop --array; then Slurm writes ranges, steps and the array's own limit."""
    jobs = SLURM.states(printed(row(element))).jobs
    assert set(jobs) == {JobId("80", index) for index in indices}


def test_a_row_of_a_whole_array_names_it_and_no_job() -> None:
    """Cancelled as it waited, an array may be left as one row without an index (seen: 39)."""
    listing = SLURM.states(printed(row("39", "CANCELLED", "PartitionDown")))
    assert (dict(listing.jobs), listing.names) == ({}, {"mine-1": "39"})


def test_lines_that_are_no_jobs_are_chatter() -> None:
    """A wrapper's banner, the header of another cluster, a line cut off."""
    text = f"CLUSTER: testbed\n| hello | world |\na|b|c|d|e|f|g\n{row('80_0')}80_1|PENDI"
    assert set(SLURM.states(printed(text)).jobs) == {JobId("80", 0)}


def test_every_way_to_end_is_told_without_accounting() -> None:
    """The reason column of squeue is enough where a site keeps no accounts."""
    seen = load(f"{VERSION}/ends")
    names = [a.removeprefix("--name=") for a in seen.all("squeue")[0].command.argv if "name" in a]
    listing = SLURM.states(seen.replay(query(*names[0].split(","))))
    told = {str(job): (each.state, each.reason) for job, each in listing.jobs.items()}
    killed = "killed by a signal, or its log directory is not there (JobLaunchFailure)"
    assert told == {
        "45_0": (JobState.COMPLETED, ""),
        "45_1": (JobState.COMPLETED, ""),
        "46_0": (JobState.FAILED, "its command failed: see its log (NonZeroExitCode)"),
        "47_0": (JobState.FAILED, "its command failed: see its log (NonZeroExitCode)"),
        "48_0": (JobState.FAILED, killed),
        "51_0": (JobState.FAILED, killed),
        "49_0": (
            JobState.OUT_OF_MEMORY,
            "a process of it needed more memory than the job has (OutOfMemory)",
        ),
        "50_0": (JobState.RUNNING, ""),
        "50_1": (JobState.RUNNING, ""),
    }
    running, done = listing.jobs[JobId("50", 0)], listing.jobs[JobId("45", 0)]
    assert (running.node, running.start, running.end) == (
        "node01",
        local("2026-11-22T20:47:35"),
        local("2026-11-22T20:57:35"),
    )
    assert done.end == local("2026-11-22T20:47:35")
    assert listing.names["rec-ok"] == "45"
    assert len(listing.names) == 7


def test_accounting_adds_exit_codes_and_signals() -> None:
    """200 shows as 72: sacct subtracts 128. Slurm's own 0:125 (memory) is no signal of ours."""
    seen = load(f"{VERSION}/ends")
    jobs = SLURM.ended(seen.replay(SLURM.history([str(i) for i in range(45, 52)])[0])).jobs
    told = {str(job): (each.state, each.exit_code, each.signal) for job, each in jobs.items()}
    assert told == {
        "45_0": (JobState.COMPLETED, 0, None),
        "45_1": (JobState.COMPLETED, 0, None),
        "46_0": (JobState.FAILED, 3, None),
        "47_0": (JobState.FAILED, 72, None),
        "48_0": (JobState.FAILED, None, 9),
        "49_0": (JobState.OUT_OF_MEMORY, None, None),
        "51_0": (JobState.FAILED, None, 53),
    }


def test_history_tells_ends_only() -> None:
    """Sacct shows jobs as running that the controller lost: only ends are believed."""
    seen = load(f"{VERSION}/requeue")
    first, last = seen.all("sacct")
    assert "RUNNING" in first.stdout
    assert SLURM.ended(first).jobs == {}
    assert set(SLURM.ended(last).jobs) == {JobId("55", 0), JobId("55", 1)}


def test_who_cancelled_is_told_where_known() -> None:
    """Sacct says "CANCELLED by UID"; while processes are killed the job is ending, not gone."""
    seen = load(f"{VERSION}/ends")
    during = SLURM.states(seen.replay(query("rec-run"), 0)).jobs
    assert during[JobId("50", 0)].state is JobState.CANCELLED
    assert during[JobId("50", 1)].state is JobState.ENDING
    jobs = SLURM.ended(seen.replay(SLURM.history(["50"])[0])).jobs
    assert [each.reason for each in jobs.values()] == ["CANCELLED by 1001", "CANCELLED by 0"]
    assert {each.state for each in jobs.values()} == {JobState.CANCELLED}


def test_a_timeout_is_told_by_both() -> None:
    """Squeue lists it with its reason; sacct's 0:0 is not taken for an exit code."""
    seen = load(f"{VERSION}/timeout")
    job = JobId("1", 0)
    listed = SLURM.states(seen.replay(query("rec-timeout"))).jobs[job]
    assert (listed.state, listed.reason) == (
        JobState.TIMEOUT,
        "its walltime is over (TimeLimit)",
    )
    assert listed.end == local("2026-11-22T20:42:06")
    past = SLURM.ended(seen.replay(SLURM.history(["1"])[0])).jobs[job]
    assert (past.state, past.exit_code) == (JobState.TIMEOUT, None)


def test_a_requeued_job_waits_again_under_its_id() -> None:
    """It is not eligible for two minutes: BeginTime."""
    seen = load(f"{VERSION}/requeue")
    jobs = SLURM.states(seen.replay(query("rec-requeue"), 1)).jobs
    again = jobs[JobId("55", 0)]
    assert again.state is JobState.PENDING
    assert again.reason.endswith("(BeginTime)")
    assert not again.impossible
    assert jobs[JobId("55", 1)].state is JobState.RUNNING


@pytest.mark.parametrize(
    ("name", "lost", "back"), [("preempted", "83", "84"), ("node-failed", "86", "87")]
)
def test_jobs_that_the_site_takes_away_are_no_failures(name: str, lost: str, back: str) -> None:
    """Preempted or on a failed node: ended as such, or waiting again if Slurm requeues."""
    seen = load(f"{VERSION}/{name}")
    jobs = SLURM.states(seen.all("squeue")[-1]).jobs
    state = JobState.PREEMPTED if name == "preempted" else JobState.NODE_FAIL
    assert jobs[JobId(lost, 0)].state is state
    assert jobs[JobId(back, 0)].state is JobState.PENDING
    past = SLURM.ended(seen.all("sacct")[-1]).jobs
    assert {job: each.state for job, each in past.items()} == {JobId(lost, 0): state}


def test_jobs_that_can_never_start_are_told_from_those_that_wait() -> None:
    """Accepted by sbatch all the same: walltime, size, nodes, a failed dependency."""
    output = load(f"{VERSION}/pending-reasons").all("squeue")[-1]
    listing = SLURM.states(output)
    told = {
        name: (listing.jobs[JobId(array, 0)].state, listing.jobs[JobId(array, 0)].impossible)
        for name, array in listing.names.items()
    }
    assert told == {
        "rec-long": (JobState.PENDING, True),
        "rec-many": (JobState.PENDING, True),
        "rec-nodes": (JobState.PENDING, True),
        "rec-dep": (JobState.PENDING, True),
        "rec-down": (JobState.PENDING, False),
        "rec-drain": (JobState.PENDING, False),
        "rec-held": (JobState.HELD, False),
    }
    drained = listing.jobs[JobId(listing.names["rec-drain"], 0)]
    assert drained.reason == (
        "nodes it needs are down, drained or reserved (ReqNodeNotAvail, UnavailableNodes:node04)"
    )


@pytest.mark.parametrize(
    ("reason", "state", "words", "impossible"),
    [
        ("None", JobState.PENDING, "", False),
        ("None,JobHeldUser", JobState.PENDING, "held by its owner: scontrol release", False),
        ("JobHeldAdmin", JobState.HELD, "held by an administrator", False),
        ("launch failed requeued held", JobState.HELD, "launch failed requeued held", False),
        ("ReqNodeNotAvail, Unavaila", JobState.PENDING, "nodes it needs are down", False),
        ("PartitionTimeLi", JobState.PENDING, "PartitionTimeLi", False),
        ("a|b|c", JobState.PENDING, "a|b|c", False),
        ("QOSMaxJobsPerUserLimit", JobState.PENDING, "a limit of your account or QOS", False),
        ("QOSMaxWallDurationPerJobLimit", JobState.PENDING, "a limit of your account", True),
        ("AssocMaxCpuPerJobLimit", JobState.PENDING, "a limit of your account", True),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority",
            JobState.PENDING,
            "Nodes required for job are DOWN, DRAINED or reserved",
            False,
        ),
    ],
)
def test_reasons_are_told_in_words_or_as_they_are(
    reason: str, state: JobState, words: str, *, impossible: bool
) -> None:
    """An unknown, cut off or odd reason is repeated, and never makes a job impossible."""
    told = status("80_0", "PENDING", reason)
    assert (told.state, told.impossible) == (state, impossible)
    assert told.reason.startswith(words)


def test_an_unknown_state_is_not_an_end() -> None:
    """A Slurm newer than the table must not make us start jobs again."""
    assert status("80_0", "TELEPORTING").state is JobState.RUNNING


def test_an_ended_job_is_never_impossible() -> None:
    """The reason of its wait is past."""
    assert not status("80_0", "CANCELLED", "PartitionTimeLimit").impossible


def test_names_that_no_job_has_list_nothing() -> None:
    """Asked by name, an empty answer is an answer: exit 0."""
    seen = load(f"{VERSION}/unknown")
    output = seen.replay(query("nosuch"))
    assert output.returncode == 0
    assert (SLURM.states(output).jobs, SLURM.states(output).names) == ({}, {})
    assert SLURM.ended(seen.replay(SLURM.history(["999999"])[0])).jobs == {}


def test_what_scancel_does_not_know_is_no_error() -> None:
    """Unknown and ended jobs: exit 0; another user's: exit 210, and asking again does not help."""
    unknown, several, anothers = load(f"{VERSION}/cancel").all("scancel")
    assert (unknown.returncode, several.returncode, anothers.returncode) == (0, 0, 210)
    assert several.command.argv[2:] == ("45", "999999_[0,2]", "50_[1]")
    assert not SLURM.is_transient(anothers)


def test_an_unset_variable_shows_the_jobs_again() -> None:
    """SQUEUE_PARTITION in a user's environment gives an empty list and exit 0."""
    seen = load(f"{VERSION}/environment")
    hidden, shown = (seen.replay(query("rec-env"), nth) for nth in (0, 1))
    assert (hidden.returncode, hidden.stdout) == (0, "")
    assert set(SLURM.states(shown).jobs) == {JobId("74", 0)}


# Limits and failures


def test_the_largest_array_is_read_from_the_configuration() -> None:
    """MaxArraySize 1001 allows indices 0 to 1000: recorded, --array=0-1000 is accepted."""
    seen = load(f"{VERSION}/limits")
    assert SLURM.array_limit(seen.replay(SLURM.limits())) == 1001
    assert "--array=0-1000" in seen.all("sbatch")[0].command.argv
    assert seen.all("sbatch")[0].returncode == 0


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ("MaxArraySize            = 10000\nSchedulerParameters = max_array_tasks=500,x\n", 500),
        ("MaxArraySize            = 0\n", 1),
        ("", Slurm.default_array_limit),
    ],
)
def test_a_lower_limit_of_the_site_counts(config: str, limit: int) -> None:
    """SchedulerParameters=max_array_tasks; without an answer, a careful default."""
    assert SLURM.array_limit(printed(config)) == limit


def test_a_controller_that_is_down_is_transient() -> None:
    """Every command says so after 9 s; accounting still answers."""
    for output in load(f"{VERSION}/controller-down").outputs:
        down = output.command.argv[0] != "sacct"
        assert (output.returncode != 0) is down
        assert SLURM.is_transient(output) is down


def test_accounting_that_is_down_or_disabled_tells_no_ends() -> None:
    """Down passes; disabled is the site's choice. Neither makes a job gone."""
    (down,) = load(f"{VERSION}/accounting-down").outputs
    (disabled,) = load(f"{VERSION}/accounting-disabled").outputs
    assert (SLURM.is_transient(down), SLURM.is_transient(disabled)) == (True, False)
    assert SLURM.ended(down).jobs == SLURM.ended(disabled).jobs == {}


@pytest.mark.parametrize(
    ("stderr", "transient"),
    [
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            True,
        ),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", True),
        ("Unable to create job record, try again", True),
        ("slurm_load_jobs error: Zero Bytes were transmitted or received", True),
        ("sbatch: error: no account given: name one and try again", False),
        ("sbatch: error: Job violates accounting/QOS policy (job submit limit)", False),
    ],
)
def test_only_failures_that_pass_are_transient(stderr: str, *, transient: bool) -> None:
    """A site's plugin may ask to "try again": repeating the same request will not help."""
    assert SLURM.is_transient(printed("", rc=1, stderr=stderr)) is transient


def test_ten_thousand_jobs_are_read_in_one_go() -> None:
    """One query a tick for 10,000 jobs must not hold up the scheduler's event loop."""
    text = "".join(
        f"97_{i}|RUNNING|node01|2026-11-22T20:47:35|2026-11-22T20:57:35|mine-1|None\n"
        for i in range(10_000)
    )
    start = time.perf_counter()
    jobs = SLURM.states(printed(text)).jobs
    print(f"10,000 jobs read in {time.perf_counter() - start:.3f} s")
    assert len(jobs) == 10_000
