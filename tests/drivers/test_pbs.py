"""What the PBS driver writes, and what it reads in output recorded from OpenPBS 23.06.06.

PBS Professional was never seen.  Records of jobs of arrays were recorded as JSON; they are written
out here as ``qstat -f`` does, whose form was recorded for single jobs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.pbs import PBS
from dask_hpc.drivers.registry import recognise
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.drivers.torque import Torque
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

DRIVER = PBS()
VERSION = "openpbs/23.06.06"
LOGS = Path("/home/alice/my logs/100%$")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=4, log_directory=LOGS
)


def printed(
    stdout: str, *, rc: int = 0, stderr: str = "", argv: tuple[str, ...] = ("qstat",)
) -> Output:
    return Output(Command(argv), rc, stdout, stderr)


def row(id_: str, letter: str) -> str:
    return f"{id_}    mine-7f3a        alice             00:00:00 {letter} workq           \n"


def local(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def record(id_: str, **fields: str) -> str:
    lines = "".join(f"    {name.replace('__', '.')} = {value}\n" for name, value in fields.items())
    return f"Job Id: {id_}\n{lines}\n"


def written_out(output: Output) -> Output:
    """Recorded JSON in the form of ``qstat -f``, its long lines folded."""
    text = ""
    for id_, fields in json.loads(output.stdout)["Jobs"].items():
        flat = {
            f"{name}.{part}" if part else name: str(each)
            for name, value in fields.items()
            for part, each in (value.items() if isinstance(value, dict) else [("", value)])
        }
        lines = (f"    {name} = {value}" for name, value in flat.items())
        folded = (re.sub(r"(.{79})(?=.)", "\\1\n\t", line) for line in lines)
        text += f"Job Id: {id_}\n" + "\n".join(folded) + "\n\n"
    return printed(text)


def ends(name: str) -> dict[str, JobStatus]:
    (output,) = (o for o in load(f"{VERSION}/{name}").outputs if "json" in o.command.argv)
    jobs = DRIVER.ended(written_out(output)).jobs
    return {f"{job.array}/{job.index}": status for job, status in jobs.items()}


# What it writes


def test_the_script_requests_everything_the_spec_says() -> None:
    """Each field becomes one directive; the script opens its own log, whatever its path holds."""
    spec = replace(
        SPEC,
        cores=16,
        memory=32 * 10**9,
        nodes=2,
        gpus=1,
        walltime=90000,
        queue="main",
        account="our lab",
        directives=("-r n",),
        prologue=("module load python",),
        environment=(("OMP_NUM_THREADS", "1"),),
    )
    assert (
        job_script(spec, DRIVER)
        == """\
#!/usr/bin/env bash
#PBS -l select=2:ncpus=16:mem=30518mb:ngpus=1
#PBS -l place=scatter
#PBS -W tolerate_node_failures=all
#PBS -l walltime=25:00:00
#PBS -q main
#PBS -A 'our lab'
#PBS -S /bin/bash
#PBS -r n

exec >>'/home/alice/my logs/100%$/'"${PBS_JOBNAME}-${PBS_ARRAY_INDEX:-1}".log 2>&1
export OMP_NUM_THREADS=1
module load python
exec /opt/env/bin/dask-worker --name "${PBS_JOBNAME}-${PBS_ARRAY_INDEX:-1}"
"""
    )


def test_the_shortest_script_asks_for_cores_alone() -> None:
    """What the spec leaves open stays the site's default."""
    assert DRIVER.directives(SPEC) == ("-l select=1:ncpus=4", "-S /bin/bash")


def test_a_resource_spec_replaces_what_is_requested() -> None:
    """Beside select PBS refuses -l mem: the whole request is the user's then."""
    spec = replace(SPEC, memory=2**30, options={"resource_spec": "select=1:ncpus=24:mem=100gb"})
    assert DRIVER.directives(spec)[0] == "-l select=1:ncpus=24:mem=100gb"
    assert set(DRIVER.OPTIONS) == {"resource_spec"}


