"""The embedded batch system as a user's processes see it: real commands, real jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dask_hpc.batch import local, local_book, local_directory, local_state
from dask_hpc.batch.local_book import Book
from dask_hpc.batch.local_state import Job, State, Verb
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.local import Local
from dask_hpc.drivers.script import WORKER_PREFIX, job_script
from dask_hpc.errors import BatchSystemError
from dask_hpc.model.job import JobId, JobSpec, JobState, Submission
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

GATED = 'until [ -e "gate-$LOCAL_ARRAY_TASK_ID" ]; do sleep 0.02; done'
CONFIDENTIAL = "value-of-the-submitter"


@dataclass
class Batch:
    """The commands, with a state directory of their own, in a working directory of their own."""

    work: Path

    @property
    def directory(self) -> Path:
        return self.work / "state"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "DASK_HPC_LOCAL": str(self.directory),
            "DASK_HPC_LOCAL_SLOTS": "2",
            "USER_SECRET": CONFIDENTIAL,
        }
        return {**os.environ, **own}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask_hpc.batch.local", *words],
            env=self.environment,
            cwd=self.work,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        return out

    def script(self, *lines: str) -> str:
        path = self.work / "job.sh"
        path.write_text("\n".join(("#!/usr/bin/env bash", *lines, "")))
        return str(path)

    def submit(self, *lines: str, options: tuple[str, ...] = ()) -> str:
        return self.run("submit", "--name=n", *options, self.script(*lines)).strip()

    def query(self) -> dict[str, list[str]]:
        rows = [row.split("|") for row in self.run("query").splitlines()]
        assert all(len(row) == 8 for row in rows)
        return {row[0]: row[1:] for row in rows}

    def states(self) -> list[str]:
        return [row[0] for row in self.query().values()]

    def wait_for(self, *states: str) -> None:
        wait_until(lambda: self.states() == list(states))

    def open_gate(self, *indices: int) -> None:
        for index in indices:
            self.work.joinpath(f"gate-{index}").touch()

    def server(self) -> int:
        return int(self.directory.joinpath("server.lock").read_text())

    def processes(self) -> list[int]:
        """Live processes whose environment names the state directory: servers and jobs."""
        mark = f"DASK_HPC_LOCAL={self.directory}".encode()
        return [int(p.name) for p in Path("/proc").glob("[0-9]*") if mark in _environment(p)]

    def serves(self) -> int:
        return self.directory.joinpath("server.log").read_text().count("serves")


def _environment(process: Path) -> list[bytes]:
    try:
        return process.joinpath("environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    batch = Batch(tmp_path)
    yield batch
    if ids := {element.split("_")[0] for element in batch.query()}:
        batch.run("cancel", *ids)
    wait_until(lambda: not batch.processes())  # whatever happened, nothing is left


def test_an_array_runs_in_order_within_the_slots(batch: Batch) -> None:
    """Two slots: two of five jobs run at once, the next one starts when one ends."""
    assert batch.submit(GATED, options=("--count=5",)) == "1"
    batch.wait_for(*["RUNNING"] * 2, *["PENDING"] * 3)
    batch.open_gate(1)
    batch.wait_for("RUNNING", "COMPLETED", "RUNNING", "PENDING", "PENDING")
    batch.open_gate(2)
    batch.wait_for("RUNNING", "COMPLETED", "COMPLETED", "RUNNING", "PENDING")
    batch.open_gate(0, 3, 4)
    batch.wait_for(*["COMPLETED"] * 5)
    spans = [(float(row[2]), float(row[3])) for row in batch.query().values()]
    assert spans == sorted(spans, key=lambda span: span[0])
    assert all(sum(a <= start < b for a, b in spans) <= 2 for start, _ in spans)


def test_a_job_takes_as_many_slots_as_cores(batch: Batch) -> None:
    """The script's directives count, and the command line wins over them."""
    batch.submit("#LOCAL --cores=2 --count=2", "#LOCAL --walltime=60", GATED)
    batch.wait_for("RUNNING", "PENDING")
    batch.open_gate(0, 1)
    batch.wait_for("COMPLETED", "COMPLETED")
    other = GATED.replace("gate-", "other-gate-")
    batch.submit("#LOCAL --cores=2 --count=2", other, options=("--cores=1",))
    batch.wait_for("COMPLETED", "COMPLETED", "RUNNING", "RUNNING")


