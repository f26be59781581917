"""What the Grid Engine driver writes, and what it reads in output recorded from SGE 8.1.9."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output, Why
from dask_hpc.drivers.registry import recognise
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.drivers.sge import SGE
from dask_hpc.errors import (
    BatchSystemError,
    BatchSystemUnavailable,
    ConfigurationError,
    SubmitRejected,
)
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

SYSTEM = SGE()
VERSION = "sge/8.1.9"
LOGS = Path("/home/alice/rec/logs")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=1, log_directory=LOGS
)
QUERY = SYSTEM.query({"mine-1": None})


def printed(stdout: str, *, rc: int = 0, stderr: str = "") -> Output:
    return Output(Command(("sge",)), rc, stdout, stderr)


def listing(*rows: str) -> str:
    return (
        "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"x\">\n<queue_info>\n"
        + "\n".join(rows)
        + "\n</queue_info>\n<job_info>\n</job_info>\n</job_info>\n"
    )


def row(state: str, tasks: str = "1", array: str = "80") -> str:
    return (
        f'<job_list state="running"><JB_job_number>{array}</JB_job_number><JB_name>mine-1</JB_name>'
        f"<state>{state}</state><queue_name></queue_name><slots>1</slots>\n"
        f"<tasks>{tasks}</tasks></job_list>"
    )


def status(state: str) -> JobStatus:
    return SYSTEM.states(printed(listing(row(state)))).jobs[JobId("80", 1)]


@pytest.mark.parametrize(
    "said",
    [
        'Unable to run job: denied: host "node01" is not a submit host\nExiting.\n',
        'error: denied: host "node01" is neither submit nor admin host\n',
        "Unable to run job: denied: host node01 is no submit host.\nExiting.\n",
    ],
)
def test_a_host_that_may_not_submit_is_told_from_others(said: str) -> None:
    """In the words of several versions; the hint for a head in a job comes with the refusal."""
    assert not SYSTEM.welcomed(printed("", rc=1, stderr=said))
    with pytest.raises(SubmitRejected, match=r"host.*submit(?s:.)*submits"):
        SYSTEM.submitted(printed("", rc=1, stderr=said))
    fits = "verification: found suitable queue(s)\n"
    assert SYSTEM.welcomed(printed(fits))
    assert SYSTEM.welcomed(printed("", rc=1, stderr='Unable to run job: unknown resource "x".\n'))
    assert not SYSTEM.welcomed(printed("", rc=1, stderr="error: commlib error: got select error\n"))


def local(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# What it writes


def test_the_script_requests_everything_the_spec_says() -> None:
    """A slot per core, memory per slot, the user's own directives; the rest is the site's lines."""
    spec = JobSpec(
        command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX, "it's $HOME"),
        cores=16,
        log_directory=LOGS,
        memory=32 * 10**9,
        nodes=2,
        gpus=1,
        walltime=90000,
        queue="all.q@@fast nodes",
        account="lab",
        directives=("-ac site=1", "-R y"),
        directives_skip=("-S",),
        prologue=("module load python",),
        epilogue=("rm -rf $SCRATCH/mine",),
        environment=(("OMP_NUM_THREADS", "1"), ("GREETING", "a b")),
        options={
            "parallel_environment": "mpi16",
            "memory_resource": "h_vmem",
            "gpu_resource": "ngpus",
            "resource_spec": "exclusive,arch=lx*",
        },
    )
    assert (
        job_script(spec, SYSTEM)
        == """\
#!/usr/bin/env bash
#$ -pe mpi16 32
#$ -l h_vmem=1908M
#$ -l ngpus=1
#$ -l h_rt=90000
#$ -l 'exclusive,arch=lx*'
#$ -q 'all.q@@fast nodes'
#$ -P lab
#$ -ac site=1
#$ -R y

export OMP_NUM_THREADS=1
export GREETING='a b'
module load python
/opt/env/bin/dask-worker --name "${JOB_NAME}-${SGE_TASK_ID}" 'it'"'"'s $HOME' &
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


