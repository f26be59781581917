"""What the TORQUE driver writes, and what it reads in output recorded from its master of 2020.

What it shares with PBS is tested there.  ``qstat -t -f ID[]`` was not recorded: ``qstat -t ID[]``,
which lists the same jobs, and ``qstat -f ID[3]``, which gives the same record, were.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.drivers.torque import Torque
from dask_hpc.errors import SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

DRIVER = Torque()
VERSION = "torque/master-34ff845"
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX),
    cores=4,
    log_directory=Path("/home/alice/logs"),
)


def printed(stdout: str, *, rc: int = 0, stderr: str = "") -> Output:
    return Output(Command(("qstat",)), rc, stdout, stderr)


def local(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def record(**fields: str) -> Output:
    lines = "".join(f"    {name} = {value}\n" for name, value in fields.items())
    return printed(f"Job Id: 2[3].tqhead\n{lines}\n")


# What it writes


def test_the_script_requests_everything_the_spec_says() -> None:
    """Memory is of the whole job; PBS_JOBNAME in job 3 of an array already ends in -3."""
    spec = replace(
        SPEC,
        cores=16,
        memory=4 * 2**30,
        nodes=2,
        gpus=1,
        walltime=90000,
        queue="batch",
        account="lab",
        directives=("-l vmem=9gb",),
        epilogue=("rm -rf $SCRATCH/mine",),
    )
    assert (
        job_script(spec, DRIVER)
        == """\
#!/usr/bin/env bash
#PBS -l nodes=2:ppn=16:gpus=1
#PBS -l mem=8192mb
#PBS -f
#PBS -l walltime=25:00:00
#PBS -q batch
#PBS -A lab
#PBS -S /bin/bash
#PBS -l vmem=9gb

exec >>/home/alice/logs/"${PBS_JOBNAME%-$PBS_ARRAYID}-${PBS_ARRAYID:-1}".log 2>&1
/opt/env/bin/dask-worker --name "${PBS_JOBNAME%-$PBS_ARRAYID}-${PBS_ARRAYID:-1}" &
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


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"PBS_JOBNAME": "mine-7f3a-12", "PBS_ARRAYID": "12"}, "mine-7f3a-12"),
        ({"PBS_JOBNAME": "mine-7f3a"}, "mine-7f3a-1"),
    ],
)
def test_a_job_knows_its_name_in_an_array_and_alone(environment: dict[str, str], name: str) -> None:
    """The jobs of an array are named NAME-INDEX by TORQUE itself (recorded: tqarr-3)."""
    argv = ["/bin/sh", "-c", f'echo "{DRIVER.worker_prefix}"']
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{name}\n"


def test_a_resource_spec_replaces_what_is_requested() -> None:
    """A site may want vmem, pmem or properties instead."""
    spec = replace(SPEC, memory=2**30, options={"resource_spec": "nodes=1:ppn=24,vmem=9gb"})
    assert DRIVER.directives(spec) == ("-l nodes=1:ppn=24,vmem=9gb", "-S /bin/bash")


def test_submit_makes_an_array_that_starts_at_one() -> None:
    """-J is something else here; a job alone needs no array."""
    command = DRIVER.submit(Submission("mine-7f3a", 10, 1), SPEC, Path("/c/job.sh"))
    assert command.argv == (
        "qsub",
        "-C",
        "#PBS",
        "-N",
        "mine-7f3a",
        "-t",
        "1-10",
        "-j",
        "oe",
        "-o",
        "/dev/null",
        "/c/job.sh",
    )
    assert "-t" not in DRIVER.submit(Submission("m", 1, 1), SPEC, Path("job.sh")).argv


def test_an_array_that_would_swamp_the_server_is_never_submitted() -> None:
    """Recorded: 200,000 jobs are accepted and made one by one; 5-1 kills the server."""
    assert load(f"{VERSION}/array-swamped").outputs[0].returncode == 0
    assert "End of File" in load(f"{VERSION}/server-crashed").outputs[0].stderr
    with pytest.raises(SubmitRejected, match="down"):
        DRIVER.submit(Submission("m", 251, 1), SPEC, Path("job.sh"))
    assert DRIVER.array_limit(printed("    max_job_array_size = 100\n")) == 100
    assert DRIVER.array_limit(printed("")) == 250


def test_recorded_submissions_give_their_ids() -> None:
    """Of arrays, and of one job."""
    outputs = load(f"{VERSION}/submit-array").all("qsub")
    assert [DRIVER.submitted(output) for output in outputs] == ["2[]", "3[]", "23"]