def test_a_job_over_its_walltime_is_killed_even_if_it_ignores_sigterm(batch: Batch) -> None:
    """SIGTERM, five seconds, SIGKILL: TIMEOUT."""
    batch.submit(
        "trap '' TERM", "touch up", "while :; do sleep 0.1; done", options=("--walltime=1",)
    )
    batch.wait_for("TIMEOUT")
    _, reason, start, end, code, number, _ = batch.query()["1_0"]
    assert (reason, code, number) == ("it ran into its walltime of 1 s", "", "9")
    assert 6.0 <= float(end) - float(start) < 10.0


def test_a_job_that_heeds_sigterm_ends_at_its_walltime(batch: Batch) -> None:
    """Its own exit code is kept, the state says TIMEOUT."""
    batch.submit("trap 'exit 7' TERM", GATED, options=("--walltime=1",))
    batch.wait_for("TIMEOUT")
    _, _, start, end, code, number, _ = batch.query()["1_0"]
    assert (code, number) == ("7", "")
    assert float(end) - float(start) < 4.0


def test_cancel_ends_waiting_and_running_jobs_and_ignores_unknown_ones(batch: Batch) -> None:
    """Parts of arrays, whole arrays, ids that never were, ids that have ended."""
    batch.submit(GATED, options=("--count=4",))
    batch.wait_for("RUNNING", "RUNNING", "PENDING", "PENDING")
    batch.run("cancel", "99", "1_[0,3]", "1_77")
    batch.wait_for("CANCELLED", "RUNNING", "RUNNING", "CANCELLED")
    batch.run("cancel", "1")
    batch.wait_for(*["CANCELLED"] * 4)
    wait_until(lambda: not batch.processes())
    before = batch.query()
    batch.run("cancel", "1", "2")
    assert batch.query() == before


def test_cancel_before_anything_was_submitted_is_no_error(batch: Batch) -> None:
    """No directory, no server, no error."""
    assert batch.run("cancel", "3") == ""
    assert not batch.directory.exists()


def test_exit_codes_and_signals_are_told(batch: Batch) -> None:
    """0 is COMPLETED, all else FAILED."""
    batch.submit(
        "[ $LOCAL_ARRAY_TASK_ID = 2 ] && kill -SEGV $$",
        "exit $LOCAL_ARRAY_TASK_ID",
        options=("--count=3",),
    )
    batch.wait_for("COMPLETED", "FAILED", "FAILED")
    rows = batch.query()
    assert (rows["1_0"][1], rows["1_0"][4:6]) == ("", ["0", ""])
    assert (rows["1_1"][1], rows["1_1"][4:6]) == ("its script ended with exit code 1", ["1", ""])
    assert (rows["1_2"][1], rows["1_2"][4:6]) == ("its script was killed by SIGSEGV", ["", "11"])


LEAVES = ("sleep 1000 &", "(sleep 1000 &)", "setsid sleep 1000 &")


def test_what_a_script_leaves_behind_dies_with_the_job(batch: Batch) -> None:
    """Children in the background, orphans, even those that left its session."""
    batch.submit(*LEAVES, "exit 0")
    batch.wait_for("COMPLETED")
    wait_until(lambda: not batch.processes())


def test_cancel_reaches_what_left_the_session(batch: Batch) -> None:
    """A daemon of the job is no way to keep its cores."""
    batch.submit(*LEAVES, GATED)
    batch.wait_for("RUNNING")
    wait_until(lambda: len(batch.processes()) >= 6)  # server, guardian, script, three sleeps
    batch.run("cancel", "1")
    batch.wait_for("CANCELLED")
    wait_until(lambda: not batch.processes())


def test_jobs_die_with_a_killed_server_and_query_says_so(batch: Batch) -> None:
    """After kill -9 prctl(2) takes the scripts, the guardian the rest; nothing is RUNNING."""
    batch.submit(*LEAVES, GATED, options=("--count=3",))
    batch.wait_for("RUNNING", "RUNNING", "PENDING")
    os.kill(batch.server(), signal.SIGKILL)
    wait_until(lambda: not batch.processes())
    assert {tuple(row[:2]) for row in batch.query().values()} == {("NODE_FAIL", local_book.LOST)}
    batch.open_gate(0)
    assert batch.submit(GATED) == "2"  # and the next server has learnt it
    wait_until(lambda: batch.query()["2_0"][0] == "COMPLETED")
    assert batch.states()[:3] == ["NODE_FAIL"] * 3


