"""The command line on the embedded batch system: a cluster by commands alone, a script's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.known import find
from dask_hpc.errors import HeadUnreachable
from tests.helpers import wait_until
from tests.integration.account import Account

pytestmark = pytest.mark.timeout(120)

COMMAND = (sys.executable, "-m", "dask_hpc")
SMALL = ("--batch", "local", "--cores", "1", "--memory", "500 MiB", "--option", "dashboard_port=0")


def call(*arguments: str, code: int = 0, given: str | None = None) -> str:
    """Run `dask-hpc ARGUMENTS` to its end; what it prints."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        input=given,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def cost(*arguments: str) -> tuple[float, set[str]]:
    """CPU seconds of `dask-hpc ARGUMENTS`, the better of two, and the modules that it imports."""
    program = (
        "import sys, time; from dask_hpc.cli.entry import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('\\n' + ' '.join(sys.modules))\n"
        "print(time.process_time())"  # of all of the process
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout.splitlines()
        for _ in range(2)
    ]
    return min(float(lines[-1]) for lines in found), set(found[0][-2].split())


# -- a cluster by commands alone ------------------------------------------------------------------


@pytest.fixture
def down(account: Account) -> Iterator[None]:
    """Whatever a failed test left running is ended."""
    yield
    subprocess.run([*COMMAND, "down", "--all"], capture_output=True, timeout=60, check=False)


def wait_for_ever(head: HeadClient) -> None:
    changes = 0
    while True:
        changes = head.wait(changes, 30)["changes"]


