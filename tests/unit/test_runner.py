"""Commands are run with a bound on time and output, and nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from dask_hpc.batch import runner
from dask_hpc.batch.client import ATTEMPTS, BatchClient
from dask_hpc.batch.runner import run
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.slurm import Slurm
from dask_hpc.errors import (
    BatchSystemError,
    BatchSystemMissing,
    BatchSystemUnavailable,
    SubmitRejected,
)
from dask_hpc.model.job import JobId, JobSpec, Submission
from tests.helpers import wait_until

SPEC = JobSpec(command=("true",), cores=1, log_directory=Path("/logs"))
DOWN = "Unable to contact slurm controller (connect failure)"


def python(code: str) -> Command:
    return Command((sys.executable, "-c", code))


async def test_both_streams_and_the_exit_status_are_kept() -> None:
    """A failed command is an answer too: what it means is the driver's to say."""
    output = await run(python("import sys; print('out'); print('err', file=sys.stderr); exit(3)"))
    assert (output.returncode, output.stdout, output.stderr) == (3, "out\n", "err\n")


async def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """A wrapper's children die too: the whole session is killed."""
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    begin = time.monotonic()
    with pytest.raises(BatchSystemUnavailable, match="did not end within"):
        await run(python(code), timeout=1.0)
    assert time.monotonic() - begin < 10
    child = int(pid.read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists() or _zombie(child))


def _zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


async def test_output_without_end_is_cut() -> None:
    """A wrapper gone wild fills no memory."""
    with pytest.raises(BatchSystemUnavailable, match="more than 1000 bytes"):
        await run(python("while True: print('x' * 100)"), cap=1000)


async def test_what_nobody_reads_keeps_no_killed_command() -> None:
    """asyncio stops reading a pipe whose buffer is full, and then never sees its end."""
    process = await asyncio.create_subprocess_exec(
        *python("while True: print('x' * 100)").argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    await asyncio.sleep(0.3)  # until the buffer is full
    async with asyncio.timeout(10):
        await runner._kill(process)


async def test_a_missing_program_is_named() -> None:
    """With what to do instead."""
    with pytest.raises(BatchSystemMissing, match="no-such-program is not on this machine's PATH"):
        await run(Command(("no-such-program",)))


async def test_a_users_own_defaults_are_kept_from_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQUEUE_PARTITION would empty a listing; the rest of the environment stays."""
    monkeypatch.setenv("SQUEUE_PARTITION", "short")
    monkeypatch.setenv("KEPT", "yes")
    command = python("import os; print(os.environ.get('SQUEUE_PARTITION'), os.environ['KEPT'])")
    output = await run(Command(command.argv, ("SQUEUE_*",)))
    assert output.stdout.split() == ["None", "yes"]
    assert os.environ["SQUEUE_PARTITION"] == "short"


class Script:
    """A runner that gives answers in turn."""

    def __init__(self, *answers: tuple[int, str, str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, command: Command) -> Output:
        self.asked.append(command.argv[0])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Output(command, *answer)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask_hpc.batch.client.FIRST_WAIT", 0.0)


async def test_a_cancel_is_repeated_until_the_controller_answers() -> None:
    """Cancelling twice does no harm, so silence is no reason to give up."""
    script = Script((1, "", DOWN), BatchSystemUnavailable("late"), (0, "", ""))
    await BatchClient(Slurm(), script).cancel([JobId("1", 0)], {"1": 1})
    assert script.asked == ["scancel"] * 3


async def test_a_cancel_gives_up_after_some_tries_and_says_so() -> None:
    """The caller must know that jobs may be left."""
    script = Script(*[(1, "", DOWN)] * ATTEMPTS)
    with pytest.raises(BatchSystemUnavailable, match="Unable to contact"):
        await BatchClient(Slurm(), script).cancel([JobId("1", 0)], {"1": 1})


async def test_nothing_to_cancel_runs_nothing() -> None:
    """Good citizens issue no empty commands."""
    script = Script()
    await BatchClient(Slurm(), script).cancel([], {})
    assert script.asked == []


async def test_a_submission_is_never_repeated() -> None:
    """A repeat could double it: one try, and the outcome is unknown."""
    script = Script((1, "", f"sbatch: error: {DOWN}"))
    client = BatchClient(Slurm(), script)
    with pytest.raises(BatchSystemUnavailable):
        await client.submit(Submission("c-1", 1), SPEC, Path("/job.sh"))
    assert script.asked == ["sbatch"]


async def test_a_refusal_is_told_apart_from_silence() -> None:
    """Refused is final."""
    script = Script((1, "", "sbatch: error: invalid partition specified: x"))
    client = BatchClient(Slurm(), script)
    with pytest.raises(SubmitRejected, match="invalid partition"):
        await client.submit(Submission("c-1", 1), SPEC, Path("/job.sh"))


async def test_a_failed_query_is_no_observation() -> None:
    """Whatever it printed before it failed is not believed."""
    script = Script((1, "1_0|RUNNING|n|N/A|N/A|c-1|None\n", DOWN))
    with pytest.raises(BatchSystemUnavailable):
        await BatchClient(Slurm(), script).query({"c-1": "1"})


@pytest.mark.parametrize(
    "answer",
    [(1, "", "Slurm accounting storage is disabled"), BatchSystemError("broken")],
)
async def test_without_accounting_there_is_no_history(answer: tuple[int, str, str]) -> None:
    """A site may have none: the log still tells."""
    assert not (await BatchClient(Slurm(), Script(answer)).history({"1"})).jobs


async def test_the_array_limit_is_asked_once_and_commands_are_counted() -> None:
    """One `scontrol show config` in the life of a cluster."""
    client = BatchClient(Slurm(), Script((0, "MaxArraySize            = 501\n", "")))
    assert [await client.array_limit() for _ in range(3)] == [501] * 3
    assert client.commands == {"scontrol": 1}
