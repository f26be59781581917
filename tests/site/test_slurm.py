"""The main job on a real Slurm of four hosts, as an ordinary user."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, wait

from dask_hpc import HPCCluster, SLURMCluster
from dask_hpc.errors import BatchSystemMissing, JobStartError, SubmitRejected, WorkersTimeout
from tests.site.slurm import counted_commands, queue, run, submitted, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]


#: Slurm remembers jobs for minutes: names that are counted differ from run to run.
RUN = secrets.token_hex(2)


def cluster(name: str, **options: Any) -> SLURMCluster:
    options = {"cores": 1, "memory": "500 MiB", "walltime": "10 min", **options}
    return SLURMCluster(name=name, dashboard_port=0, **options)


def primes_below(n: int) -> int:
    return sum(all(k % d for d in range(2, int(k**0.5) + 1)) for k in range(2, n))


@pytest.mark.parametrize(("jobs", "per_job"), [(4, 8), (32, 1)])
def test_thirty_two_workers_compute_and_leave_no_result_behind(
    jobs: int, per_job: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sbatch, a computation, down with every key kept, one scancel at most, queue empty."""
    name = f"main-{jobs}x{per_job}-{RUN}"
    with counted_commands(tmp_path, monkeypatch) as commands:
        with cluster(name, cores=per_job, processes=per_job, memory=f"{per_job * 400} MiB") as c:
            c.scale(32)
            c.wait_for_workers(32, timeout=120)
            assert len(queue(name)) == jobs
            with c.get_client() as client:
                sizes = [1000 + 50 * i for i in range(200)]
                futures = client.map(primes_below, sizes)
                scattered = client.scatter([b"x" * 10_000 + bytes([i]) for i in range(64)])
                wait(futures)
                expected = [primes_below(n) for n in sizes[:20]]
                assert client.gather(futures[:20]) == expected
                c.scale(jobs=jobs // 4)
                wait_until(lambda: len(queue(name)) == jobs // 4, 60, "the queue shrinks")
                assert len(client.scheduler_info(n_workers=-1)["workers"]) == 8
                assert all(future.status == "finished" for future in futures)
                ran = client.run_on_scheduler(
                    lambda dask_scheduler: sum(
                        ts.suspicious for ts in dask_scheduler.tasks.values()
                    )
                )
                assert ran == 0
                assert client.gather(futures)[:20] == expected
                assert [part[-1] for part in client.gather(scattered)] == list(range(64))
            home = Path(c.scheduler_file).parent
        assert queue(name) == []
        assert not home.exists()
    assert commands["sbatch"] == 1
    assert commands["scancel"] <= 1
    assert submitted(name).total() == jobs


def test_pending_jobs_say_why_and_are_cancelled_first() -> None:
    """Time in the queue is no failure: it is explained, and given up before anything that runs."""
    with cluster("pends", cores=16, processes=1, memory="1 GiB") as c:
        c.scale(jobs=6)  # four hosts of 16 CPUs: two must wait
        c.wait_for_workers(4, timeout=60)
        with pytest.raises(WorkersTimeout, match="2 pending"):
            c.wait_for_workers(6, timeout=4)
        wait_until(lambda: "waiting for free resources" in repr(c), 30, "Slurm gives a reason")
        assert "pending" in c._repr_html_()
        c.scale(jobs=4)
        wait_until(lambda: len(queue("pends")) == 4, 30, "pending jobs are gone")
        assert c.head.running_workers() == 4


def test_a_worker_and_a_supervisor_that_die_are_replaced() -> None:
    """The kernel kills a worker, the batch system a whole job: the computation completes."""
    name = f"dies-{RUN}"
    with cluster(name, cores=4, processes=4, memory="2 GiB") as c:
        c.scale(jobs=2)
        c.wait_for_workers(8, timeout=60)
        with c.get_client() as client:
            futures = client.map(primes_below, [20_000 + i for i in range(120)])
            workers = list(client.scheduler_info(n_workers=-1)["workers"])
            client.run(os.kill, 0, 0, workers=workers[:1])  # a harmless call: the way is open
            pids = client.run(os.getpid)
            client.run(
                lambda: (
                    __import__("threading")
                    .Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL))
                    .start()
                ),
                workers=workers[:1],
                on_error="ignore",  # it may die before its answer has left
            )
            parent = client.run(_supervisor, workers=workers[-1:])[workers[-1]]
            client.run(_kill_soon, parent, workers=workers[-1:], on_error="ignore")
            assert len(set(pids.values())) == 8
            wait(futures, timeout=120)
            assert {future.status for future in futures} == {"finished"}
            wait_until(lambda: submitted(name).total() == 3, 60, "a job replaces it")
            c.wait_for_workers(8, timeout=60)


def _supervisor() -> int:
    """Process id of this worker's supervisor: the oldest ancestor that is ours."""
    import psutil

    ours = [p for p in psutil.Process().parents() if "worker" in p.cmdline()]
    return ours[-1].pid


def _kill_soon(pid: int) -> None:
    import threading

    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()