@pytest.mark.usefixtures("down")
def test_a_cluster_lives_by_commands_alone(account: Account) -> None:
    """Up, seen, scaled, used and ended by processes that know no more than its name."""
    asked = ("up", *SMALL, "--name", "study", "--jobs", "2")
    rehearsed = json.loads(call(*asked, "--dry-run", "--json"))
    assert account.left() == []
    call(*asked)
    assert rehearsed["pools"][0]["script"] == HeadClient(find("study")).script()
    (row,) = json.loads(call("ls", "--json"))
    assert (row["name"], row["status"], row["workers"]) == ("study", "running", 2)
    assert row["jobs"]["running"] == 2

    view = json.loads(call("status", "--json"))
    assert view["pools"]["default"]["wanted"] == 2
    assert len(view["jobs"]) == 2
    assert "workers: 2 of 2\n" in call("status", "study")

    call("scale", "study", "3", "--wait", "--timeout", "30")
    jobs = json.loads(call("jobs", "--json"))
    assert [job["state"] for job in jobs] == ["running"] * 3
    job = jobs[0]
    (path,) = call("logs", "study", job["name"], "--paths").splitlines()
    assert path == job["log"]
    assert "worker" in call("logs", "study", job["id"])
    assert "study" in call("logs", "--head")

    call("scale", "study", "--jobs", "9", "--wait", "--timeout", "0.5", code=4)  # 4 slots
    call("adapt", "--minimum-jobs", "0", "--maximum-jobs", "1")
    assert json.loads(call("status", "--json"))["pools"]["default"]["adapting"] == {
        "minimum": 0,
        "maximum": 1,
    }
    assert "HPCCluster.attach" in call("attach", "study")
    call("status", "studi", code=3)
    call("up", *SMALL, "--name", "study", code=1)  # there is one of that name

    watcher = subprocess.Popen(
        [*COMMAND, "status", "--watch"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watcher.stdout is not None
    assert "wanted" in watcher.stdout.readline()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(wait_for_ever, HeadClient(find("study")))
        assert "cluster study is closed" in call("down")
        assert isinstance(waiting.exception(20), HeadUnreachable)
    _, said = watcher.communicate(timeout=20)
    assert (watcher.returncode, said) == (0, "cluster study has been ended\n")
    account.wait_until_nothing_is_left()
    assert json.loads(call("ls", "--json")) == []


@pytest.mark.usefixtures("down")
def test_questions_are_quick_and_a_python_has_the_cluster_at_hand(account: Account) -> None:
    """Less than 400 ms of CPU, no engine; an interpreter has both, and leaves the cluster alone."""
    call("up", *SMALL, "--name", "quick", "--workers", "1")
    for question in (("ls",), ("status",), ("jobs",), ("scale", "1")):
        seconds, modules = cost(*question)
        assert not modules & {"distributed", "dask", "rich", "jinja2", "tornado", "yaml"}
        assert seconds < 0.400
    program = "print('computed', client.submit(sum, [40, 2]).result())\n"
    assert "computed 42" in call("attach", "quick", "--python", given=program)
    assert json.loads(call("ls", "--json"))[0]["status"] == "running"
    assert "cluster quick is closed" in call("down")
    account.wait_until_nothing_is_left()


@pytest.mark.usefixtures("down")
def test_what_a_dead_head_left_is_cleared_away(account: Account) -> None:
    """Its jobs and its directory."""
    call("up", *SMALL, "--name", "study", "--jobs", "1")
    (row,) = json.loads(call("ls", "--json"))
    for pid in (*guardians(account), row["pid"]):  # as when the machine is switched off
        os.kill(pid, signal.SIGKILL)
    wait_until(dead)
    call("status", "study", code=3)
    call("down", "study")
    account.wait_until_nothing_is_left()


def guardians(account: Account) -> list[int]:
    """Processes that would clear away at once, or start the head again."""
    return [each.pid for each in account.processes() if REAPER in each.cmdline()]


REAPER = "dask_hpc.control.reaper"


def dead() -> bool:
    """Whether the only cluster is known to be dead."""
    return [row["status"] for row in json.loads(call("ls", "--json"))] == ["dead"]


# -- a script's own -------------------------------------------------------------------------------

COMPUTES = """
import sys
import dask_hpc
from distributed import Client

with dask_hpc.connect() as client, Client() as other:
    assert client.scheduler.address == other.scheduler.address
    print(client.submit(sum, [1, 2, 6]).result(), *sys.argv[1:])
sys.exit(7)
"""

#: Notes how often it is interrupted within half a second, and ends; or goes on, if so told.
INTERRUPTED = """
import pathlib, signal, sys

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("ready", flush=True)
signal.sigwait([signal.SIGINT])
count = 1
while signal.sigtimedwait([signal.SIGINT], 0.5):
    count += 1
pathlib.Path("count").write_text(str(count))
while "stubborn" in sys.argv:
    signal.sigwait([signal.SIGINT])
"""


def script(account: Account, text: str) -> str:
    path = account.path / "script.py"
    path.write_text(text)
    return str(path)


def test_a_script_runs_on_a_cluster_of_its_own(account: Account) -> None:
    """Its arguments are its own, its exit code is the command's, and nothing is left."""
    words = ("--", "--jobs", "x")
    assert call("run", *SMALL, script(account, COMPUTES), *words, code=7) == "9 --jobs x\n"
    account.wait_until_nothing_is_left()


def test_a_script_that_is_not_reached_ends_nothing_but_itself(account: Account) -> None:
    """Workers that do not come in time: exit code 4, and nothing is left."""
    sizes = ("--jobs", "5", "--wait", "5", "--timeout", "0.1")
    call("run", *SMALL, *sizes, script(account, COMPUTES), code=4)
    account.wait_until_nothing_is_left()


def started(account: Account, *words: str) -> subprocess.Popen[str]:
    """`dask-hpc run` without a terminal, once the script runs."""
    process = subprocess.Popen(
        [*COMMAND, "run", *SMALL, script(account, INTERRUPTED), *words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd=account.path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_an_interrupt_ends_script_and_cluster_in_order(account: Account) -> None:
    """The script is told once; exit code 130."""
    process = started(account)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=50)
    assert process.returncode == 130
    assert "ending" in said
    assert "the cluster is closed" in said
    assert (account.path / "count").read_text() == "1"
    account.wait_until_nothing_is_left()


def test_a_second_interrupt_ends_at_once(account: Account) -> None:
    """Whatever the script does; the guardian cancels the jobs."""
    process = started(account, "stubborn")
    process.send_signal(signal.SIGINT)
    wait_until((account.path / "count").exists)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "at once" in said
    wait_until(lambda: not account.processes(), 40)


#: Runs a command in the foreground of a terminal, whose keyboard is our standard input.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def test_ctrl_c_on_a_terminal_reaches_the_script_once(account: Account) -> None:
    """The terminal tells the script itself: it is not told again."""
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *COMMAND, "run", *SMALL, script(account, INTERRUPTED)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=account.path,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while b"ready" not in said:
            said += os.read(process.stdout.fileno(), 4096)
        process.stdin.write(b"\x03")
        process.stdin.flush()
        assert process.wait(50) == 130
        said += process.stdout.read()
    assert b"the cluster is closed" in said
    assert (account.path / "count").read_text() == "1"
    account.wait_until_nothing_is_left()