def test_a_server_told_to_end_cancels_its_jobs(batch: Batch) -> None:
    """SIGTERM, as at a shutdown: the jobs get theirs."""
    batch.submit(GATED, options=("--count=3",))
    batch.wait_for("RUNNING", "RUNNING", "PENDING")
    os.kill(batch.server(), signal.SIGTERM)
    wait_until(lambda: not batch.processes())
    assert batch.states() == ["CANCELLED"] * 3


def test_the_server_ends_with_its_last_job_and_the_state_stays(batch: Batch) -> None:
    """No process is left; queries go on; ids go on in the next server."""
    batch.submit("exit 0")
    wait_until(lambda: not batch.processes())
    assert not batch.directory.joinpath("socket").exists()
    assert batch.states() == ["COMPLETED"]
    assert batch.submit("exit 0") == "2"
    batch.wait_for("COMPLETED", "COMPLETED")


def test_submits_at_once_start_one_server(batch: Batch) -> None:
    """All are served, by the same server, under ids of their own."""
    script = batch.script(GATED)
    submits = [batch.start("submit", "--name=n", script) for _ in range(4)]
    ids = [submit.communicate(timeout=30)[0].strip() for submit in submits]
    assert sorted(ids) == ["1", "2", "3", "4"]
    assert batch.serves() == 1


def test_submits_race_with_ending_servers_and_win(batch: Batch) -> None:
    """Jobs so short that servers end all the time: none is lost."""
    script = batch.script("exit 0")
    for _ in range(4):
        submits = [batch.start("submit", "--name=n", script) for _ in range(3)]
        assert all(submit.communicate(timeout=30)[1] == "" for submit in submits)
    batch.wait_for(*["COMPLETED"] * 12)


def test_nobody_else_can_read_anything(batch: Batch) -> None:
    """Directories 0700, files and socket 0600; the environment is in no file or argv."""
    batch.submit('[ "$USER_SECRET" ] || exit 1', GATED)
    batch.wait_for("RUNNING")
    modes = {p.name: p.stat().st_mode & 0o777 for p in batch.directory.rglob("*")}
    assert batch.directory.stat().st_mode & 0o777 == 0o700
    assert modes.pop("scripts") == modes.pop("1") == 0o700
    assert set(modes) == {"socket", "state.json", "server.log", "server.lock", "start.lock"}
    assert set(modes.values()) == {0o600}
    files = [p for p in batch.directory.rglob("*") if p.is_file()]
    assert not any(CONFIDENTIAL in p.read_text() for p in files)
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in batch.processes()]
    assert commands
    assert not any(CONFIDENTIAL in command for command in commands)


def test_a_directory_open_to_others_is_refused(batch: Batch) -> None:
    """Nothing is submitted through a directory that others may write."""
    batch.directory.mkdir()
    batch.directory.chmod(0o755)
    submit = batch.start("submit", batch.script("exit 0"))
    _, text = submit.communicate(timeout=30)
    assert submit.returncode == 1
    assert "chmod 700" in text
    batch.directory.chmod(0o700)


def test_a_missing_log_directory_fails_the_job(batch: Batch) -> None:
    """As in Slurm, but it says why."""
    batch.submit("exit 0", options=("--log=nowhere/n-%a.log",))
    batch.wait_for("FAILED")
    path = batch.work / "nowhere" / "n-0.log"
    reason = f"cannot open its log: No such file or directory: {path}"
    assert batch.query()["1_0"][1] == reason


def test_a_missing_interpreter_fails_the_job(batch: Batch) -> None:
    """The batch system itself goes on."""
    path = batch.work / "job"
    path.write_text("#!/no/such/interpreter\n")
    batch.run("submit", str(path))
    batch.wait_for("FAILED")
    assert batch.query()["1_0"][1].startswith("cannot start its script: ")


