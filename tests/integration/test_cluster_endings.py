"""However a cluster's program, workers or jobs end: nothing is lost that need not be, nothing left.

Clusters on the embedded batch system; each script runs in a process of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from distributed import wait

from tests.helpers import wait_until
from tests.integration.account import Account, kill

pytestmark = pytest.mark.timeout(90)

HOLD = """
import threading
with LocalJobCluster(n_workers=6, **options) as cluster:  # four slots: two jobs wait
    cluster.wait_for_workers(4, timeout=30)
    print("up", flush=True)
    threading.Event().wait()
"""
OPEN = """
cluster = LocalJobCluster(n_workers=2, **options)
cluster.wait_for_workers(2, timeout=30)
client = cluster.get_client()
print(client.submit(sum, [1, 2, 3]).result())
"""
PLAIN_CLIENT = """
import sys
from dask.distributed import Client
with Client(scheduler_file=sys.argv[1], timeout=20) as client:
    print(client.submit(sum, [1, 2, 3]).result(), client.scheduler.address[:6])
assert "dask_hpc" not in sys.modules
"""
LOCAL_CLUSTER = """
from dask.distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        with Client(cluster) as client:
            print(client.submit(sum, [1, 2]).result(), cluster.scheduler_address[:6])
"""


def held(account: Account) -> subprocess.Popen[str]:
    """A program that holds a cluster with four jobs running and two pending."""
    process = account.start(HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n", process.communicate()
    return process


def reap(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=40)
    return process.returncode, err


# -- the program ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "code", "words"),
    [("", 0, ""), ("sys.exit(3)", 3, ""), ("raise ValueError('mine')", 1, "ValueError: mine")],
)
def test_a_script_that_does_not_close_leaves_nothing_and_keeps_its_exit_code(
    account: Account, last: str, code: int, words: str
) -> None:
    """Whether it comes to its end, exits or fails; on stderr is what the script says, no more."""
    returncode, out, err = account.run(OPEN + last)
    assert (returncode, out) == (code, "6\n")
    assert err.strip().rpartition("\n")[2] == words
    assert err.count("Traceback") == bool(words)
    account.wait_until_nothing_is_left()


def test_ctrl_c_ends_a_script_cleanly(account: Account) -> None:
    """The with block closes the cluster; jobs that run or wait are gone."""
    process = held(account)
    os.kill(process.pid, signal.SIGINT)
    returncode, err = reap(process)
    assert returncode in (-signal.SIGINT, 130)
    assert err.strip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1
    account.wait_until_nothing_is_left()


def test_ctrl_c_while_it_starts_ends_cleanly_too(account: Account) -> None:
    """The cluster that the caller never gets is closed at exit."""
    process = account.start("LocalJobCluster(n_workers=4, **options)\nprint('started')")
    wait_until((account.home / "script").exists)
    os.kill(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in reap(process)[1]
    account.wait_until_nothing_is_left(40)


def test_a_killed_head_leaves_no_job_no_process_and_no_scheduler_file(account: Account) -> None:
    """Its guardian clears away, what runs and what waits, within 30 s."""
    process = held(account)
    os.kill(process.pid, signal.SIGKILL)
    reap(process)
    wait_until(lambda: not account.processes(), 30)
    assert not (account.home / "script" / "scheduler.json").exists()


def test_the_directory_of_a_dead_cluster_is_taken_over(account: Account) -> None:
    """Head and guardian were killed: the next cluster of that name ends the jobs left."""
    process = held(account)
    guardians = [p for p in account.processes() if "dask_hpc.control.reaper" in p.cmdline()]
    assert len(guardians) == 1
    kill(guardians[0].pid)
    os.kill(process.pid, signal.SIGKILL)
    reap(process)
    old = account.jobs()
    with account.cluster("script", n_workers=1) as cluster:
        assert not any(job.is_running() for job in old)
        cluster.wait_for_workers(1, timeout=30)
    wait_until(lambda: not account.processes())


# -- a worker or a job ends -----------------------------------------------------------------------


def slowly(n: int) -> int:
    threading.Event().wait(0.02)
    return n + 1


def test_a_killed_worker_and_a_killed_supervisor_are_replaced(account: Account) -> None:
    """By the nanny in the same job, and by another job; the computation completes."""
    with account.cluster(cores=2, processes=2, memory="1000 MiB") as cluster:
        cluster.scale(jobs=2)
        cluster.wait_for_workers(4, timeout=30)
        with cluster.get_client() as client:
            futures = client.map(slowly, range(300))
            workers = client.run(os.getpid)
            jobs = account.jobs()
            victim = next(pid for pid in workers.values() if not below(pid, jobs[0]))
            kill(victim)
            kill(jobs[0].pid)
            assert wait(futures, timeout=60).not_done == set()
            assert client.gather(futures) == list(range(1, 301))
            cluster.wait_for_workers(4, timeout=40)
            wait_until(lambda: len(client.run(os.getpid)) == 4)
            assert victim not in client.run(os.getpid).values()
        assert cluster.report()["jobs_submitted"] == 3
    account.wait_until_nothing_is_left()


def below(pid: int, ancestor: psutil.Process) -> bool:
    return ancestor in psutil.Process(pid).parents()


# -- other programs of the same account -----------------------------------------------------------


def test_a_plain_client_and_a_plain_local_cluster_work_beside_it(account: Account) -> None:
    """The first by the scheduler file alone, in TLS; the second as ever, in TCP."""
    plain = account.path / "plain.py"
    plain.write_text(LOCAL_CLUSTER)
    with account.cluster(n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=30)
        for arguments, words in (
            (("-c", PLAIN_CLIENT, cluster.scheduler_file), "6 tls://\n"),
            ((str(plain),), "3 tcp://\n"),
        ):
            done = subprocess.run(
                [sys.executable, *arguments],
                capture_output=True,
                text=True,
                timeout=40,
                check=False,
            )
            assert (done.stdout, done.stderr) == (words, "")