def test_the_shortest_script_asks_for_nothing() -> None:
    """One core is one slot; memory is asked by a resource that only the site knows."""
    assert (
        job_script(replace(SPEC, memory=10**9), SYSTEM)
        == """\
#!/usr/bin/env bash
#$ -S /bin/bash
#$ -notify

exec /opt/env/bin/dask-worker --name "${JOB_NAME}-${SGE_TASK_ID}"
"""
    )


def test_several_cores_need_a_parallel_environment() -> None:
    """On one node it is smp unless another is named."""
    spec = replace(SPEC, cores=4)
    assert "-pe smp 4" in SYSTEM.directives(spec)
    named = replace(spec, options={"parallel_environment": "threaded"})
    assert "-pe threaded 4" in SYSTEM.directives(named)


def test_several_nodes_need_a_named_parallel_environment() -> None:
    """Smp would put all slots on one node; which one spreads them, only the site knows."""
    with pytest.raises(ConfigurationError, match="2 nodes need a parallel environment of 4 slots"):
        SYSTEM.directives(replace(SPEC, cores=4, nodes=2))


@pytest.mark.parametrize(
    ("memory", "cores", "option"),
    [(2**30, 1, "1024M"), (2**30, 4, "256M"), (2**30 + 1, 4, "257M"), (1, 2, "1M")],
)
def test_memory_is_asked_per_slot_and_rounded_up(memory: int, cores: int, option: str) -> None:
    """A job never gets less memory than its workers will use."""
    spec = replace(SPEC, cores=cores, memory=memory, options={"memory_resource": "mem_free"})
    assert f"-l mem_free={option}" in SYSTEM.directives(spec)


@pytest.mark.parametrize(
    ("shebang", "shell"),
    [
        ("#!/usr/bin/env bash", "/bin/bash"),
        ("#!/bin/bash", "/bin/bash"),
        ("#!/sw/bin/zsh -l", "/sw/bin/zsh"),
        ("#!/usr/bin/env -S bash -l", "/bin/bash"),
    ],
)
def test_the_shell_is_the_one_that_the_script_names(shebang: str, shell: str) -> None:
    """A queue in the mode posix_compliant, the default, ignores the script's first line."""
    assert SYSTEM.directives(replace(SPEC, shebang=shebang)) == (f"-S {shell}",)


def test_submit_beats_the_defaults_of_user_and_site() -> None:
    """Their sge_request files may make qsub wait or take the script for a program."""
    command = SYSTEM.submit(Submission("mine-7f3a", 10, 1), SPEC, Path("/c/job.sh"))
    assert command.argv == (
        "qsub",
        "-terse",
        "-sync",
        "n",
        "-now",
        "n",
        "-b",
        "n",
        "-N",
        "mine-7f3a",
        "-t",
        "1-10",
        "-j",
        "y",
        "-o",
        f":{LOGS}/mine-7f3a-$TASK_ID.log",
        "/c/job.sh",
    )


def test_jobs_are_counted_from_one() -> None:
    """``-t 0-3`` is refused; ``-t 5-1`` would silently be reversed."""
    assert SYSTEM.first_index == 1
    one = SYSTEM.submit(Submission("m", 1, SYSTEM.first_index), SPEC, Path("job.sh"))
    assert one.argv[one.argv.index("-t") + 1] == "1-1"


def test_blanks_colons_and_signs_in_a_log_directory_are_taken_literally() -> None:
    """Recorded: the log is where its path says, its name and id in it."""
    spec = replace(SPEC, log_directory=Path("/home/alice/rec/logs a:b 100%$x"))
    SYSTEM.directives(spec)
    command = SYSTEM.submit(Submission("mine-1", 2, 1), spec, Path("job.sh"))
    seen = load(f"{VERSION}/submit")
    assert seen.replay(Command((*command.argv, "1"))).returncode == 0
    (names,) = seen.all("ls")
    assert names.stdout == "mine-1-1.log\nmine-1-2.log\n"
    (log,) = seen.all("cat")
    assert log.stdout == "mine-1-2 30 1\n"


@pytest.mark.parametrize("directory", ["/c/a,b", "/c/$HOME", "/c/x$TASK_ID"])
def test_a_log_directory_that_cannot_be_written_is_refused(directory: str) -> None:
    """Recorded: no quoting helps against a comma; the error is told before anything runs."""
    with pytest.raises(ConfigurationError, match="cannot log to") as caught:
        SYSTEM.directives(replace(SPEC, log_directory=Path(directory)))
    assert "log_directory" in caught.value.hint