def test_a_job_that_is_too_large_waits_and_holds_back_nobody(batch: Batch) -> None:
    """It stays PENDING with a reason that the driver knows as impossible."""
    batch.submit(GATED, options=("--cores=3",))
    batch.submit("exit 0")
    batch.wait_for("PENDING", "COMPLETED")
    listing = Local().states(Output(Command(("query",)), 0, batch.run("query")))
    assert listing.jobs[JobId("1", 0)].impossible
    assert "3 cores" in listing.jobs[JobId("1", 0)].reason


def test_the_script_is_the_one_at_submit(batch: Batch) -> None:
    """A waiting job does not see later changes of the file."""
    batch.submit(GATED, "echo first", options=("--cores=2", "--count=2"))
    batch.script("echo second")
    batch.open_gate(0, 1)
    batch.wait_for("COMPLETED", "COMPLETED")
    assert batch.work.joinpath("n-1.log").read_text() == "first\n"


def test_a_job_knows_who_it_is(batch: Batch) -> None:
    """Its variables, its directory, its empty input and its log."""
    names = ("JOB_NAME", "ARRAY_TASK_ID", "ARRAY_JOB_ID", "JOB_ID", "CPUS", "MEM_BYTES")
    shown = " ".join(f"$LOCAL_{name}" for name in names)
    batch.submit(
        f'echo {shown} $((LOCAL_JOB_END - $(date +%s) > 50)) "$(pwd)"; cat; echo err >&2',
        options=("--cores=2", "--memory=1024", "--walltime=60"),
    )
    batch.wait_for("COMPLETED")
    assert batch.work.joinpath("n-0.log").read_text() == f"n 0 1 1_0 2 1024 1 {batch.work}\nerr\n"


def test_a_job_may_submit_jobs(batch: Batch) -> None:
    """The new job is its own: it lives on when the one that submitted it ends."""
    inner = batch.work / "inner.sh"
    inner.write_text(f"#!/usr/bin/env bash\n{GATED}\necho $LOCAL_JOB_ID\n")
    batch.submit(f"{sys.executable} -m dask_hpc.batch.local submit --name=inner {inner}")
    batch.wait_for("COMPLETED", "RUNNING")
    batch.open_gate(0)
    batch.wait_for("COMPLETED", "COMPLETED")
    assert batch.work.joinpath("inner-0.log").read_text() == "2_0\n"