@pytest.mark.parametrize(("memory", "option"), [(2**30, "1024mb"), (2**30 + 1, "1025mb")])
def test_memory_is_rounded_up(memory: int, option: str) -> None:
    """A job never gets less memory than its workers will use."""
    assert DRIVER.directives(replace(SPEC, memory=memory))[0].endswith(f":mem={option}")


@pytest.mark.parametrize(
    ("shebang", "shell"),
    [
        ("#!/usr/bin/env bash", "/bin/bash"),
        ("#!/bin/bash -l", "/bin/bash"),
        ("#!/opt/z/bin/zsh", "/opt/z/bin/zsh"),
    ],
)
def test_the_scripts_shell_runs_it(shebang: str, shell: str) -> None:
    """PBS hands a script to the user's login shell, whatever its first line says; csh fails."""
    assert DRIVER.directives(replace(SPEC, shebang=shebang))[-1] == f"-S {shell}"


def test_submit_makes_an_array_that_starts_at_one() -> None:
    """PBS's own output goes nowhere: the log has it all; a user's PBS_DPREFIX does not count."""
    command = DRIVER.submit(Submission("mine-7f3a", 10, 1), SPEC, Path("/a b/job.sh"))
    assert command.argv == (
        "qsub",
        "-C",
        "#PBS",
        "-N",
        "mine-7f3a",
        "-J",
        "1-10",
        "-j",
        "oe",
        "-o",
        "/dev/null",
        "/a b/job.sh",
    )
    kept = {"PBS_DEFAULT": "pbshead", "PATH": "/bin"}
    users = {"PBS_DPREFIX": "##", "PBS_QSTAT_EXECONLY": "1", "PBS_QSTAT_NO_COMPLETE": "1"}
    assert command.environment(users | kept) == kept


def test_one_job_is_no_array() -> None:
    """Qsub refuses -J 1 and -J 5-1 (recorded), and an array of one."""
    command = DRIVER.submit(Submission("mine-7f3a", 1, 1), SPEC, Path("job.sh"))
    assert "-J" not in command.argv
    refused = {
        o.command.argv[2]
        for o in load(f"{VERSION}/submit-refused").outputs
        if "-J" in o.command.argv
    }
    assert {"1", "5-1", "1,3,5"} <= refused


# Ids


def test_recorded_submissions_give_their_ids() -> None:
    """The first array of a server is ``0[]``; a job alone has no brackets."""
    outputs = load(f"{VERSION}/submit-array").all("qsub")
    assert [DRIVER.submitted(output) for output in outputs] == ["0[]", "11", "12[]", "1003[]"]


@pytest.mark.parametrize(
    "stdout",
    [
        "12[].pbshead\n",
        "12[].pbs-1.site.org\r\n",
        "Welcome to 2026\n2026\n12[].pbshead\nBye 42.\n",
        "  12[].pbshead  \n12[].pbshead\n",
    ],
)
def test_the_id_is_found_among_chatter(stdout: str) -> None:
    """Only a line that is an id counts, never a number inside a sentence."""
    assert DRIVER.submitted(printed(stdout)) == "12[]"