def test_a_refusal_repeats_torques_own_words() -> None:
    """What no node can hold is refused, not kept waiting."""
    said = []
    for output in load(f"{VERSION}/submit-refused").outputs:
        assert not DRIVER.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            DRIVER.submitted(output)
        words = caught.value.args[0].removeprefix("qsub refused the job: ")
        said.append((words[:60], bool(caught.value.hint)))
    assert said == [
        ("submit error (Unknown queue MSG=requested queue not found)", True),
        ("submit error (Queue is not enabled MSG=queue is disabled: us", True),
        ("submit error (Illegal attribute or resource value for Resour", True),
        ("submit error (Job exceeds queue resource limits MSG=cannot s", True),
        ("submit error (Job exceeds queue resource limits MSG=cannot l", True),
        ("submit error (Job exceeds queue resource limits MSG=cannot l", True),
        ("submit error (Job exceeds queue resource limits MSG=cannot l", True),
        ("submit error (Unknown resource type  Resource_List.nosuchres", True),
        ("script file 'nosuchfile.sh' cannot be loaded - No such file ", False),
        ("[qsub: illegal -N value]", True),
        ("[The -J option can only be used in conjunction with -P]", False),
        ("submit error (Invalid Job Dependency)", False),
        ("submit error (Bad Job Array Request)", True),
    ]


# Listings


def test_arrays_are_listed_with_t_or_everything_is() -> None:
    """Recorded: ``qstat '2[]'`` lists all jobs of all users, ``qstat -t '2[]'`` the array's."""
    seen = load(f"{VERSION}/array-finished")
    assert "slots" in seen.replay(Command(("qstat", "2[]"))).stdout
    command = DRIVER.query({"tqarr": "2[]"})
    output = seen.replay(command)
    assert "slots" not in output.stdout
    assert DRIVER.states(output).jobs == {}  # all completed: the history tells how


def test_each_job_of_an_array_is_listed() -> None:
    """Completed ones are left to the history; over its array's slot limit a job is held."""
    output = load(f"{VERSION}/array-running").replay(Command(("qstat", "-t")))
    jobs = {
        f"{job.array}/{job.index}": each.state for job, each in DRIVER.states(output).jobs.items()
    }
    assert jobs == {
        "2[]/1": JobState.RUNNING,
        "2[]/2": JobState.RUNNING,
        "3[]/7": JobState.RUNNING,
        "3[]/8": JobState.RUNNING,
        "3[]/9": JobState.HELD,
    }


@pytest.mark.parametrize(("letter", "state"), [*DRIVER.STATES.items(), ("Z", JobState.RUNNING)])
def test_every_state_of_the_manual_is_known(letter: str, state: JobState) -> None:
    """A state of a newer TORQUE is not an end."""
    line = f"2[1].tqhead                tqarr-1          alice           00:00:00 {letter} batch\n"
    jobs = DRIVER.states(printed(line)).jobs
    if state is JobState.GONE:
        assert jobs == {}
    else:
        assert jobs[JobId("2[]", 1)].state is state


def test_a_lost_submission_is_found_by_the_name_of_its_first_job() -> None:
    """An array has no name of its own for qselect; recorded: ``qselect -N arrdel-1``."""
    command = DRIVER.query({"arrdel": None, "slots": "3[]"})
    assert command.argv[3:] == ("qstat", "3[]", "--", "arrdel", "arrdel-1")
    (output,) = load(f"{VERSION}/documented-finding").outputs
    listing = DRIVER.states(output)
    assert listing.names == {"arrdel": "21[]"}
    assert set(listing.jobs) == {JobId("21[]", 1)}
    assert load(f"{VERSION}/cancel").replay(Command(("qselect", "-N", "arrdel-1"))).stdout == (
        "21[1].tqhead\n"
    )


def test_unknown_ids_are_an_answer_and_others_failures_are_not() -> None:
    """Exit 153; an unknown queue is 172."""
    outputs = {o.command.argv: o for o in load(f"{VERSION}/unknown").all("qstat")}
    assert DRIVER.answered(outputs["qstat", "99999"])
    assert not DRIVER.answered(outputs["qstat", "nosuch"])


def test_a_server_that_crashed_is_transient_and_no_answer() -> None:
    """The submission that killed it is in doubt, not refused."""
    outputs = load(f"{VERSION}/server-crashed").outputs
    assert {output.returncode for output in outputs} == {67, 111, 162}
    for output in outputs:
        assert DRIVER.is_transient(output), output
        assert not DRIVER.answered(output)


# Ends


