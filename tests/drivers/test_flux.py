"""What the Flux driver writes, and what it reads in output recorded from Flux 0.88.

The jobs recorded have names without an index: tests that need one add it, and say so.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.flux import Flux
from dask_hpc.drivers.registry import DRIVERS, recognise
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

from .replay import load

FLUX = Flux()
VERSION = "flux/0.88.0"
LOGS = Path("/home/alice/my {logs}/100%$J")
SPEC = JobSpec(
    command=("/opt/env/bin/dask-worker", "--name", WORKER_PREFIX), cores=4, log_directory=LOGS
)
FULL = replace(
    SPEC,
    command=(*SPEC.command, "it's $HOME"),
    cores=16,
    memory=32 * 10**9,
    nodes=2,
    gpus=1,
    walltime=90000,
    queue="main",
    account="123",
    directives=("--requires=host:fn0", "--begin-time='in an hour'"),
    directives_skip=("--queue",),
    prologue=("module load python",),
    epilogue=("rm -rf $SCRATCH/mine",),
    environment=(("OMP_NUM_THREADS", "1"), ("GREETING", "a b")),
)


def printed(stdout: str, *, rc: int = 0, stderr: str = "") -> Output:
    return Output(Command(("flux",)), rc, stdout, stderr)


def listed(*jobs: dict[str, Any]) -> Output:
    return printed(json.dumps({"jobs": jobs}) + "\n")


def recorded_ends() -> dict[str, dict[str, Any]]:
    """The recorded object of each ended job, by its name, which here gets the index 0."""
    lines = load(f"{VERSION}/ends").outputs[1].stdout.splitlines()
    return {job["name"]: {**job, "name": f"{job['name']}-0"} for job in map(json.loads, lines)}


# What it writes


def test_the_script_requests_everything_the_spec_says() -> None:
    """Each field but memory becomes one directive; a bank called 123 stays a text."""
    assert job_script(FULL, FLUX) == (
        """\
#!/usr/bin/env bash
#flux: --nodes=2
#flux: --ntasks=2
#flux: --cores-per-task=16
#flux: --gpus-per-task=1
#flux: --time-limit=90000s
#flux: --setattr='bank="123"'
#flux: --setopt=exit-timeout=none
#flux: --signal=USR1@60s
#flux: --requires=host:fn0
#flux: --begin-time='in an hour'

exec >>'/home/alice/my {logs}/100%$J/'"${DASK_HPC_JOB}-${FLUX_JOB_CC}".log 2>&1
export DASK_HPC_WARNING=USR1@60
export OMP_NUM_THREADS=1
export GREETING='a b'
module load python
/opt/env/bin/dask-worker --name "${DASK_HPC_JOB}-${FLUX_JOB_CC}" 'it'"'"'s $HOME' &
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
    """What the spec leaves open stays the site's default; the log is opened by the script."""
    assert job_script(SPEC, FLUX) == (
        """\
#!/usr/bin/env bash
#flux: --ntasks=1
#flux: --cores-per-task=4

exec >>'/home/alice/my {logs}/100%$J/'"${DASK_HPC_JOB}-${FLUX_JOB_CC}".log 2>&1
exec /opt/env/bin/dask-worker --name "${DASK_HPC_JOB}-${FLUX_JOB_CC}"
"""
    )


def test_the_script_finds_its_log_whatever_the_directory_is_called(tmp_path: Path) -> None:
    """Braces, blanks, percent and dollar signs are literal: no option of Flux sees them."""
    logs = tmp_path / "my {{id}} {cc} 100%J $HOME"
    logs.mkdir()
    script = tmp_path / "job.sh"
    spec = replace(SPEC, command=("printf", "%s", WORKER_PREFIX), log_directory=logs)
    script.write_text(job_script(spec, FLUX))
    environment = {"DASK_HPC_JOB": "mine-7f3a", "FLUX_JOB_CC": "3", "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", script], env=environment, check=True)
    assert (logs / "mine-7f3a-3.log").read_text() == "mine-7f3a-3"


@pytest.mark.parametrize("value", ["true", "True", "1", "yes"])
def test_exclusive_nodes_are_an_option(value: str) -> None:
    """Flux takes --exclusive only beside --nodes."""
    lines = FLUX.directives(replace(SPEC, options={"exclusive": value}))
    assert lines == ("--nodes=1", "--ntasks=1", "--cores-per-task=4", "--exclusive")
    assert "--exclusive" not in FLUX.directives(replace(SPEC, options={"exclusive": "false"}))