def test_variables_that_change_what_commands_print_are_kept_from_them() -> None:
    """Debugging; and a head's own host file, which a site's -V would hand to its jobs."""
    users = {"SGE_DEBUG_LEVEL": "2", "MORE_INFO": "1", "PE_HOSTFILE": "/x", "PE": "smp"}
    kept = {"SGE_ROOT": "/opt/sge", "SGE_CELL": "default", "PATH": "/bin"}
    commands = (
        SYSTEM.submit(Submission("m", 1, 1), SPEC, Path("job.sh")),
        QUERY,
        *SYSTEM.cancel([JobId("1", 1)], {}),
        *SYSTEM.history(["1"]),
        SYSTEM.why("1"),
    )
    for command in commands:
        assert command.environment(users | kept) == kept


def test_whole_arrays_are_cancelled_by_id_and_parts_by_ranges() -> None:
    """One qdel, however many jobs."""
    jobs = [JobId("80", 1), JobId("80", 2), *(JobId("97", i) for i in (4, 1, 2, 3, 8))]
    [command] = SYSTEM.cancel(jobs, {"80": 2, "97": 10})
    assert command.argv == ("qdel", "80", "97.1-4", "97.8")


def test_options_are_explained() -> None:
    """Each keyword that a user may give has words."""
    assert all(SYSTEM.OPTIONS.values())
    assert {"project", "resource_spec"} <= set(SYSTEM.OPTIONS)


def test_its_commands_are_told_from_others_of_the_same_names() -> None:
    """PBS and TORQUE have a qsub and a qstat too."""
    (said,) = load(f"{VERSION}/versions").all("qstat")
    assert recognise(SGE, said.stdout) == "SGE 8.1.9"
    for dialect in ("GE 6.2u5", "OGS/GE 2011.11p1", "UGE 8.6.7", "AGE 2023.1.0", "OCS 9.0.5"):
        assert recognise(SGE, f"{dialect}\nusage: qstat [options]\n") == dialect
    for other in ("usage: qstat [-f] [-J]\n", "Version: 6.1.2\nCommit: abc\n", ""):
        assert recognise(SGE, other) == ""


# Ids


@pytest.mark.parametrize(
    "stdout",
    [
        "1234.1-10:1\n",
        'Your job-array 1234.1-10:1 ("mine-1") has been submitted\n',
        "Welcome! 3 nodes are down since 2026.\n12 core-hours left\n1234.1-10:1\nBye 42.\n",
        "  1234.1-1:1  \r\n",
        'Your job-array 1234.1-10:1 ("mine-1") has been submitted\n1234.1-10:1\n',
    ],
)
def test_the_id_is_found_among_chatter(stdout: str) -> None:
    """Only a line that is an id of an array counts, never a number inside a sentence."""
    assert SYSTEM.submitted(printed(stdout)) == "1234"