def test_plain_client_connects_by_the_scheduler_file_alone() -> None:
    """The guide's own line, in a program that has never heard of us."""
    with cluster("plain", cores=1) as c:
        c.scale(1)
        c.wait_for_workers(1, timeout=60)
        code = (
            "import sys; from dask.distributed import Client\n"
            "with Client(scheduler_file=sys.argv[1], timeout=20) as client:\n"
            "    print(client.submit(sum, [1, 2, 3]).result(), client.scheduler.address[:3])\n"
            "assert 'dask_hpc' not in sys.modules\n"
        )
        assert run(sys.executable, "-c", code, c.scheduler_file) == "6 tls\n"


def test_the_fast_network_is_used_when_asked_for() -> None:
    """--interface ib0 on scheduler and workers: every address is on it."""
    with cluster("fast", cores=2, processes=2, memory="1 GiB", interface="ib0") as c:
        c.scale(2)
        c.wait_for_workers(2, timeout=60)
        with Client(c) as client:
            info = client.scheduler_info(n_workers=-1)
            assert "//10.78.0." in info["address"]
            assert all("//10.78.0." in worker for worker in info["workers"])


def test_scaling_to_zero_and_back_works() -> None:
    """No job, no worker; then one again."""
    with cluster("zero", cores=1) as c:
        c.scale(2)
        c.wait_for_workers(2, timeout=60)
        c.scale(0)
        wait_until(lambda: not queue("zero"), 40, "no job is left")
        c.scale(1)
        c.wait_for_workers(1, timeout=60)


def test_logs_are_there_and_named_by_their_path() -> None:
    """get_logs() gathers what jobs wrote."""
    with cluster("logs", cores=1) as c:
        c.scale(1)
        c.wait_for_workers(1, timeout=60)
        logs = c.get_logs(workers=False)
        [path] = [name for name in logs if name.endswith(".log")]
        assert Path(path).parent == Path(c.log_directory)


# -- failures explain themselves ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue": "nosuch"}, "[Ii]nvalid partition"),
        ({"queue": "bobonly"}, "group not permitted"),
        ({"memory": "900 GiB"}, "[Mm]emory specification can not be satisfied"),
        ({"cores": 17, "processes": 1}, "CPU count per node can not be satisfied"),
        ({"job_extra_directives": ["--nosuch"]}, "unrecognized option"),
    ],
)
def test_a_refused_submission_is_raised_in_slurms_words(
    options: dict[str, Any], words: str
) -> None:
    """scale() raises at once, and nothing is tried again."""
    with cluster("refused", **options) as c:
        with pytest.raises(SubmitRejected, match=words):
            c.scale(1)
        assert queue("refused") == []


def test_a_job_that_can_never_start_is_reported() -> None:
    """Accepted and pending for ever: Slurm's reason is put into words."""
    with cluster("never", queue="short", walltime="2 h") as c:
        c.scale(1)
        with pytest.raises(JobStartError, match="walltime is over the partition's limit"):
            c.wait_for_workers(1, timeout=30)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"python": "/no/such/python"}, "the node has no /no/such/python"),
        ({"job_script_prologue": ["echo the licence server said no", "exit 3"]}, "licence server"),
        # Seen on the embedded batch system too, or read by unit tests.
        pytest.param({"python": "/usr/bin/python3"}, "no dask_hpc", marks=pytest.mark.long),
        pytest.param(
            {"fork_preload": ["no_such_module"]}, "no_such_module", marks=pytest.mark.long
        ),
        pytest.param({"worker_extra_args": ["--interface", "ib7"]}, "ib7", marks=pytest.mark.long),
    ],
)
def test_a_script_that_dies_at_start_is_explained(options: dict[str, Any], words: str) -> None:
    """One error names cause, job and log; after three failures no more is submitted."""
    with cluster("broken", **options) as c:
        c.scale(1)
        with pytest.raises(JobStartError, match=words) as caught:
            c.wait_for_workers(1, timeout=60)
        assert "log /" in str(caught.value)
        assert "nothing more is submitted" in str(caught.value)
        assert submitted("broken").total() >= 3
        assert "stopped after failures" in repr(c)
    run("rm", "-rf", c.log_directory)


def test_a_node_that_cannot_reach_the_head_says_so() -> None:
    """The head listens on the login node's loopback only: no node gets there."""
    with cluster("alone", host="127.0.0.1", death_timeout="3 s") as c:
        c.scale(3)
        with pytest.raises(JobStartError, match="cannot reach the head"):
            c.wait_for_workers(1, timeout=60)


def test_memory_is_named_when_it_kills() -> None:
    """A prologue eats the job's memory: the cause is memory, not a script that failed."""
    eat = f"{sys.executable} -c 'x = bytearray(900 << 20)'; exit 1"
    with cluster("eats", memory="100 MiB", job_script_prologue=[eat]) as c:
        c.scale(3)
        with pytest.raises(JobStartError, match="more memory than it asked for"):
            c.wait_for_workers(1, timeout=60)


@pytest.mark.timeout(300)
def test_a_machine_without_slurm_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No sbatch on PATH: what to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = "(sbatch|scontrol) is not on this machine's PATH"
    with cluster("bare") as c, pytest.raises(BatchSystemMissing, match=missing):
        c.scale(1)


def test_the_batch_system_of_the_machine_is_found() -> None:
    """No batch= is needed where there is a Slurm."""
    with HPCCluster(name="found", cores=1, memory="300 MiB", dashboard_port=0) as c:
        assert c.driver.name == "slurm"