def test_submit_repeats_the_directives_as_arguments() -> None:
    """Flux submit reads none in the script; ours come last, so that nothing renames a job."""
    command = FLUX.submit(Submission("mine-7f3a", 10), FULL, Path("/c/my dir/job.sh"))
    assert command.argv == (
        "flux",
        "submit",
        "--nodes=2",
        "--ntasks=2",
        "--cores-per-task=16",
        "--gpus-per-task=1",
        "--time-limit=90000s",
        '--setattr=bank="123"',
        "--setopt=exit-timeout=none",
        "--signal=USR1@60s",
        "--requires=host:fn0",
        "--begin-time=in an hour",
        "--cc=0-9",
        "--job-name=mine-7f3a-{cc}",
        "--env=DASK_HPC_JOB=mine-7f3a",
        "/usr/bin/env",
        "bash",
        "/c/my dir/job.sh",
    )


def test_a_queue_with_odd_letters_stays_one_argument() -> None:
    """Directives are lines of words, quoted as a shell reads them."""
    spec = replace(SPEC, queue="my queue's", account='a "b')
    assert FLUX.submit(Submission("m", 1), spec, Path("j")).argv[4:6] == (
        "--queue=my queue's",
        '--setattr=bank="a \\"b"',
    )


def test_a_users_formats_are_kept_from_the_commands() -> None:
    """The address of the broker stays."""
    users = {"FLUX_JOBS_FORMAT_DEFAULT": "cute", "FLUX_HANDLE_TRACE": "1"}
    kept = {"FLUX_URI": "local:///run/flux/local", "FLUX_JOB_CC": "3", "PATH": "/bin"}
    commands = (
        FLUX.submit(Submission("m", 1), SPEC, Path("job.sh")),
        FLUX.query({"m": None}),
        *FLUX.cancel([JobId("m", 0)], {}),
        *FLUX.history(["m"]),
    )
    for command in commands:
        assert command.environment(users | kept) == kept


def test_one_query_lists_this_users_jobs() -> None:
    """Whether ids are known or not; history goes further back than an hour."""
    common = ("flux", "jobs", "--json", "--count=100000")
    assert FLUX.query({"a": "a", "b": None}).argv == (*common, "--since=-1h")
    assert [command.argv for command in FLUX.history(["a"])] == [(*common, "-a")]


def test_one_command_cancels_any_jobs_by_their_names() -> None:
    """The pattern is a regular expression that matches whole names: flux-pgrep(1)."""
    jobs = [JobId("a.b-1", 0), JobId("a.b-1", 1), *(JobId("c-2", i) for i in (12, 0, 3))]
    [command] = FLUX.cancel(jobs, {"a.b-1": 2, "c-2": 20})
    assert command.argv[:3] == ("flux", "pkill", "--max-entries=100000")
    pattern = command.argv[3].removeprefix("name:")
    assert command.argv[3] != pattern  # or "1..2" would be a range of ids
    meant = {"a.b-1-0", "a.b-1-1", "c-2-0", "c-2-3", "c-2-12"}
    others = {"aXb-1-0", "c-2-1", "c-2-120", "xc-2-0", "c-2-0x", "a.b-1-0-0", "a.b-1-", "c-2"}
    assert {name for name in meant | others if re.search(pattern, name)} == meant


# Ids


def submission(stdout: str = "", *, rc: int = 0, stderr: str = "") -> Output:
    command = FLUX.submit(Submission("mine-7f3a", 2), SPEC, Path("/c/job.sh"))
    return Output(command, rc, stdout, stderr)


@pytest.mark.parametrize(
    "stdout",
    ["ƒKnYVC3H\nƒKnbTAby\n", "fKnYVC3H\nfKnbTAby\n", "Welcome!\nfn0 is down\nƒKnYVC3H\r\nBye\n"],
)
def test_an_array_is_called_by_its_name(stdout: str) -> None:
    """The ids of the copies prove that they are there; ASCII locales write another f."""
    assert FLUX.submitted(submission(stdout.replace("\r", ""))) == "mine-7f3a"


@pytest.mark.parametrize("stdout", ["", "Welcome\n", "12345\n", "ƒ0OIl\n", "id ƒKnYVC3H\n"])
def test_without_an_id_nothing_is_taken_for_submitted(stdout: str) -> None:
    """The submission is in doubt and looked for by its name."""
    with pytest.raises(BatchSystemError, match="no job id") as caught:
        FLUX.submitted(submission(stdout))
    assert not isinstance(caught.value, SubmitRejected)