@pytest.mark.parametrize(
    "stdout", ["", "1234\n", "job 12.1-3:1 is in\n", "12.1-3:1\n1234.1-10:1\n", "1234.1-1"]
)
def test_no_id_is_guessed(stdout: str) -> None:
    """With none or several candidates the submission is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no single job id") as caught:
        SYSTEM.submitted(printed(stdout))
    assert not isinstance(caught.value, SubmitRejected)


def test_a_submit_command_that_is_killed_leaves_the_submission_in_doubt() -> None:
    """It may have arrived: it is looked for by its name."""
    with pytest.raises(BatchSystemError) as caught:
        SYSTEM.submitted(printed("", rc=-9))
    assert not isinstance(caught.value, SubmitRejected)


def test_recorded_submissions_give_their_ids() -> None:
    """With -terse and without."""
    outputs = load(f"{VERSION}/submit").all("qsub")[:3]
    assert [SYSTEM.submitted(output) for output in outputs] == ["28", "29", "30"]


def test_a_refusal_repeats_grid_engines_own_words() -> None:
    """Without the frame around them; no refusal is taken for a passing failure."""
    said = []
    for output in load(f"{VERSION}/submit-refused").all("qsub"):
        assert not SYSTEM.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            SYSTEM.submitted(output)
        said.append(caught.value.args[0].removeprefix("qsub refused the job: "))
    assert said == [
        'Job was rejected because job requests unknown queue "nosuch.q"',
        'job rejected: the requested parallel environment "nosuch" does not exist',
        'unknown resource "nosuch"',
        'job rejected: the requested project "nosuch" does not exist',
        'attribute "h_rt" is not a time value',
        'qsub: invalid option argument "-nosuch"',
        "Error reading answer list from qmaster",
        "job rejected: you tried to submit a job with more than 75000 tasks",
        "job rejected: 0 is an invalid task id",
        (
            "Unable to read script file because of error: error opening /no/such/script.sh: "
            "No such file or directory"
        ),
        "error: no suitable queues",
        "error: no suitable queues",
        "error: no suitable queues",
    ]


def test_verification_at_submit_is_not_asked_for() -> None:
    """Recorded: with -w e even one MB of mem_free is refused, as load values are not known then."""
    last = load(f"{VERSION}/submit-refused").all("qsub")[-1]
    assert "mem_free=1M" in last.command.argv
    assert last.returncode == 1
    assert "-w" not in SYSTEM.submit(Submission("m", 1, 1), SPEC, Path("job.sh")).argv


@pytest.mark.parametrize(
    ("stderr", "hint"),
    [
        ('job requests unknown queue "x"', "qconf -sql"),
        ('the requested parallel environment "x" does not exist', "parallel_environment="),
        ('unknown resource "h_mem"', "memory_resource="),
        ('the requested project "x" does not exist', "account="),
        ("your user id 0 is lower than minimum user id 1000", "root"),
        ("something new", ""),
    ],
)
def test_a_common_refusal_says_what_to_do_next(stderr: str, hint: str) -> None:
    """The message alone does not tell a new user which command or keyword helps."""
    with pytest.raises(SubmitRejected) as caught:
        SYSTEM.submitted(printed("", rc=1, stderr=f"Unable to run job: {stderr}\nExiting.\n"))
    assert hint in caught.value.hint


# States


def test_each_task_of_an_array_is_a_job() -> None:
    """Running ones have rows of their own, waiting ones share one; long names are whole."""
    seen = load(f"{VERSION}/array")
    found = SYSTEM.states(seen.replay(QUERY))
    name = "mine-array-with-a-long-name-of-49-characters-AbCdEf12"
    assert found.names == {name: "43"}
    assert {job.index: each.state for job, each in found.jobs.items()} == {
        **dict.fromkeys((1, 2, 3), JobState.RUNNING),
        **dict.fromkeys(range(4, 9), JobState.PENDING),
    }
    assert found.jobs[JobId("43", 1)] == JobStatus(
        JobState.RUNNING, node="node02", start=local("2026-11-22T23:56:39")
    )
    assert found.jobs[JobId("43", 8)] == JobStatus(JobState.PENDING)


def test_cancelled_jobs_are_ending_until_they_are_gone() -> None:
    """Those that waited leave at once and without a record; the others have one."""
    seen = load(f"{VERSION}/array-cancelled")
    during = SYSTEM.states(seen.replay(QUERY, 0)).jobs
    assert {job.index: each.state for job, each in during.items()} == {
        1: JobState.RUNNING,
        3: JobState.ENDING,
        4: JobState.RUNNING,
        5: JobState.PENDING,
        7: JobState.HELD,
        8: JobState.RUNNING,
    }
    assert SYSTEM.states(seen.replay(QUERY, -1)).jobs == {}
    ends = SYSTEM.ended(seen.replay(SYSTEM.history(["43"])[0])).jobs
    assert {job.index for job in ends} == {1, 2, 3, 4, 8}
    assert {each.signal for each in ends.values()} == {9}


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        *((each, JobState.PENDING) for each in ("qw", "Rq")),
        *((each, JobState.HELD) for each in ("hqw", "hRwq", "Eqw", "Ehqw", "EhRqw")),
        *((each, JobState.RUNNING) for each in ("r", "hr", "t", "Rr", "Rt", "s", "ts", "S", "tS")),
        *((each, JobState.RUNNING) for each in ("T", "tT", "Rs", "Rts", "RS", "RtS", "RT", "RtT")),
        *((each, JobState.ENDING) for each in ("dr", "dt", "dRr", "dRt", "ds", "dS", "dT", "dRs")),
        *((each, JobState.ENDING) for each in ("dRS", "dRT", "dqw")),
    ],
)
def test_every_state_of_the_manual_is_known(letters: str, state: JobState) -> None:
    """sge_status(5) lists them; letters add up."""
    assert status(letters).state is state


def test_an_unknown_state_is_not_an_end() -> None:
    """A Grid Engine newer than the table must not make us start jobs again."""
    assert status("X").state is JobState.RUNNING


def test_a_job_that_could_not_be_started_is_reported() -> None:
    """It is kept in error until somebody acts: held, and impossible."""
    seen = load(f"{VERSION}/error-state")
    found = SYSTEM.states(seen.replay(QUERY, 0))
    assert {found.names[name] for name in ("error-log", "error-100")} == {"54", "55"}
    for job in (JobId("54", 1), JobId("54", 2), JobId("55", 1)):
        each = found.jobs[job]
        assert (each.state, each.impossible) == (JobState.HELD, True)
        assert f"qstat -j {job.array}" in each.reason
    # Its record is of the start that failed; it is believed only once the job is no longer listed.
    (script, logs) = seen.all("qacct")
    assert SYSTEM.ended(script).jobs[JobId("55", 1)].reason == (
        "Grid Engine says: 30  : application error returned"
    )
    assert SYSTEM.ended(logs).jobs[JobId("54", 2)].reason == (
        "Grid Engine says: 26  : opening input/output file"
    )


def test_a_requeued_job_waits_and_runs_again_under_its_id() -> None:
    """A script that ends with 99 is; the records of its former lives are no end."""
    seen = load(f"{VERSION}/requeued")
    waits, runs = (SYSTEM.states(seen.replay(QUERY, nth)).jobs for nth in (0, 1))
    assert waits[JobId("56", 1)] == JobStatus(
        JobState.PENDING, "requeued: waiting to run again (Rq)"
    )
    assert runs[JobId("56", 2)].state is JobState.RUNNING
    during, after = seen.all("qacct")
    assert SYSTEM.ended(during).jobs == {}
    ends = SYSTEM.ended(after).jobs
    assert {job.index for job in ends} == {1, 2}
    assert {each.signal for each in ends.values()} == {9}


def test_suspended_jobs_run() -> None:
    """They keep their slots and go on where they were; a hold on a running job changes nothing."""
    jobs = SYSTEM.states(load(f"{VERSION}/suspended").replay(QUERY)).jobs
    told = {job.index: (each.state, each.reason) for job, each in jobs.items() if job[0] == "71"}
    assert told == {
        1: (JobState.RUNNING, "suspended (s)"),
        2: (JobState.RUNNING, ""),
        3: (JobState.RUNNING, ""),
    }


def test_jobs_on_a_lost_host_are_ending_for_long() -> None:
    """Recorded 7 minutes after qdel: only the host's return, or an administrator, ends them."""
    seen = load(f"{VERSION}/node-lost")
    jobs = SYSTEM.states(seen.replay(QUERY)).jobs
    assert {each.state for each in jobs.values()} == {JobState.ENDING}
    for output in seen.all("qdel"):
        assert SYSTEM.cancelled(output)