@pytest.mark.parametrize(
    "stdout", ["", "7\n", "job 12.pbs is in\n", "1.pbs\n2.pbs\n", "1[3].pbs\n", "12[]"]
)
def test_no_id_is_guessed(stdout: str) -> None:
    """With none or several candidates the submission is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no single job id") as caught:
        DRIVER.submitted(printed(stdout))
    assert not isinstance(caught.value, SubmitRejected)


def test_a_qsub_that_fails_in_silence_leaves_the_submission_in_doubt() -> None:
    """It was killed, perhaps after the server had taken the job."""
    with pytest.raises(BatchSystemError) as caught:
        DRIVER.submitted(printed("", rc=-9))
    assert not isinstance(caught.value, SubmitRejected)


def test_a_refusal_repeats_pbs_own_words() -> None:
    """Without the list of options; no refusal is taken for a passing failure."""
    said = []
    for output in load(f"{VERSION}/submit-refused").outputs:
        assert not DRIVER.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            DRIVER.submitted(output)
        said.append(
            (caught.value.args[0].removeprefix("qsub refused the job: "), caught.value.hint)
        )
    assert [words for words, _ in said] == [
        "Unknown queue",
        "Queue is not enabled",
        "Illegal attribute or resource value Resource_List.walltime",
        "Job violates queue and/or server resource limits",
        "Job violates queue and/or server resource limits",
        "Unknown resource Resource_List.nosuchres",
        "script file:: No such file or directory",
        "illegal -J value",
        "illegal -J value",
        "illegal -N value",
        "option requires an argument -- 'A'",
        "Array job exceeds server or queue size limit",
        '"-lresource=" cannot be used with "select" or "place", resource is: mem',
        "illegal -J value",
    ]
    hints = dict(said)
    assert "queue=" in hints["Unknown queue"]
    assert "resources_max" in hints["Job violates queue and/or server resource limits"]
    assert "short names" in hints["illegal -N value"]
    assert "fewer" in hints["Array job exceeds server or queue size limit"]


# Listings


def test_known_arrays_are_asked_for_by_id() -> None:
    """Never a listing of all users' jobs, and the short form: the full one is a kilobyte a job."""
    assert DRIVER.query({"a": "0[]", "b": "12"}).argv == ("qstat", "-t", "0[]", "12")


def test_a_lost_submission_is_looked_for_by_its_name(tmp_path: Path) -> None:
    """Only qselect takes a name; its ids are listed with the others, by one constant script."""
    for program, body in {
        "qselect": 'test "$*" = "-N mine-1" && printf "module 7 loaded\\n12[].pbshead\\n" || :',
        "qstat": 'printf "%s|" qstat "$@"; echo',
    }.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / program).chmod(0o755)
    command = DRIVER.query({"mine-1": None, "mine-2": "3[]", "mine-3": None})
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command.argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "name=mine-1 id=12[].pbshead\nqstat|-t|3[]|12[]|\n"
    rows = row("3[].pbs", "Q") + row("12[].pbs", "B") + row("12[1].pbs", "R")
    listing = DRIVER.states(Output(command, 0, done.stdout + rows))
    assert listing.names == {"mine-1": "12[]"}
    assert set(listing.jobs) == {JobId("12[]", 1)}