@pytest.mark.parametrize(("rc", "stderr"), [(-9, ""), (-15, "Welcome\n"), (1, "")])
def test_a_submit_command_that_was_killed_refuses_nothing(rc: int, stderr: str) -> None:
    """Its copies may be there: in doubt, too."""
    with pytest.raises(BatchSystemError, match="no job id") as caught:
        FLUX.submitted(submission(rc=rc, stderr=stderr))
    assert not isinstance(caught.value, SubmitRejected)


def test_recorded_copies_print_an_id_each() -> None:
    """Ten lines for --cc=1-10, each with a letter outside ASCII."""
    copies = load(f"{VERSION}/submit-array").outputs[0]
    assert len(copies.stdout.split()) == 10
    assert FLUX.submitted(submission(copies.stdout)) == "mine-7f3a"


def test_copies_that_run_beside_refused_ones_are_not_forgotten() -> None:
    """Documented, not recorded: each copy is a submission of its own; none is refused for all."""
    partly, refused = load(f"{VERSION}/documented-partly").outputs
    assert FLUX.submitted(partly) == "mine-7f3a"
    with pytest.raises(SubmitRejected) as caught:
        FLUX.submitted(refused)
    assert caught.value.args[0] == (
        "flux submit refused the job: [Errno 75] unsatisfiable request: need 640 slot(s) of 1 "
        "core(s), only 12 such slot(s) available (total cores: 12)"
    )


def test_a_refusal_repeats_fluxs_own_words_with_what_to_do_next() -> None:
    """Requests that can never run are refused up front; none is taken for a passing failure."""
    nodes = "`flux resource list` shows the cores and GPUs of the nodes"
    limits = "`flux queue list` shows the queues' limits"
    said = {}
    for output in load(f"{VERSION}/submit-refused").outputs:
        if output.returncode == 0:
            continue
        assert not FLUX.is_transient(output)
        with pytest.raises(SubmitRejected) as caught:
            FLUX.submitted(output)
        said[caught.value.args[0].removeprefix("flux submit refused the job: ")] = caught.value.hint
    assert said == {
        "[Errno 1] Invalid queue 'nosuch' specified": (
            "`flux queue list` lists the queues; use queue="
        ),
        "invalid Flux standard duration": "",
        "[Errno 22] requested duration (4.1d) exceeds policy limit of 10m for queue short": limits,
        "[Errno 22] requested ncores (8) exceeds policy limit of 4 for queue short": limits,
        "[Errno 75] unsatisfiable request: need 640 slot(s) of 1 core(s), only 12 such slot(s) "
        "available (total cores: 12)": nodes,
        "[Errno 75] unsatisfiable request: need 64 exclusive node(s), only 3 eligible": nodes,
        "[Errno 22] dependency: afterok: id f123: job not found": "",
        "[Errno 1] invalid jobspec: host constraint contains invalid hosts: host 'nosuch' not "
        "found": "",
        "job command and arguments are missing": "",
    }


# States


def test_every_recorded_end_is_told_apart() -> None:
    """TIMEOUT has 142 and CANCELED 143 for codes, which are Flux's own signals, not the job's."""
    jobs = FLUX.states(listed(*recorded_ends().values()))
    told = {job.array: status for job, status in jobs.jobs.items()}
    assert jobs.names == {name: name for name in told}
    plain = {
        name: (each.state, each.reason, each.exit_code, each.signal) for name, each in told.items()
    }
    over = "its walltime is over (resource allocation expired)"
    assert plain == {
        "wall": (JobState.TIMEOUT, over, None, None),
        "wallhard": (JobState.TIMEOUT, over, None, None),
        "longrun": (JobState.CANCELLED, "", None, None),
        "ex3": (JobState.FAILED, "", 3, None),
        "sig": (JobState.FAILED, "", None, 11),
        "outbad": (
            JobState.FAILED,
            "it could not be started (shell_init: No such file or directory)",
            1,
            None,
        ),
        "dep": (
            JobState.FAILED,
            (
                "the job it depends on failed "
                "(dependency after-success=ƒhQ31xbH can never be satisfied)"
            ),
            1,
            None,
        ),
    }
    assert (told["wall"].node, told["wall"].start, told["wall"].end) == (
        "fn0",
        1795374470.7402854,
        1795374475.7495465,
    )
    assert (told["dep"].node, told["dep"].start) == ("", None)


