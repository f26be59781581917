"""What the LSF and OpenLava drivers write, and what they read in output of OpenLava 4.0.0.

LSF itself was not seen: tests of its output read transcripts called ``documented-...``.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output, Why
from dask_hpc.drivers.lsf import LSF
from dask_hpc.drivers.openlava import OpenLava
from dask_hpc.drivers.registry import DRIVERS, recognise
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.errors import BatchSystemError, ConfigurationError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

IBM, LAVA = LSF(), OpenLava()
BOTH = pytest.mark.parametrize("driver", [IBM, LAVA], ids=["lsf", "openlava"])
VERSION = "openlava/4.0.0"
LOGS = Path("/home/alice/my logs/100%J")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=4, log_directory=LOGS
)
FULL = replace(
    SPEC,
    command=(*SPEC.command, "it's $HOME"),
    cores=16,
    memory=32 * 10**9,
    walltime=90001,
    queue="main",
    account="the lab",
    directives=("-x", "-R 'select[type==any]'"),
    directives_skip=("-M",),
    prologue=("module load python",),
    epilogue=("rm -rf $SCRATCH/mine",),
    environment=(("OMP_NUM_THREADS", "1"), ("GREETING", "a b")),
)
PREFIX = r'"${LSB_JOBNAME%%\[*}-${LSB_JOBINDEX}"'


def printed(stdout: str, *, rc: int = 0, stderr: str = "") -> Output:
    return Output(Command(("lsf",)), rc, stdout, stderr)


# What they write


def test_the_script_requests_everything_the_spec_says() -> None:
    """Each field of a spec becomes one directive; LSF 10.1 takes memory with its unit."""
    assert job_script(replace(FULL, gpus=2), IBM) == (
        rf"""#!/usr/bin/env bash
#BSUB -n 16
#BSUB -R 'rusage[mem=30518MB] span[hosts=1]'
#BSUB -W 1501
#BSUB -q main
#BSUB -P 'the lab'
#BSUB -gpu num=2
#BSUB -x
#BSUB -R 'select[type==any]'

exec >>'/home/alice/my logs/100%J/'{PREFIX}.log 2>&1
export OMP_NUM_THREADS=1
export GREETING='a b'
module load python
/opt/env/bin/dask-worker --name {PREFIX} 'it'"'"'s $HOME' &
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


@BOTH
def test_the_shortest_script_asks_for_slots_on_one_host_alone(driver: LSF) -> None:
    """What the spec leaves open stays the site's default; the log is opened by the script."""
    assert job_script(SPEC, driver) == (
        rf"""#!/usr/bin/env bash
#BSUB -n 4
#BSUB -R 'span[hosts=1]'

exec >>'/home/alice/my logs/100%J/'{PREFIX}.log 2>&1
exec /opt/env/bin/dask-worker --name {PREFIX}
"""
    )