@pytest.mark.parametrize("rc", [0, 255])
def test_a_search_that_finds_nothing_differs_from_one_that_fails(tmp_path: Path, rc: int) -> None:
    """Then qstat is not run at all: without ids it would list everything."""
    (tmp_path / "qselect").write_text(f"#!/bin/sh\nexit {rc}\n")
    (tmp_path / "qstat").write_text("#!/bin/sh\necho everything\n")
    for program in ("qselect", "qstat"):
        (tmp_path / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = DRIVER.query({"mine-1": None})
    done = subprocess.run(
        command.argv, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (rc, "")
    assert DRIVER.query({}).argv[0] == "sh"


def test_each_job_of_a_running_array_is_listed() -> None:
    """The array's own row is no job."""
    listed = load(f"{VERSION}/array-running").outputs
    jobs = DRIVER.states(replace(listed[1], command=DRIVER.query({"arrjob": "0[]"}))).jobs
    assert jobs == {JobId("0[]", i): JobStatus(JobState.RUNNING) for i in range(1, 11)}
    mixed = DRIVER.states(listed[-1]).jobs
    assert {f"{job.array}/{job.index}": each.state for job, each in mixed.items()} == {
        "14/1": JobState.PENDING,
        **{f"1002[]/{i}": JobState.RUNNING for i in (1, 3, 5)},
        **{f"1003[]/{i}": JobState.RUNNING for i in (1, 2)},
        **{f"1003[]/{i}": JobState.PENDING for i in (3, 4)},
    }


def test_jobs_that_are_being_killed_are_ending() -> None:
    """Recorded right after qdel."""
    (listed,) = (o for o in load(f"{VERSION}/cancel").all("qstat") if "-t" in o.command.argv)
    jobs = DRIVER.states(listed).jobs
    assert [each.state for each in jobs.values()] == [JobState.RUNNING, *[JobState.ENDING] * 3]


def test_the_states_of_jobs_that_wait() -> None:
    """Held, waiting for their time, queued; a user's hold and a dependency look the same."""
    listed = replace(
        load(f"{VERSION}/array-running").outputs[1],
        stdout="".join(
            row(f"{number}.pbshead", letter) for number, letter in ((13, "H"), (14, "Q"), (15, "W"))
        ),
    )
    jobs = DRIVER.states(listed).jobs
    assert [(each.state, each.reason) for each in jobs.values()] == [
        (
            JobState.HELD,
            "held, by its owner, a manager or a limit: `qrls` releases what its owner held",
        ),
        (JobState.PENDING, ""),
        (JobState.PENDING, "its begin time has not come"),
    ]


def test_a_held_array_holds_its_jobs() -> None:
    """The jobs of a held array are listed as queued."""
    listed = printed(row("12[].pbs", "H") + row("12[1].pbs", "Q") + row("12[2].pbs", "R"))
    states = [each.state for each in DRIVER.states(listed).jobs.values()]
    assert states == [JobState.HELD, JobState.RUNNING]


@pytest.mark.parametrize(("letter", "state"), [*DRIVER.STATES.items(), ("?", None), ("Z", "new")])
def test_every_state_of_the_manual_is_known(letter: str, state: JobState | None) -> None:
    """What has ended is left to the history; a state of a newer PBS is not an end."""
    jobs = DRIVER.states(printed(row("12[1].pbs", letter))).jobs
    expected = JobState.RUNNING if state == "new" else state
    if state in (JobState.GONE, None):
        assert jobs == {}
    else:
        assert jobs[JobId("12[]", 1)].state is expected


def test_a_requeued_job_waits_again_under_its_id() -> None:
    """PBS runs it again as the same job of the same array."""
    assert DRIVER.states(printed(row("12[1].pbs", "Q"))).jobs[JobId("12[]", 1)].state.waiting


def test_finished_and_unknown_ids_are_an_answer() -> None:
    """Exit 35 (finished) and 153 (unknown), whatever of the others is printed."""
    finished = load(f"{VERSION}/array-finished").all("qstat")[1]
    unknown = load(f"{VERSION}/unknown").outputs[0]
    assert (finished.returncode, unknown.returncode) == (35, 153)
    for output in (finished, unknown):
        assert DRIVER.answered(output)
        assert DRIVER.states(output).jobs == {}
    some = printed(
        row("12[].pbs", "B") + row("12[1].pbs", "R"),
        rc=153,
        stderr="qstat: Unknown Job Id 99999[].pbshead\n",
        argv=("qstat", "-t", "12[]", "99999[]"),
    )
    assert DRIVER.answered(some)
    assert set(DRIVER.states(some).jobs) == {JobId("12[]", 1)}


def test_an_unknown_queue_or_a_silent_server_is_no_answer() -> None:
    """Nor is a failure among others, by whose exit status nobody can tell."""
    assert not DRIVER.answered(load(f"{VERSION}/unknown").outputs[-1])
    words = "qstat: Unknown Job Id 1.pbs\nConnection refused\nqstat: cannot connect to server pbs\n"
    assert not DRIVER.answered(printed("", rc=153, stderr=words))
    assert not DRIVER.answered(printed("", rc=1))


def test_silence_about_an_array_is_no_observation() -> None:
    """Qstat lists an id or says that it is gone: else a wrapper or a cache stands between."""
    for stdout in ("", "qstat is down for maintenance\n", row("13[].pbs", "Q")):
        with pytest.raises(BatchSystemUnavailable, match=re.escape("nothing of 12[]")):
            DRIVER.states(printed(stdout, argv=("qstat", "-t", "12[]")))


def test_lines_that_are_no_rows_are_chatter() -> None:
    """A banner, a line cut off, a sentence."""
    text = f"| 12[1] | R |\nJob 3 of 5 is R now\n{row('12[1].pbs', 'R')}12[2].pbs   mine-7f3"
    assert set(DRIVER.states(printed(text)).jobs) == {JobId("12[]", 1)}


def test_a_long_server_name_is_cut_and_no_matter_but_a_cut_id_is() -> None:
    """Qstat marks what it cuts with a star."""
    assert set(DRIVER.states(printed(row("123456[1000].pb*", "R"))).jobs) == {
        JobId("123456[]", 1000)
    }
    with pytest.raises(BatchSystemUnavailable, match="short"):
        DRIVER.states(printed(row("123456789012[100*", "R")))


# Ends


def test_a_single_job_that_failed_is_told() -> None:
    """A recorded ``qstat -xf`` of one job of an array; its comment is folded in the middle."""
    output = load(f"{VERSION}/array-finished").all("qstat")[4]
    assert DRIVER.ended(output).jobs == {
        JobId("0[]", 3): JobStatus(
            JobState.FAILED,
            node="pbsn1",
            exit_code=7,
            start=local("2026-11-22 18:32:38"),
            end=1795372367.0,
        )
    }


def test_an_arrays_own_end_is_not_its_jobs() -> None:
    """Its Exit_status stays 0 when one of them failed with 7."""
    told = {job: (each.state, each.exit_code) for job, each in ends("array-finished").items()}
    assert told == {
        f"0[]/{i}": (JobState.FAILED, 7) if i == 3 else (JobState.COMPLETED, 0)
        for i in range(1, 11)
    }


def test_every_way_to_end_is_told() -> None:
    """Walltime is -29; qdel 271; SEGV 139; PBS lost the records of 25[2-4] in a crash."""
    told = {
        job: (each.state, each.exit_code, each.signal, each.reason)
        for job, each in ends("ends").items()
    }
    ok, cancelled = (JobState.COMPLETED, 0, None, ""), (JobState.CANCELLED, None, None, "")
    timeout = (JobState.TIMEOUT, None, None, "its walltime is over (exit status -29)")
    assert told == {
        "5[]/1": cancelled,  # deleted as it waited
        "7[]/1": cancelled,  # the job it depended on is not known
        "11/1": ok,
        **{f"12[]/{i}": ok for i in range(1, 5)},
        **dict.fromkeys(("13/1", "15/1", "16/1", "17/1"), cancelled),
        "18/1": ok,
        "19/1": timeout,
        "20/1": timeout,
        "21/1": (JobState.FAILED, 139, None, ""),
        "22/1": (JobState.FAILED, 3, None, ""),
        "23/1": ok,
        "24/1": (JobState.CANCELLED, None, None, "deleted by alice@pbshead"),
        **{f"25[]/{i}": cancelled for i in range(1, 5)},
        "26/1": ok,  # used 20 times its memory: OpenPBS does not enforce it by default
        "27/1": cancelled,  # by force
        "28/1": (JobState.FAILED, 254, None, ""),
    }


def test_the_plain_listing_tells_the_same() -> None:
    """Recorded through grep, which dropped the empty lines: the last record may be cut off."""
    output = next(o for o in load(f"{VERSION}/ends").outputs if "grep" in o.command.argv)
    told = {str(job.array): each.state for job, each in DRIVER.ended(output).jobs.items()}
    same = {job.partition("/")[0]: each.state for job, each in ends("ends").items()}
    assert told == {job: state for job, state in same.items() if "[" not in job and job != "28"}


@pytest.mark.parametrize(
    ("fields", "state", "code", "signal"),
    [
        ({"Exit_status": "-27"}, JobState.OUT_OF_MEMORY, None, None),
        ({"Exit_status": "-26"}, JobState.OUT_OF_MEMORY, None, None),
        ({"Exit_status": "-4"}, JobState.NODE_FAIL, None, None),
        ({"Exit_status": "-1"}, JobState.FAILED, None, None),
        ({"Exit_status": "265"}, JobState.FAILED, None, 9),
        ({"Exit_status": "271", "substate": "91"}, JobState.CANCELLED, None, None),
        ({}, JobState.GONE, None, None),
        ({"Exit_status": "0", "exec_host": ""}, JobState.GONE, None, None),
        ({"comment": "Subjob failed"}, JobState.FAILED, None, None),
        ({"comment": "Subjob terminated"}, JobState.CANCELLED, None, None),
    ],
)
def test_ends_that_were_not_recorded(
    fields: dict[str, str], state: JobState, code: int | None, signal: int | None
) -> None:
    """Codes of the manual's table; comments that the server's source gives jobs it forgot."""
    shown = {"job_state": "F", "exec_host": "n1/0", "stime": "Sun Nov 22 18:34:48 2026", **fields}
    (status,) = DRIVER.ended(printed(record("12[1].pbs", **shown))).jobs.values()
    assert (status.state, status.exit_code, status.signal) == (state, code, signal)


def test_an_older_pbs_kills_for_the_walltime_without_a_code_of_its_own() -> None:
    """Before 20.0 the exit status was that of a signal: the time it ran tells."""
    fields = {"job_state": "F", "exec_host": "n1/0", "stime": "x", "Exit_status": "271"}
    for used, state in (("01:00:05", JobState.TIMEOUT), ("00:10:00", JobState.FAILED)):
        times = {"resources_used__walltime": used, "Resource_List__walltime": "01:00:00"}
        (status,) = DRIVER.ended(printed(record("12.pbs", **fields, **times))).jobs.values()
        assert status.state is state


def test_what_is_cut_off_is_no_end() -> None:
    """``Exit_status = 271`` cut to ``= 2`` would be another end."""
    whole = record("12.pbs", job_state="F", exec_host="n1/0", stime="x", Exit_status="271")
    for text in (whole[: whole.index("71")], whole.rstrip(), "garbage", ""):
        assert DRIVER.ended(printed(text)).jobs == {}


def test_only_ends_are_taken_from_the_history() -> None:
    """Jobs that wait, run or moved to another server are in it too."""
    for letter in "QREM":
        assert DRIVER.ended(printed(record("12.pbs", job_state=letter))).jobs == {}


def test_a_history_is_asked_for_one_array_at_a_time() -> None:
    """An unknown id makes qstat exit 153; and of several ids its JSON shows the first alone."""
    commands = [command.argv for command in DRIVER.history({"12[]", "3"})]
    assert commands == [("qstat", "-x", "-t", "-f", "12[]"), ("qstat", "-x", "-t", "-f", "3")]
    several = load(f"{VERSION}/several-ids").outputs
    assert several[0].stdout == "1\n"
    assert several[3].stdout.count("Job Id") == 3


def test_a_server_without_history_is_no_end() -> None:
    """It exits 0 and says so: documented, as the recorded server had a history."""
    output = load(f"{VERSION}/documented-server").replay(DRIVER.history({"12[]"})[0])
    assert output.returncode == 0
    assert DRIVER.ended(output).jobs == {}


# Reasons


def test_a_job_that_can_never_run_is_impossible() -> None:
    """Accepted by qsub all the same; the scheduler's comment on the array tells."""
    output = load(f"{VERSION}/pending-reasons").replay(DRIVER.why("5[]"))
    why = DRIVER.because(output)
    assert why.impossible
    assert why.reason == (
        "no node can hold what it asks for "
        "(Insufficient amount of resource: ncpus (R: 64 A: 12 T: 12))"
    )


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("Not Running: Queue not started.", "the queue is stopped (Queue not started)"),
        (
            "Not Running: Insufficient amount of resource: ncpus",
            "waiting for free resources (Insufficient amount of resource: ncpus)",
        ),
        ("Not Running: User has reached server running limit.", "a limit of the site on"),
        ("Not Running: Something new", "Something new"),
        ("Not Running", ""),
        ("Job Array Began at Sun Nov 22 at 18:33", ""),
    ],
)
def test_other_comments_are_told_in_words_or_as_they_are(comment: str, reason: str) -> None:
    """And never make a job impossible."""
    why = DRIVER.because(printed(record("12[].pbs", job_state="Q", comment=comment)))
    assert why.reason.startswith(reason)
    assert bool(why.reason) is bool(reason)
    assert not why.impossible