def test_recorded_jobs_that_wait_say_why() -> None:
    """Urgency 0 is a hold; begin times are dependencies, too. The recording shows some keys."""
    recorded = load(f"{VERSION}/pending-reasons").outputs[-1].stdout.splitlines()
    jobs = [ast.literal_eval(line) for line in recorded]
    listing = FLUX.states(listed(*({**job, "name": f"{job['name']}-0"} for job in jobs)))
    told = {job.array: (status.state, status.reason) for job, status in listing.jobs.items()}
    assert told == {
        "full": (JobState.PENDING, ""),
        "held": (JobState.HELD, "held: flux job urgency ID default"),
        "wait": (JobState.PENDING, "waits for begin@20:07:52"),
        "dep": (JobState.PENDING, "waits for after-success=ƒhQ31xbH"),
        "arrdel": (JobState.RUNNING, ""),
        "longrun": (JobState.RUNNING, ""),
    }
    assert not any(status.impossible for status in listing.jobs.values())


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", JobState.PENDING),
        ("DEPEND", JobState.PENDING),
        ("PRIORITY", JobState.PENDING),
        ("SCHED", JobState.PENDING),
        ("RUN", JobState.RUNNING),
        ("CLEANUP", JobState.ENDING),
        ("COMPLETED", JobState.COMPLETED),
        ("FAILED", JobState.FAILED),
        ("CANCELED", JobState.CANCELLED),
        ("TIMEOUT", JobState.TIMEOUT),
        ("TELEPORTING", JobState.RUNNING),
    ],
)
def test_every_status_is_known_and_a_new_one_is_not_an_end(status: str, state: JobState) -> None:
    """A Flux newer than the table must not make us start jobs again."""
    job = {"name": "m-1-3", "status": status, "exception": {"occurred": False}}
    reason = "waits for its priority: the bank's limits, perhaps" if status == "PRIORITY" else ""
    assert FLUX.states(listed(job)).jobs == {JobId("m-1", 3): JobStatus(state, reason)}


def test_an_estimate_of_the_start_is_told() -> None:
    """Recorded in the JSON of a waiting job; nodes are none yet."""
    text = load(f"{VERSION}/array-running").outputs[0].stdout
    first = json.loads(text[text.index("[") + 1 : text.index("}, {") + 1])
    assert first["annotations"] == {"sched": {"t_estimate": 1795374722.7377436}}
    (status,) = FLUX.states(listed({**first, "name": "true-0"})).jobs.values()
    assert status == JobStatus(JobState.PENDING, start=1795374722.7377436)


@pytest.mark.parametrize(
    ("exception", "state", "reason"),
    [
        (
            {"type": "node-failure", "note": "node failure on elcap8767 (shell rank 1127)"},
            JobState.NODE_FAIL,
            "its node failed (node failure on elcap8767 (shell rank 1127))",
        ),
        (
            {"type": "alloc", "note": "unsatisfiable request"},
            JobState.FAILED,
            "it can never get what it asks for (unsatisfiable request)",
        ),
        ({"type": "new", "note": ""}, JobState.FAILED, "exception new"),
    ],
)
def test_exceptions_tell_whose_fault_an_end_was(
    exception: dict[str, str], state: JobState, reason: str
) -> None:
    """Documented, not recorded: the node's failure as of flux-core's issue 6653."""
    job = {"name": "m-0", "status": "FAILED", "exception": {"occurred": True, **exception}}
    (status,) = FLUX.states(listed({**job, "nodelist": "elcap[8767-8770,9000]"})).jobs.values()
    assert status == JobStatus(state, reason, "elcap8767")


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"),
    [(0, 0, None), (7, 7, None), (137, None, 9), (255, 255, None), (-9, None, 9), ("", None, None)],
)
def test_exit_codes_above_128_are_signals(
    code: object, exit_code: int | None, signal: int | None
) -> None:
    """flux-submit(1), EXIT STATUS; negative where the job's shell was killed itself."""
    job = {"name": "m-0", "status": "FAILED", "returncode": code}
    (status,) = FLUX.states(listed(job)).jobs.values()
    assert (status.exit_code, status.signal) == (exit_code, signal)