def test_a_job_whose_host_was_lost_is_no_failure() -> None:
    """Recorded once the host was back ("failed 19"); those that ended before keep their ends."""
    seen = load(f"{VERSION}/node-back")
    assert all(job.array != "46" for job in SYSTEM.states(seen.replay(QUERY)).jobs)
    ends = SYSTEM.ended(seen.replay(SYSTEM.history(["46"])[0])).jobs
    assert {job.index: each.state for job, each in ends.items()} == {
        **dict.fromkeys((1, 2), JobState.COMPLETED),
        **dict.fromkeys((3, 4), JobState.NODE_FAIL),
    }
    assert ends[JobId("46", 3)].end is None


def test_a_users_defaults_for_qstat_are_overridden() -> None:
    """Recorded with ``-s r -f`` in ~/.sge_qstat: what waits is hidden, and the form is another."""
    seen = load(f"{VERSION}/user-defaults")
    hidden = SYSTEM.states(seen.replay(Command(("qstat", "-xml")))).jobs
    assert {job.index for job in hidden if job.array == "65"} == {1, 2}
    shown = SYSTEM.states(seen.replay(QUERY)).jobs
    assert {job.index for job in shown if job.array == "65"} == {1, 2, 3, 4}


def test_no_jobs_are_an_answer() -> None:
    """An empty list with exit 0 proves that a submission never happened."""
    seen = load(f"{VERSION}/unknown")
    output = seen.replay(QUERY)
    assert SYSTEM.answered(output)
    assert (SYSTEM.states(output).jobs, SYSTEM.states(output).names) == ({}, {})
    past = seen.replay(SYSTEM.history(["999999"])[0])
    assert (past.returncode, SYSTEM.ended(past).jobs) == (1, {})
    assert SYSTEM.because(seen.replay(SYSTEM.why("999999"))) == Why()