def test_no_answer_gives_no_reason() -> None:
    """Nor does the comment of a job that runs or has ended."""
    assert DRIVER.because(printed("", rc=255)).reason == ""
    ended = load(f"{VERSION}/pending-reasons").outputs[0]
    assert DRIVER.because(ended).reason == ""


# Cancelling


def test_a_qdel_takes_one_id_or_one_range() -> None:
    """Several ids, the last unknown, crashed a server; "12[1,3]" is refused by qdel itself."""
    jobs = [JobId("80[]", i) for i in (1, 2)] + [JobId("97[]", i) for i in (4, 1, 2, 3, 7)]
    commands = DRIVER.cancel([*jobs, JobId("9", 1)], {"80[]": 2, "97[]": 10, "9": 1})
    assert [command.argv for command in commands] == [
        ("qdel", "80[]"),
        ("qdel", "97[1-4]"),
        ("qdel", "97[7]"),
        ("qdel", "9"),
    ]
    recorded = load(f"{VERSION}/cancel").outputs
    crash = next(o for o in recorded if "99999;" in o.command.argv)
    after = recorded[recorded.index(crash) + 1]
    assert crash.stdout == "rc=0\n"
    assert DRIVER.is_transient(after)


def test_what_qdel_does_not_know_is_no_error() -> None:
    """Unknown and finished jobs; but neither a wrong id nor a server that is not there."""
    outputs = load(f"{VERSION}/cancel").all("qdel")
    assert [DRIVER.cancelled(output) for output in outputs[:7]] == [
        True,
        True,
        True,
        False,
        True,
        True,
        False,
    ]