def test_the_end_of_one_job_of_an_array_is_told() -> None:
    """The recorded record of ``2[3]``."""
    output = load(f"{VERSION}/array-finished").replay(Command(("qstat", "-f", "2[3]")))
    assert DRIVER.ended(output).jobs == {
        JobId("2[]", 3): JobStatus(
            JobState.FAILED,
            node="tqn2",
            exit_code=7,
            start=local("2026-11-22 18:55:12"),
            end=local("2026-11-22 18:55:20"),
        )
    }


def test_every_recorded_end_is_told() -> None:
    """Through grep, which dropped start_time: it stands for the time on the node here."""
    output = next(o for o in load(f"{VERSION}/ends").outputs if "grep" in o.command.argv)
    started = output.stdout.replace("    resources_used.walltime = ", "    start_time = ")
    jobs = DRIVER.ended(replace(output, stdout=started + "\n")).jobs
    told = {job.array: (each.state, each.exit_code, each.reason) for job, each in jobs.items()}
    ok, cancelled = (JobState.COMPLETED, 0, ""), (JobState.CANCELLED, None, "")
    timeout = (JobState.TIMEOUT, None, "its walltime is over (exit status -11)")
    assert told == {
        "1": ok,
        "14": ok,
        "15": timeout,
        "16": timeout,
        "17": (JobState.FAILED, 139, ""),
        "18": (JobState.FAILED, 3, ""),
        "19": ok,
        "20": cancelled,  # qdel as it ran: 271
        "22": (JobState.FAILED, 1, ""),  # malloc failed under vmem: no code of TORQUE's
        **dict.fromkeys(("23", "24", "25", "26"), cancelled),  # before they began
        "27": (
            JobState.CANCELLED,
            None,
            "Job deleted as result of dependency on job 20.tqhead",
        ),
    }


@pytest.mark.parametrize(
    ("exit_status", "state", "signal"),
    [
        ("-10", JobState.OUT_OF_MEMORY, None),
        ("-4", JobState.NODE_FAIL, None),
        ("-12", JobState.FAILED, None),
        ("-1", JobState.FAILED, None),
        ("265", JobState.FAILED, 9),
        ("", JobState.GONE, None),
        ("271", JobState.CANCELLED, None),
    ],
)
def test_ends_that_were_not_recorded(exit_status: str, state: JobState, signal: int | None) -> None:
    """TORQUE's own codes, by the table of its Administrator Guide."""
    began = {"job_state": "C", "start_time": "Sun Nov 22 18:55:12 2026"}
    (status,) = DRIVER.ended(record(**began, exit_status=exit_status)).jobs.values()
    assert (status.state, status.signal) == (state, signal)


def test_the_full_listing_of_an_array_is_its_history() -> None:
    """While completed jobs stay: keep_completed seconds. -x is XML here, and -F unknown."""
    assert [command.argv for command in DRIVER.history({"2[]"})] == [("qstat", "-t", "-f", "2[]")]
    refused = load(f"{VERSION}/array-running").replay(Command(("qstat", "-f", "-F", "json")))
    assert refused.returncode == 2


def test_the_comment_of_a_waiting_job_tells_why() -> None:
    """Under Moab and Maui there is none."""
    output = next(o for o in load(f"{VERSION}/pending-reasons").outputs if "grep" in o.command.argv)
    assert "comment = Not Running: Queue not started." in output.stdout
    why = DRIVER.because(output)
    assert why.reason == "the queue is stopped (Queue not started)"
    assert not why.impossible
    assert DRIVER.why("2[]").argv == ("qstat", "-t", "-f", "2[]")
    assert DRIVER.because(record(job_state="Q")).reason == ""


# Cancelling


def test_parts_of_an_array_are_cancelled_by_one_command() -> None:
    """Recorded: ``qdel -t 3-4 '21[]'``."""
    jobs = [JobId("80[]", i) for i in (1, 2)] + [JobId("97[]", i) for i in (4, 1, 2, 3, 7)]
    commands = DRIVER.cancel([*jobs, JobId("9", 1)], {"80[]": 2, "97[]": 10, "9": 1})
    assert [command.argv for command in commands] == [
        ("qdel", "80[]"),
        ("qdel", "-t", "1-4,7", "97[]"),
        ("qdel", "9"),
    ]


def test_what_qdel_does_not_know_is_no_error() -> None:
    """Unknown and completed jobs; a wrong id is one."""
    outputs = {o.command.argv[1:]: o for o in load(f"{VERSION}/unknown").all("qdel")}
    assert {argv: DRIVER.cancelled(output) for argv, output in outputs.items()} == {
        ("99999",): True,
        ("99999.tqhead",): True,
        ("99999[]",): True,
        ("notanid",): False,
        ("1.tqhead",): True,
        ("1.tqhead", "99999", "notanid"): False,
    }