def test_query_lists_the_jobs_of_the_names_asked_for(batch: Batch) -> None:
    """Other names are left out."""
    script = batch.script("exit 0")
    for name in ("a", "b", "c"):
        batch.run("submit", f"--name={name}", script)
    rows = batch.run("query", "--name=a,c,x").splitlines()
    assert [row.split("|")[-1] for row in rows] == ["a", "c"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "none.sh"), "cannot read none.sh"),
        (("submit", "--count=0", "job.sh"), "invalid positive number"),
        (("submit", "--count=1001", "job.sh"), "at most 1000 jobs"),
        (("submit", "--name=a|b", "job.sh"), "not a job name"),
        (("cancel", "x"), "not a job id: 'x'"),
        (("cancel", "3_[1"), "not a job id"),
    ],
)
def test_what_cannot_work_is_refused(
    batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    """Refused before anything is created, in words."""
    monkeypatch.chdir(batch.work)
    monkeypatch.setenv("DASK_HPC_LOCAL", str(batch.directory))
    batch.script("exit 0")
    assert local.main(words) == 1
    assert message in capsys.readouterr().err
    assert not batch.directory.exists()


def test_a_bad_directive_is_refused(batch: Batch) -> None:
    """It is named with its script."""
    submit = batch.start("submit", batch.script("#LOCAL --coers=2"))
    assert "#LOCAL lines of" in submit.communicate(timeout=30)[1]
    assert submit.returncode == 1


def test_a_server_that_does_not_answer_is_busy(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 75 and words that the driver knows as transient."""
    monkeypatch.setenv("DASK_HPC_LOCAL", str(batch.directory))
    monkeypatch.setattr(local_directory, "PATIENCE", 0.05)
    local_directory.make_directory(batch.directory)
    with local_directory.listen(batch.directory):
        assert local.main(("cancel", "1")) == 75
    error = capsys.readouterr().err
    assert Local().is_transient(Output(Command(("cancel",)), 75, "", error))


def test_a_request_of_another_version_is_answered(batch: Batch) -> None:
    """An error with a reason, which does not quote the request; the server goes on."""
    batch.submit(GATED)
    request = {"verb": "submit", "array": {"environment": {"USER_SECRET": CONFIDENTIAL}}}
    with pytest.raises(BatchSystemError, match="another version") as caught:
        local_directory.ask(batch.directory, request)
    assert CONFIDENTIAL not in str(caught.value)
    assert batch.submit(GATED) == "2"


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """Who may write the parent must not choose where requests go."""
    tmp_path.joinpath("link").symlink_to(tmp_path)
    with pytest.raises(BatchSystemError, match="not a directory of yours"):
        local_directory.make_directory(tmp_path / "link")


def test_a_path_longer_than_a_sockets_works(tmp_path: Path) -> None:
    """Homes are long on supercomputers; sun_path is not."""
    batch = Batch(tmp_path / ("long" * 30))
    batch.work.mkdir()
    batch.submit("exit 0")
    batch.wait_for("COMPLETED")


def test_the_driver_and_the_commands_speak_the_same_language(batch: Batch) -> None:
    """Script, submit, query and cancel as the driver builds them, end to end."""
    driver = Local()
    logs = batch.work / "logs"
    logs.mkdir()
    spec = JobSpec(
        command=("echo", WORKER_PREFIX), cores=1, memory=1, walltime=60, log_directory=logs
    )
    script = batch.work / "job.sh"
    script.write_text(job_script(spec, driver))

    def ask(command: Command) -> Output:
        return Output(command, 0, batch.run(*command.argv[4:]))

    array = driver.submitted(ask(driver.submit(Submission("c-1", 2), spec, script)))

    def states() -> list[JobState]:
        return [
            status.state for status in driver.states(ask(driver.query({"c-1": None}))).jobs.values()
        ]

    wait_until(lambda: states() == [JobState.COMPLETED] * 2)
    assert logs.joinpath("c-1-1.log").read_text() == "c-1-1\n"
    ask(driver.cancel([JobId(array, 0)], {array: 2})[0])


def test_commands_import_little() -> None:
    """They run every few seconds: no engine, no event loop."""
    code = (
        "import sys, dask_hpc.batch.local; "
        "sys.exit(bool({'asyncio', 'click', 'psutil', 'jinja2', 'distributed'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def job(index: int, **changes: object) -> Job:
    values = {"array": 1, "index": index, "name": "n", "cores": 1, "walltime": 60, "submitted": 0.0}
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def test_a_large_job_is_not_overtaken() -> None:
    """It starts one day because those behind it wait."""
    jobs = [job(0, state=State.RUNNING, start=0.0), job(1, cores=2), job(2)]
    assert local_state.decide(jobs, now=1.0, slots=2) == []
    assert local_state.decide(jobs[1:], now=1.0, slots=2) == [(Verb.START, (1, 1))]


def test_an_impossible_job_is_given_up_after_its_walltime() -> None:
    """No server lives for ever for it."""
    jobs = [job(0, cores=9)]
    assert local_state.next_instant(jobs, slots=2) == 60.0
    assert local_state.decide(jobs, now=60.0, slots=2) == [(Verb.EXPIRE, (1, 0))]


def test_ended_jobs_are_forgotten_after_a_while_and_live_ones_never() -> None:
    """300 s, and the thousand newest."""
    ended = [job(i, state=State.COMPLETED, end=float(i)) for i in range(1200)]
    jobs = {j.key: j for j in [*ended, job(5000)]}
    assert [key[1] for key in local_book.pruned(jobs, 1200.0)] == [*range(901, 1200), 5000]
    assert len(local_book.pruned(jobs, 0.0)) == local_book.KEEP_JOBS + 1


def test_the_book_is_read_as_it_was_written() -> None:
    """Every field, and those of a later version are passed over."""
    book = Book(7, {(1, 0): job(0, state=State.ENDING, verdict=State.TIMEOUT, kill_at=3.0)})
    text = local_book.dump(book)
    assert local_book.load(text, now=0.0) == book
    data = json.loads(text)
    data["jobs"][0]["of a later version"] = 1
    assert local_book.load(json.dumps(data), now=0.0) == book


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": [{}], "next_array": 1}'])
def test_a_broken_book_is_a_new_one_whose_ids_do_not_repeat(text: str) -> None:
    """The clock's seconds are above any id given before."""
    assert local_book.load(text, now=1795380440.5) == Book(next_array=1795380440)