# Failures, limits, versions


def test_a_server_that_is_down_is_transient() -> None:
    """Another host's name, and the machine whose server had crashed."""
    for output in load(f"{VERSION}/server-down").outputs:
        assert DRIVER.is_transient(output)
        assert not DRIVER.answered(replace(output, returncode=255))


@pytest.mark.parametrize(
    ("config", "limit"),
    [("    max_array_size = 10000\n", 1000), ("    max_array_size = 0\n", 1), ("", 1000)],
)
def test_an_array_is_never_larger_than_a_listing_can_be(config: str, limit: int) -> None:
    """The full listing of 10,000 jobs is over 10 MB."""
    assert DRIVER.array_limit(printed(config)) == limit
    server = load(f"{VERSION}/documented-server").replay(DRIVER.limits())
    assert DRIVER.array_limit(server) == 500


def test_pbs_is_told_from_torque_by_its_version() -> None:
    """Their programs have the same names."""
    for name, kind in ((VERSION, PBS), ("torque/master-34ff845", Torque)):
        seen = load(f"{name}/version").outputs[0]
        assert seen.command.argv == PBS.version.argv
        text = seen.stdout + seen.stderr
        assert recognise(kind, text) == name.partition("/")[2].partition("-")[0]
        assert not recognise(Torque if kind is PBS else PBS, text)


def test_ten_thousand_jobs_are_read_in_one_go() -> None:
    """One query a tick for 10,000 jobs must not hold up the scheduler's event loop."""
    text = "".join(row(f"97[{i}].pbshead", "R") for i in range(1, 10_001))
    start = time.perf_counter()
    jobs = DRIVER.states(printed(text)).jobs
    print(f"10,000 jobs read in {time.perf_counter() - start:.3f} s from {len(text)} bytes")
    assert len(jobs) == 10_000