def test_names_of_other_jobs_and_odd_records_are_left_out() -> None:
    """Whatever else the user runs; an index is a number without leading zeros."""
    odd: list[Any] = [
        {"name": n, "status": "RUN"} for n in ("hostname", "m-", "-3", "m-01", "m 1-2")
    ]
    odd += [{"name": "m-1"}, {"status": "RUN"}, {"name": "m-1", "status": 3}, "text", None]
    assert FLUX.states(listed(*odd, {"name": "m-2", "status": "RUN"})).jobs == {
        JobId("m", 2): JobStatus(JobState.RUNNING)
    }


def test_a_listing_that_was_cut_off_is_no_answer() -> None:
    """Two recordings cut by head, every cut of a whole one, and anything that is no JSON."""
    recorded = [
        load(f"{VERSION}/{name}").outputs[0] for name in ("array-running", "array-finished")
    ]
    whole = listed({"name": "m-0", "status": "RUN"}).stdout.rstrip()
    texts = [each.stdout for each in recorded] + [whole[:cut] for cut in range(len(whole))]
    for text in [*texts, "Welcome\n", "[]", '{"jobs": 3}', "{}", "null"]:
        with pytest.raises(BatchSystemUnavailable, match="no list of jobs"):
            FLUX.states(printed(text))


def test_a_wrapper_may_print_around_the_listing() -> None:
    """Before and after."""
    text = listed({"name": "m-0", "status": "RUN"}).stdout
    assert set(FLUX.states(printed(f"Welcome {{you}}\n{text}Bye {{}}\n")).jobs) == {JobId("m", 0)}


def test_a_listing_that_leaves_jobs_out_is_no_answer() -> None:
    """Recorded: more jobs than --count end in a warning and exit 0."""
    (short,) = (
        o for o in load(f"{VERSION}/array-running").outputs if "--count=3" in o.command.argv
    )
    assert short.returncode == 0
    with pytest.raises(BatchSystemUnavailable, match="left jobs out"):
        FLUX.states(replace(short, stdout='{"jobs": []}'))


def test_history_tells_ends_only() -> None:
    """The same listing, without a limit of time; one that cannot be read is no news."""
    running = {"name": "wall-1", "status": "RUN"}
    ended = FLUX.ended(listed(running, *recorded_ends().values()))
    assert FLUX.ended(printed('{"jobs": 3}\n')).jobs == {}
    assert JobId("wall", 0) in ended.jobs
    assert JobId("wall", 1) not in ended.jobs


# Cancelling, failures, versions


def test_jobs_that_are_gone_are_no_error_to_cancel() -> None:
    """Documented, not recorded: without a match flux pkill exits 1; others' jobs are an error."""
    told = [FLUX.cancelled(output) for output in load(f"{VERSION}/documented-cancel").outputs]
    assert told == [True, True, False]


def test_recorded_words_of_cancelling_are_understood() -> None:
    """Of jobs that ended or never were, and of one that was cancelled."""
    for output in load(f"{VERSION}/cancel").outputs:
        text = replace(output, stdout="", returncode=1)
        assert FLUX.cancelled(text) is (
            "Do not specify" not in text.text and "Would" not in text.text
        )
    assert not FLUX.cancelled(printed("", rc=2))


def test_a_broker_that_is_not_there_is_transient() -> None:
    """Recorded; an unknown id or filter is not."""
    for output in load(f"{VERSION}/unknown").outputs:
        down = output.command.argv[0].startswith("FLUX_URI=")
        assert FLUX.is_transient(output) is down
        assert not FLUX.answered(output)


def test_other_programs_called_flux_are_not_taken_for_it() -> None:
    """Flux CD's command prints its version in another way."""
    seen = load(f"{VERSION}/version").replay(FLUX.version)
    assert recognise(Flux, seen.text) == "0.88.0-59-g4a5e79f56"
    assert recognise(Flux, "flux: v2.3.0\nhelm-controller: v1.0.1\n") == ""
    assert DRIVERS["flux"] is Flux


def test_ten_thousand_jobs_are_read_in_one_go() -> None:
    """One query a tick for 10,000 jobs must not hold up the scheduler's event loop."""
    job = recorded_ends()["wall"]
    output = listed(*({**job, "name": f"mine-{i}"} for i in range(10_000)))
    start = time.perf_counter()
    jobs = FLUX.states(output).jobs
    print(f"10,000 jobs read in {time.perf_counter() - start:.3f} s")
    assert len(jobs) == 10_000