def test_a_list_that_is_cut_short_is_no_answer() -> None:
    """Wherever it is cut: jobs that are missing would be taken for gone."""
    text = load(f"{VERSION}/array").replay(QUERY).stdout
    assert SYSTEM.states(printed(f"Welcome!\n{text}Bye.\n")).jobs
    for end in range(0, text.rindex("</job_info>") + len("</job_info>"), 7):
        with pytest.raises(BatchSystemUnavailable):
            SYSTEM.states(printed(text[:end]))


def test_tasks_that_cannot_be_read_are_no_answer() -> None:
    """To leave them out would make them gone."""
    with pytest.raises(BatchSystemUnavailable, match="jobs of 80 as 1-x"):
        SYSTEM.states(printed(listing(row("r", "1-x"))))


@pytest.mark.parametrize(
    ("tasks", "indices"),
    [
        ("7", {7}),
        ("7-13:2", {7, 9, 11, 13}),
        ("1,2", {1, 2}),
        ("1-4:1,8,15-16:1", {*range(1, 5), 8, 15, 16}),
    ],
)
def test_a_row_may_stand_for_many_tasks(tasks: str, indices: set[int]) -> None:
    """Ranges with steps, lists, and both."""
    jobs = SYSTEM.states(printed(listing(row("qw", tasks)))).jobs
    assert set(jobs) == {JobId("80", index) for index in indices}


def test_the_users_other_jobs_do_no_harm() -> None:
    """Single jobs have no tasks; a name that Grid Engine writes wrongly breaks nothing."""
    other = (
        '<job_list state="running"><JB_job_number>63</JB_job_number>'
        "<JB_name>odd%lt;&amp;&gt;&name</JB_name><state>r</state></job_list>"
    )
    found = SYSTEM.states(printed(listing(other, row("r"))))
    assert set(found.jobs) == {JobId("80", 1)}
    assert found.names == {"mine-1": "80"}


def test_ten_thousand_jobs_are_read_in_one_go() -> None:
    """One query a tick for 10,000 jobs must not hold up the scheduler's event loop."""
    text = listing(*(row("r", str(i)) for i in range(1, 10_001)))
    start = time.perf_counter()
    jobs = SYSTEM.states(printed(text)).jobs
    print(f"10,000 jobs read in {time.perf_counter() - start:.3f} s")
    assert len(jobs) == 10_000


# Ends


def test_accounting_tells_exit_codes_and_signals() -> None:
    """200 is an exit code, 137 after "failed 100" a signal."""
    jobs = SYSTEM.ended(load(f"{VERSION}/ends").all("qacct")[0]).jobs
    told = {job.index: (each.state, each.exit_code, each.signal) for job, each in jobs.items()}
    assert told == {
        1: (JobState.COMPLETED, 0, None),
        2: (JobState.FAILED, 3, None),
        3: (JobState.FAILED, 200, None),
        4: (JobState.FAILED, None, 9),
        5: (JobState.FAILED, None, 11),
    }
    crashed = jobs[next(job for job in jobs if job.index == 5)]
    assert crashed.reason.startswith("killed by SIGSEGV")
    assert crashed.node.startswith("node")
    assert crashed.start is not None
    assert crashed.end is not None
    assert 0 <= crashed.end - crashed.start < 60