@pytest.mark.parametrize("name", ["mine-7f3a[1-10]", "mine-7f3a[3]", "mine-7f3a"])
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_worker_is_named_after_its_array_and_index(shell: str, name: str) -> None:
    """OpenLava gives a job the name with the whole range (recorded), LSF with its index."""
    seen = load(f"{VERSION}/environment").outputs[0].stdout
    assert "idx=3 id=216 host=oln2 hosts=oln2 name=arrjob[1-10]\n" in seen
    done = subprocess.run(
        [shell, "-c", f'printf %s "{IBM.worker_prefix}"'],
        env={"LSB_JOBNAME": name, "LSB_JOBINDEX": "3", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "mine-7f3a-3"


def test_jobs_of_several_nodes_have_their_slots_on_each() -> None:
    """As many slots per host as the workers of one node use."""
    assert IBM.directives(replace(SPEC, nodes=3)) == ("-n 12", "-R 'span[ptile=4]'")


def test_a_host_that_is_lost_ends_no_job_of_several_nodes() -> None:
    """LSF's default ends all of it; what the variable says, the job inherits from bsub."""
    submission = Submission("mine-7f3a", 1, 1)
    one, several = (
        IBM.submit(submission, replace(SPEC, nodes=nodes), Path("/c/job.sh")) for nodes in (1, 2)
    )
    assert one.variables == ()
    assert several.variables == (("LSB_DJOB_COMMFAIL_ACTION", "KILL_TASKS"),)


@pytest.mark.parametrize(("seconds", "minutes"), [(1, 1), (60, 1), (61, 2), (3600, 60)])
def test_a_walltime_is_in_minutes_and_rounded_up(seconds: int, minutes: int) -> None:
    """A job never gets less time than was asked for."""
    assert f"-W {minutes}" in IBM.directives(replace(SPEC, walltime=seconds))


@pytest.mark.parametrize(
    ("driver", "unit", "reserved", "limit"),
    [
        (IBM, None, "1025MB", "1025MB"),
        (IBM, "mb", "1025", "1025"),
        (IBM, "GB", "2", "2"),
        (LAVA, None, "1025", "1048577"),  # MB in resource strings, KB for limits
        (LAVA, "KB", "1048577", "1048577"),
    ],
)
def test_memory_is_rounded_up_in_the_sites_unit(
    driver: LSF, unit: str | None, reserved: str, limit: str
) -> None:
    """LSF before 10.1 and OpenLava take bare numbers, in a unit that the site sets."""
    options = {"lsf_units": unit} if unit else {}
    lines = driver.directives(replace(SPEC, memory=2**30 + 1, options=options))
    assert lines[1:] == (f"-R 'rusage[mem={reserved}] span[hosts=1]'", f"-M {limit}")


def test_slots_and_memory_may_differ_from_what_the_workers_use() -> None:
    """Sites that count threads as slots, or reserve memory per slot."""
    spec = replace(SPEC, memory=10**9, options={"ncpus": "8", "mem": "2 GiB", "use_stdin": "True"})
    assert IBM.directives(spec) == (
        "-n 8",
        "-R 'rusage[mem=2048MB] span[hosts=1]'",
        "-M 2048MB",
    )


@pytest.mark.parametrize("options", [{"ncpus": "many"}, {"ncpus": "0"}, {"lsf_units": "bytes"}])
def test_options_that_make_no_sense_are_refused(options: dict[str, str]) -> None:
    """Before anything is submitted."""
    with pytest.raises(ConfigurationError):
        IBM.directives(replace(SPEC, memory=1, options=options))


def test_openlava_has_no_option_for_gpus() -> None:
    """It would read -gpu as -g pu, a group of jobs, and submit num=1 as the command."""
    assert "-gpu" not in load(f"{VERSION}/usage").all("bsub")[0].stderr
    with pytest.raises(ConfigurationError, match="no option for 1 GPUs"):
        LAVA.directives(replace(SPEC, gpus=1))


def test_submit_repeats_the_directives_as_arguments() -> None:
    """Bsub reads the script's only from its standard input; skipped ones stay left out."""
    command = IBM.submit(Submission("mine-7f3a", 10, 1), FULL, Path("/c/job.sh"))
    assert command.argv == (
        "bsub",
        "-n",
        "16",
        "-R",
        "rusage[mem=30518MB] span[hosts=1]",
        "-W",
        "1501",
        "-q",
        "main",
        "-P",
        "the lab",
        "-x",
        "-R",
        "select[type==any]",
        "-J",
        "mine-7f3a[1-10]",
        "-o",
        "/dev/null",
        "/usr/bin/env bash /c/job.sh",
    )


@BOTH
def test_the_path_of_the_script_is_quoted_for_the_shell_of_the_job(driver: LSF) -> None:
    """What follows the options is a line of shell; log directories are in the script alone."""
    command = driver.submit(Submission("m", 1, 1), SPEC, Path("/c/my $HOME/100%J/job.sh"))
    assert command.argv[-1] == "/usr/bin/env bash '/c/my $HOME/100%J/job.sh'"
    assert not any("my logs" in word for word in command.argv)


def test_a_users_defaults_for_the_commands_are_kept_from_them() -> None:
    """BSUB_QUIET would hide the id; a user's default queue and the site's settings stay."""
    users = {
        "BSUB_QUIET": "1",
        "BSUB_CHK_RESREQ": "1",
        "LSB_BJOBS_FORMAT": "jobid",
        "LSB_BJOBS_PENDREASON_LEVEL": "3",
        "LSB_BSUB_PARSE_SCRIPT": "Y",
    }
    kept = {"LSF_ENVDIR": "/etc/lsf", "LSB_DEFAULTQUEUE": "long", "PATH": "/bin"}
    commands = (
        IBM.submit(Submission("m", 1, 1), SPEC, Path("job.sh")),
        IBM.query({"m": None}),
        *IBM.cancel([JobId("1", 1)], {}),
        IBM.why("1"),
        IBM.limits(),
    )
    for command in commands:
        assert command.environment(users | kept) == kept


def test_one_query_lists_all_arrays() -> None:
    """By their ids; with one that is not known, all of the user's own jobs."""
    fields = "jobid jobindex stat exit_code exec_host job_name exit_reason delimiter='|'"
    assert IBM.query({"a": "101", "b": "102"}).argv == ("bjobs", "-a", "-o", fields, "101", "102")
    assert IBM.query({"a": "101", "b": None}).argv == ("bjobs", "-a", "-o", fields)
    assert LAVA.query({"a": "101"}).argv[3:] == ("jobid stat exit_code job_name", "101")


def test_whole_arrays_are_cancelled_by_id_and_parts_by_ranges() -> None:
    """One bkill, however many jobs."""
    jobs = [JobId("80", 1), JobId("80", 2), *(JobId("97", i) for i in (4, 1, 2, 3, 8))]
    [command] = IBM.cancel(jobs, {"80": 2, "97": 10})
    assert command.argv == ("bkill", "80", "97[1-4,8]")


# Ids


@pytest.mark.parametrize(
    "stdout",
    [
        "Job <1234> is submitted to queue <normal>.\n",
        "Job <1234> is submitted to default queue <normal>.\n",
        "Project 17 has 1200 hours\nJob <1234> is submitted to queue <my queue>.\nBye 42.\n",
        "esub: ok\r\n  Job <1234> is submitted to queue <normal>.\r\n",
    ],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_id_is_found_among_chatter(stdout: str, stream: str) -> None:
    """A site's esub may print anything; BSUB_STDERR moves the line."""
    output = printed(stdout) if stream == "stdout" else printed("", stderr=stdout)
    assert IBM.submitted(output) == "1234"


@pytest.mark.parametrize(
    ("stdout", "rc"),
    [
        ("", 0),
        ("", -9),
        ("", 255),
        ("1234\n", 0),
        ("Job <1234> is submit", 0),
        ("Job <0> is submitted to queue <normal>.\n", 0),
        (
            "Job <1> is submitted to queue <a>.\nJob <2> is submitted to queue <a>.\n",
            255,
        ),
    ],
)
def test_no_id_is_guessed(stdout: str, rc: int) -> None:
    """With none or several, or killed, it is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no single job id") as caught:
        IBM.submitted(printed(stdout, rc=rc))
    assert not isinstance(caught.value, SubmitRejected)


def test_recorded_submissions_give_their_ids() -> None:
    """To a named queue and to the default one."""
    outputs = load(f"{VERSION}/submit-array").all("bsub")
    assert [LAVA.submitted(output) for output in outputs] == ["217", "218", "219"]


def test_a_refusal_repeats_the_systems_own_words_with_what_to_do_next() -> None:
    """Of all refusals recorded none is taken for a passing failure."""
    said = {}
    for output in load(f"{VERSION}/submit-refused").all("bsub"):
        if output.returncode == 0:
            continue
        assert not LAVA.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            LAVA.submitted(output)
        said[caught.value.args[0].removeprefix("bsub refused the job: ")] = caught.value.hint
    queues = "`bqueues` lists the queues; name one with queue="
    longest = "`bqueues -l QUEUE` shows the longest walltime; OpenLava calls one over it a bad host"
    largest = "`bparams -l` shows how large an array may be"
    assert said == {
        "nosuchqueue: No such queue. Job not submitted.": queues,
        "other: User cannot use the queue. Job not submitted.": queues,
        "abc: Bad RUNLIMIT specification. Job not submitted.": longest,
        "Bad host specification. Job not submitted.": longest,
        "Too many processors requested. Job not submitted.": (
            "`bqueues -l QUEUE` shows how many a job may have"
        ),
        "Bad resource requirement syntax. Job not submitted.": (
            "the site may know no units in -R: use lsf_units="
        ),
        "Bad job name. Job not submitted.": largest,
        "Job array index too large. Job not submitted.": largest,
        "nosuchhost: Bad host name, host group name or cluster name. Job not submitted.": "",
        "99999: No matching job found. Job not submitted.": "",
        "abc: MEMLIMT value should be a positive integer. Job not submitted.": (
            "`bqueues -l QUEUE` shows the most memory; lsf_units= tells the site's unit"
        ),
        "No command is specified. Job not submitted.": "",
    }


# States


def test_every_end_is_told_as_far_as_openlava_tells_it() -> None:
    """Recorded: 140 is a walltime, 130 is bkill, no code at all a job killed as it waited."""
    listing = LAVA.states(load(f"{VERSION}/ends").replay(LAVA.query({"arrdel": None})))
    assert listing.names == {"arr": "101", "arrjob": "217", "st": "219", "arrdel": "226"}
    assert listing.jobs[JobId("216", 3)] == JobStatus(JobState.FAILED, exit_code=7)
    assert listing.jobs[JobId("216", 4)] == JobStatus(JobState.COMPLETED, exit_code=0)
    assert {i for array, i in listing.jobs if array == "219"} == {1, 2, 3, 7, 10, 15, 20}
    assert {listing.jobs[JobId("226", i)] for i in (1, 2, 3, 4)} == {
        JobStatus(JobState.CANCELLED, "killed by bkill (SIGINT)")
    }


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("109 PEND  bigmem", JobStatus(JobState.PENDING)),
        ("218 DONE 0 single", JobStatus(JobState.COMPLETED, exit_code=0)),
        ("223 EXIT 3 ex3", JobStatus(JobState.FAILED, exit_code=3)),
        ("228 EXIT 127 noexec", JobStatus(JobState.FAILED, exit_code=127)),
        ("225 EXIT 130 longrun", JobStatus(JobState.CANCELLED, "killed by bkill (SIGINT)")),
        ("221 EXIT 140 wall", JobStatus(JobState.TIMEOUT, "its walltime is over (SIGUSR2)")),
        ("232 EXIT  held", JobStatus(JobState.CANCELLED, "killed before it had started")),
        ("222 DONE 0 sig", JobStatus(JobState.COMPLETED, exit_code=0)),  # its shell killed itself
        ("220 DONE 0 wallhard", JobStatus(JobState.COMPLETED, exit_code=0)),  # it trapped SIGUSR2
        ("227 DONE 0 memhog", JobStatus(JobState.COMPLETED, exit_code=0)),  # -M is not enforced
    ],
)
def test_each_recorded_end_of_a_single_job_reads_alike(line: str, status: JobStatus) -> None:
    """The jobs recorded were no arrays: each line gets the index of one here."""
    recorded = load(f"{VERSION}/ends").replay(LAVA.query({"x": None})).stdout
    assert f"\n{line}\n" in recorded
    assert list(LAVA.states(printed(f"{line}[1]\n")).jobs.values()) == [status]


@pytest.mark.parametrize(
    ("state", "known"),
    [
        ("PEND", JobState.PENDING),
        ("WAIT", JobState.PENDING),
        ("PROV", JobState.PENDING),
        ("FWD_PEND", JobState.PENDING),
        ("PSUSP", JobState.HELD),
        ("RUN", JobState.RUNNING),
        ("USUSP", JobState.RUNNING),
        ("SSUSP", JobState.RUNNING),
        ("UNKWN", JobState.RUNNING),
        ("ZOMBI", JobState.ENDING),
        ("DONE", JobState.COMPLETED),
        ("TELEPORT", JobState.RUNNING),
    ],
)
def test_every_state_is_known_and_a_new_one_is_not_an_end(state: str, known: JobState) -> None:
    """A version newer than the table must not make us start jobs again."""
    (status,) = IBM.states(printed(f"1|3|{state}|-|-|m[3]|-\n")).jobs.values()
    assert status.state is known


def test_documented_termination_reasons_tell_ends_apart() -> None:
    """On IBM's documented format: a requeued job waits again under its id."""
    seen = load("lsf/10.1/documented-listing")
    listing = IBM.states(seen.replay(IBM.query({"mine-7f3a": None})))
    assert listing.names == {"mine-7f3a": "101"}
    assert {job.index: status for job, status in listing.jobs.items()} == {
        1: JobStatus(JobState.RUNNING, node="hostA"),
        2: JobStatus(JobState.PENDING),
        3: JobStatus(JobState.HELD),
        4: JobStatus(JobState.RUNNING, node="hostC"),
        5: JobStatus(JobState.COMPLETED, node="hostA", exit_code=0),
        6: JobStatus(JobState.FAILED, node="hostA", exit_code=7),
        7: JobStatus(JobState.TIMEOUT, "its walltime is over (TERM_RUNLIMIT)", "hostA"),
        8: JobStatus(
            JobState.OUT_OF_MEMORY, "it needed more memory than it has (TERM_MEMLIMIT)", "hostA"
        ),
        9: JobStatus(JobState.CANCELLED, "TERM_OWNER", "hostA"),
        10: JobStatus(JobState.PREEMPTED, "the site took its place away (TERM_PREEMPT)", "hostA"),
        11: JobStatus(JobState.NODE_FAIL, "its node failed (TERM_ZOMBIE)", "hostA"),
        12: JobStatus(JobState.PENDING, "it is queued again (TERM_REQUEUE_ADMIN)", "hostA"),
        13: JobStatus(JobState.FAILED, node="hostA", signal=11),
    }


def test_a_new_termination_reason_is_repeated() -> None:
    """It is a failure in its own words."""
    (status,) = IBM.states(printed("1|3|EXIT|9|h|m[3]|TERM_NEW: what?\n")).jobs.values()
    assert status == JobStatus(JobState.FAILED, "TERM_NEW: what?", "h", exit_code=9)


@pytest.mark.parametrize(
    ("driver", "good"),
    [(IBM, "80|3|RUN|-|h|mine-1[3]|-\n"), (LAVA, "80 RUN  mine-1[3]\n")],
)
def test_lines_that_are_no_jobs_are_chatter(driver: LSF, good: str) -> None:
    """A wrapper's banner, a header, another kind of job, a line cut off at any place."""
    for cut in range(len(good)):
        text = (
            f"Welcome to 80 RUN hosts\nJOBID STAT EXIT_CODE JOB_NAME\n7 RUN  single\n{good[:cut]}"
        )
        assert driver.states(printed(text)).jobs == {}
    chatter = f"| hello | world |\n1|2|3|4|5|6|7\n{good}Bye.\n"
    assert set(driver.states(printed(chatter)).jobs) == {JobId("80", 3)}


@BOTH
def test_nothing_to_list_is_an_answer_although_it_exits_255(driver: LSF) -> None:
    """Of two ids the known one is listed all the same; a wrong request is no answer."""
    seen = load(f"{VERSION}/unknown")
    told = {str(each.command): driver.answered(each) for each in seen.all("bjobs")}
    assert told == {
        "bjobs 99999": True,
        "bjobs -w 99999 101": True,
        "bjobs notanid": False,
        "bjobs -q nosuch": False,
        "bjobs -J nosuchname": True,
    }
    assert {each.returncode for each in seen.all("bjobs")} == {255}
    for words in ("No unfinished job found", "No job found", "No matching job found"):
        assert driver.answered(printed("", rc=255, stderr=f"{words}\n"))
    assert not driver.answered(printed("", rc=255))


def test_fields_that_openlava_does_not_have_are_no_answer() -> None:
    """Recorded: LSF's field names exit 99, so OpenLava has a query of its own."""
    output = load(f"{VERSION}/pending-reasons").all("bjobs")[-1]
    assert (output.returncode, output.stdout) == (99, "Invalid field specs pend_reason\n")
    assert not LAVA.answered(output)


# Cancelling


def test_jobs_that_are_gone_are_no_error_to_cancel() -> None:
    """Unknown and ended ones exit 255; an id that is none is an error."""
    told = {
        str(each.command): LAVA.cancelled(each) for each in load(f"{VERSION}/unknown").all("bkill")
    }
    assert told == {
        "bkill 99999": True,
        "bkill '99999[1]'": True,
        "bkill notanid": False,
        "bkill 101": True,
    }
    several = next(o for o in load(f"{VERSION}/cancel").outputs if "99999" in o.command.argv)
    assert (several.returncode, LAVA.cancelled(several)) == (255, True)
    assert not LAVA.cancelled(printed("", rc=255))


def test_parts_of_an_array_were_cancelled_while_others_ran_on() -> None:
    """Recorded: ID[2] and ID[3-4] end, element 1 runs; cancelling again says it is under way."""
    (recorded,) = [o for o in load(f"{VERSION}/cancel").outputs if "ID[3-4]" in str(o.command)]
    assert "Job <226[4]> is being terminated\n" in recorded.stdout
    assert "arrdel[1] " in recorded.stdout
    assert "Job <226>: Operation is in progress\n" in recorded.stderr


# Waiting, limits, failures


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("fill4", "waiting for free slots (Job slot limit reached: 3 hosts)"),
        (
            "held",
            "held by its owner: bresume (The job was suspended by the user while pending: 1 host)",
        ),
        ("wait", "its start time has not come (The job has a specified start time: 1 host)"),
        ("dep", "waiting for another job (Job dependency condition not satisfied: 1 host)"),
    ],
)
def test_why_a_job_waits_is_told_in_words(job: str, reason: str) -> None:
    """The recorded listing of all waiting jobs, cut to one: the driver asks for one array."""
    whole = load(f"{VERSION}/pending-reasons").replay(Command(("bjobs", "-p", "-w"))).stdout
    rows = whole.splitlines(keepends=True)
    at = next(i for i, row in enumerate(rows) if f" {job} " in row)
    assert LAVA.because(printed("".join(rows[at : at + 2]))) == Why(reason)


def test_of_several_reasons_the_most_common_is_told() -> None:
    """One command asks for all jobs of an array."""
    assert LAVA.why("219").argv == ("bjobs", "-p", "-w", "219")
    whole = load(f"{VERSION}/pending-reasons").replay(Command(("bjobs", "-p", "-w")))
    assert LAVA.because(whole).reason.startswith("waiting for free slots")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", Why()),
        ("No pending job found\n", Why()),
        (" Something new: 2 hosts;\n", Why("Something new: 2 hosts")),
        (
            " Dependency condition invalid or never satisfied;\n",
            Why(
                "the job it depends on failed (Dependency condition invalid or never satisfied)",
                impossible=True,
            ),
        ),
    ],
)
def test_a_new_reason_is_repeated_and_never_makes_a_job_impossible(text: str, why: Why) -> None:
    """Only what LSF itself says can never be does."""
    assert IBM.because(printed(text)) == why


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("Maximum size of a job array: MAX_JOB_ARRAY_SIZE = 5000\n", 5000),
        ("MAX_JOB_ARRAY_SIZE=0\n", 1),
        ("", LSF.default_array_limit),
    ],
)
def test_the_largest_array_is_read_from_the_parameters(text: str, limit: int) -> None:
    """IBM's documented wording (not recorded); OpenLava's bparams has -l but no -a (recorded)."""
    usage = load(f"{VERSION}/usage").all("bparams")[0].stderr
    assert "[-l]" in usage
    assert "invalid option -- 'a'" in usage
    assert IBM.limits().argv == ("bparams", "-l")
    assert IBM.array_limit(printed(text)) == limit


@BOTH
def test_documented_words_of_daemons_that_are_down_are_transient(driver: LSF) -> None:
    """Most commands repeat them until they are stopped: nothing was observed then."""
    for output in load("lsf/10.1/documented-down").outputs:
        assert driver.is_transient(output)
        assert not driver.answered(output)
        assert not driver.cancelled(output)


def test_versions_tell_the_two_systems_apart() -> None:
    """Their programs have the same names; LSF's words are as documented, OpenLava's recorded."""
    lava = load(f"{VERSION}/version").replay(LAVA.version).text
    assert (recognise(OpenLava, lava), recognise(LSF, lava)) == ("4.0.0", "")
    spectrum = load("lsf/10.1/documented-version").replay(IBM.version).text
    assert (recognise(LSF, spectrum), recognise(OpenLava, spectrum)) == ("10.1.0.0", "")
    assert recognise(LSF, "Platform LSF 9.1.3.0, Jul 04 2014\n") == "9.1.3.0"
    assert (DRIVERS["lsf"], DRIVERS["openlava"]) == (LSF, OpenLava)