def test_walltime_is_told_from_memory() -> None:
    """One code for both ("failed 37"): what was asked and used tells; s_rt ends with SIGUSR1."""
    hard, soft, memory, queue = load(f"{VERSION}/limits").all("qacct")
    told = []
    for output in (hard, soft, memory, queue):
        (each,) = SYSTEM.ended(output).jobs.values()
        told.append((each.state, each.reason.split(" (")[0]))
    assert told == [
        (JobState.TIMEOUT, "its walltime is over"),
        (JobState.TIMEOUT, "its soft walltime is over"),
        (JobState.OUT_OF_MEMORY, "it was killed for its memory, not its walltime"),
        (JobState.TIMEOUT, "its soft walltime is over"),
    ]


def record(failed: str, exit_status: str = "0", category: str = "NONE", **more: str) -> str:
    fields = {
        "qname": "all.q",
        "hostname": "node01",
        "jobnumber": "5",
        "taskid": "1",
        "start_time": "Sun Nov 22 19:07:29 2026",
        "end_time": "Sun Nov 22 19:07:31 2026",
        "slots": "1",
        "failed": failed,
        "exit_status": exit_status,
        "maxvmem": "1.453MB",
        "category": category,
        **more,
    }
    lines = "".join(f"{key:<12} {value}\n" for key, value in fields.items())
    return f"{'=' * 62}\n{lines}"


@pytest.mark.parametrize(
    ("failed", "exit_status", "state"),
    [
        ("0", "0", JobState.COMPLETED),
        ("0", "1", JobState.FAILED),
        ("1   : assumedly before job", "0", JobState.FAILED),
        ("17  : through signal", "137", JobState.FAILED),
        ("18  : shepherd returned error", "0", JobState.FAILED),
        ("19  : before writing exit_status", "0", JobState.NODE_FAIL),
        ("26  : opening input/output file", "0", JobState.FAILED),
        ("28  : changing into working directory", "0", JobState.FAILED),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137", JobState.TIMEOUT),
        ("100 : assumedly after job", "137 (Killed)", JobState.FAILED),
        ("100 : assumedly after job", "0", JobState.FAILED),
        ("99  : something new", "0", JobState.FAILED),
    ],
)
def test_every_code_of_accounting_has_a_meaning(
    failed: str, exit_status: str, state: JobState
) -> None:
    """sge_status(5); only a host that went away is nobody's fault."""
    (each,) = SYSTEM.ended(printed(record(failed, exit_status))).jobs.values()
    assert each.state is state


@pytest.mark.parametrize("failed", ["24  : migrating", "25  : rescheduling"])
def test_a_job_that_goes_on_has_no_end(failed: str) -> None:
    """Even if a former life of it had one."""
    text = record("19  : before writing exit_status") + record(failed, "99")
    assert SYSTEM.ended(printed(text)).jobs == {}


def test_a_site_that_enforces_memory_by_itself_is_found_out() -> None:
    """A consumable h_vmem of 0 kills every job at once: far from its walltime."""
    limit = "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit"
    cases = [
        ("-l h_rt=3600", JobState.OUT_OF_MEMORY),
        ("-l h_rt=2", JobState.TIMEOUT),
        ("-l h_cpu=1,h_rt=3600", JobState.TIMEOUT),
        ("-l h_rt=3600,h_vmem=4G", JobState.TIMEOUT),
        ("-l h_rt=1:0:0", JobState.TIMEOUT),
    ]
    for category, state in cases:
        (each,) = SYSTEM.ended(printed(record(limit, "137", category))).jobs.values()
        assert each.state is state, category


def test_records_that_are_cut_off_or_of_single_jobs_tell_nothing() -> None:
    """Half a record is no end."""
    whole = record("0")
    two = whole + record("37  : a limit", "137", "-l h_rt=3600", taskid="2")
    ends = SYSTEM.ended(printed(two)).jobs
    assert len(ends) == 2
    for end in range(len(two)):
        assert SYSTEM.ended(printed(two[:end])).jobs.items() <= ends.items(), two[:end]
    assert SYSTEM.ended(printed(record("0", taskid="undefined"))).jobs == {}
    assert SYSTEM.ended(printed("Total System Usage\n")).jobs == {}


def test_times_are_read_in_each_dialects_form() -> None:
    """Univa's have a month in front and milliseconds; a job that never started has none."""
    text = record("0", start_time="11/22/2026 19:07:29.125", end_time="-/-")
    (each,) = SYSTEM.ended(printed(text)).jobs.values()
    assert (each.start, each.end) == (local("2026-11-22T19:07:29.125"), None)


def test_ends_are_waited_for_as_long_as_accounting_is_late() -> None:
    """By default it is written every 15 s; without the wait every job would end as gone."""
    assert SYSTEM.history_delay > 15
    assert [str(each) for each in SYSTEM.history({"7", "12"})] == ["qacct -j 12", "qacct -j 7"]


# Why jobs wait


def test_what_can_never_run_is_told_from_what_waits() -> None:
    """A dry run on an empty cluster; Grid Engine's own words, each once whatever the host."""
    seen = load(f"{VERSION}/pending-reasons")
    told = {output.command.argv[-1]: SYSTEM.because(output) for output in seen.all("qalter")}
    assert told == {
        "why-slots": Why('cannot run in PE "smp" because it only offers 0 slots', impossible=True),
        "why-memory": Why(
            "(-l virtual_free=17G) cannot run because it offers only hc:virtual_free=16.000G",
            impossible=True,
        ),
        "why-queue": Why("(-l h_rt=3600) cannot run because of cluster queue", impossible=True),
        "why-load": Why(
            "waiting; no host can be named ahead, as it asks for a load value: (-l mem_free=1000G) "
            "cannot run because job requests unknown resource (mem_free)"
        ),
        "why-held": Why("waiting for free slots"),
        "why-closed": Why("waiting for free slots"),
        "why-gpu": Why("waiting for free slots"),
    }
    assert SYSTEM.why("47").argv == ("qalter", "-w", "v", "47")


def test_held_jobs_are_told_as_such() -> None:
    """With the command that releases them."""
    output = load(f"{VERSION}/pending-reasons").replay(QUERY)
    found = SYSTEM.states(output)
    held = found.jobs[JobId(found.names["why-held"], 1)]
    assert held.state is JobState.HELD
    assert not held.impossible
    assert "qrls" in held.reason


# Failures


def test_what_qdel_does_not_know_is_no_error() -> None:
    """Recorded: unknown jobs, ended tasks, and jobs in deletion; some make it exit 1."""
    outputs = load(f"{VERSION}/array-cancelled").all("qdel")
    assert [output.returncode for output in outputs] == [0, 1, 1, 0, 1]
    assert all(SYSTEM.cancelled(output) for output in outputs)
    (unknown,) = load(f"{VERSION}/unknown").all("qdel")
    assert SYSTEM.cancelled(unknown)


def test_another_users_job_cannot_be_cancelled() -> None:
    """Told even beside jobs that are gone; asking again does not help."""
    denied = 'alice - you do not have the necessary privileges to delete the job "109"\n'
    for text in (denied, f'denied: job "999999" does not exist\n{denied}', "", "chatter\n"):
        output = printed(text, rc=1)
        assert not SYSTEM.cancelled(output)
        assert not SYSTEM.is_transient(output)


def test_a_master_that_is_down_is_transient() -> None:
    """Every command says so at once; nothing is taken for gone."""
    outputs = load(f"{VERSION}/server-down").outputs
    assert {output.command.argv[0] for output in outputs} == {"qsub", "qstat", "qdel", "qalter"}
    for output in outputs:
        assert output.returncode == 1
        assert SYSTEM.is_transient(output)
        assert not SYSTEM.answered(output)
        assert not SYSTEM.cancelled(output)
        assert SYSTEM.because(output) == Why()


def test_hints_and_reasons_fit_the_command_line_of_the_user() -> None:
    """No placeholder is left in what a user reads."""
    for letters in ("Eqw", "hqw", "Rq", "s"):
        assert not re.search(r"[{}]", status(letters).reason)
