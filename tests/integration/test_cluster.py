"""A whole cluster on the embedded batch system: sizes, failures, what it says of itself."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, wait

from dask_hpc import HPCCluster
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.known import find
from dask_hpc.errors import (
    ClusterDirectoryError,
    ConfigurationError,
    HPCError,
    JobStartError,
    SubmitRejected,
    WorkersTimeout,
)
from dask_hpc.launch import rendezvous
from tests.helpers import wait_until
from tests.integration.account import Account

SLOW = pytest.mark.timeout(90)


def square(n: int) -> int:
    return n * n


# -- life ---------------------------------------------------------------------------------------


def test_a_cluster_grows_computes_shrinks_without_loss_and_leaves_nothing(account: Account) -> None:
    """One submit and one cancel at most; every result is kept, none is computed twice."""
    with account.cluster() as cluster:
        cluster.scale(3)
        cluster.wait_for_workers(3, timeout=30)
        assert cluster.report()["commands"]["local submit"] == 1
        with cluster.get_client() as client:
            futures = client.map(square, range(60))
            data = client.scatter([bytes([i]) * 1000 for i in range(30)])
            wait(futures)
            cluster.scale(1)
            wait_until(lambda: len(account.jobs()) == 1)
            assert client.gather(futures) == [n * n for n in range(60)]
            assert [part[0] for part in client.gather(data)] == list(range(30))
            assert client.run_on_scheduler(times_computed) == {1}
            cluster.scale(0)
            wait_until(lambda: not account.jobs())
            cluster.scale(2)
            cluster.wait_for_workers(2, timeout=30)
            assert client.submit(square, 12).result() == 144
        report = cluster.report()
    assert report["jobs_submitted"] == 5
    assert report["commands"]["local submit"] == 2
    assert report["core_seconds"] > 0
    account.wait_until_nothing_is_left()


def times_computed(dask_scheduler: Any) -> set[int]:
    """How often each task's function ended, by the scheduler's own record."""
    done: dict[str, int] = {}
    for key, _, new, *_ in dask_scheduler.transition_log:
        if new == "processing":
            done[key] = done.get(key, 0) + 1
    return {count for key, count in done.items() if str(key).startswith("square")}


async def test_it_works_in_an_event_loop(account: Account) -> None:
    """Async with, await to start, awaitable scale and wait; a Client in the same loop."""
    async with HPCCluster(
        batch="local",
        name="loop",
        cores=1,
        memory="500 MiB",
        dashboard_port=0,
        asynchronous=True,
    ) as cluster:
        assert await cluster is cluster
        await cluster.scale(2)
        await cluster.wait_for_workers(2, timeout=30)
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(square, 3) == 9
    await asyncio.to_thread(account.wait_until_nothing_is_left)


async def test_it_is_started_by_await_and_ended_by_close(account: Account) -> None:
    """No context manager: before the await it has not started, and says so."""
    cluster = HPCCluster(batch="local", name="plain", cores=1, dashboard_port=0, asynchronous=True)
    assert repr(cluster) == "HPCCluster('plain', not started)"
    assert "Scheduler not started yet" in cluster._repr_html_()
    with pytest.raises(HPCError, match="has not started"):
        cluster.head  # noqa: B018
    await cluster
    assert "jobs: 0 wanted: none" in repr(cluster)
    await cluster.close()
    await cluster.close()
    assert repr(cluster) == "HPCCluster('plain', closed)"
    with pytest.raises(HPCError, match="is closed"):
        await cluster.scale(1)
    await asyncio.to_thread(account.wait_until_nothing_is_left)


async def test_a_synchronous_cluster_works_where_a_loop_runs_as_in_a_notebook(
    account: Account,
) -> None:
    """Its own loop is in another thread."""
    with account.cluster(n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            assert client.submit(square, 4).result() == 16
    await asyncio.to_thread(account.wait_until_nothing_is_left)


def test_closing_twice_is_harmless_and_a_closed_cluster_says_so(account: Account) -> None:
    """Its loop has ended too; its report can still be read."""
    cluster = account.cluster(n_workers=1)
    cluster.wait_for_workers(1, timeout=30)
    cluster.close()
    cluster.close()
    assert repr(cluster) == "LocalJobCluster('test', closed)"
    assert "closed" in cluster._repr_html_()
    assert cluster.report()["jobs_submitted"] == 1
    for use in (lambda: cluster.scale(1), lambda: cluster.wait_for_workers(1)):
        with pytest.raises(HPCError, match="is closed"):
            use()
    account.wait_until_nothing_is_left()


def test_restart_gives_fresh_workers_in_the_same_jobs(account: Account) -> None:
    """The engine's client.restart(): nannies start workers anew, no job is submitted."""
    with account.cluster(n_workers=2) as cluster:
        cluster.wait_for_workers(2, timeout=30)
        with cluster.get_client() as client:
            before = set(client.run(os.getpid).values())
            client.restart(timeout=30)
            assert before.isdisjoint(client.run(os.getpid).values())
            assert client.submit(square, 5).result() == 25
        assert cluster.report()["jobs_submitted"] == 2


# -- what is asked for ----------------------------------------------------------------------------


def test_every_way_to_say_a_size_rounds_up_to_whole_jobs(account: Account) -> None:
    """Jobs of 2 workers with 1 thread and 500 MiB each."""
    with account.cluster(cores=2, processes=2, memory="1000 MiB", n_workers=1) as cluster:
        assert cluster.head.controller.wanted == {"default": 1}
        for size, jobs in (
            ({"n": 3}, 2),
            ({"jobs": 1}, 1),
            ({"cores": 3}, 2),
            ({"memory": "400 MiB"}, 1),
            ({"memory": 1001 * 2**20}, 2),
            ({"memory": 0}, 0),
        ):
            cluster.scale(**size)
            assert cluster.head.controller.wanted == {"default": jobs}
        for wrong in ({}, {"n": 1, "jobs": 1}, {"n": -1}, {"jobs": -1}, {"n": 1.5}, {"n": "2"}):
            with pytest.raises(ConfigurationError):
                cluster.scale(**wrong)


def test_more_workers_than_one_scheduler_can_hold_are_refused(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is submitted: each needs open files, of which a process has so many."""
    with account.cluster() as cluster:
        monkeypatch.setattr("dask_hpc.cluster.joining.raise_file_limit", lambda: 300)
        with pytest.raises(ConfigurationError, match=r"12 workers need about .* enough for 11"):
            cluster.scale(12)
        assert cluster.report()["jobs_submitted"] == 0
    account.wait_until_nothing_is_left()


def test_an_unknown_option_is_refused_with_a_suggestion(account: Account) -> None:
    """Before anything is started or written."""
    with pytest.raises(ConfigurationError, match="did you mean memory="):
        account.cluster(memroy="1 GiB")
    with pytest.raises(ConfigurationError, match="security= takes True or False"):
        account.cluster(security="x")
    assert not account.home.exists()


def test_the_job_script_is_what_it_looks_like(account: Account) -> None:
    """Literal, for a simple case."""
    with account.cluster(
        "literal",
        walltime="10 min",
        job_script_prologue=["module load x"],
        job_extra_directives=["--cores=1"],
    ) as cluster:
        assert cluster.job_script() == (
            "#!/usr/bin/env bash\n"
            "#LOCAL --cores=1\n"
            "#LOCAL --memory=524288000\n"
            "#LOCAL --walltime=600\n"
            "#LOCAL --cores=1\n"
            "\n"
            "export OMP_NUM_THREADS=1\n"
            "export MKL_NUM_THREADS=1\n"
            "export OPENBLAS_NUM_THREADS=1\n"
            "export PYTHONHASHSEED=6640\n"
            f"cd {shlex.quote(str(Path.cwd()))} 2>/dev/null || :\n"
            "module load x\n"
            f"exec {sys.executable} -m dask_hpc worker"
            f" --scheduler-file {account.home}/literal/scheduler.json"
            ' --name "${LOCAL_JOB_NAME}-${LOCAL_ARRAY_TASK_ID}" --nworkers 1 --nthreads 1'
            " --job-memory 524288000 --death-timeout 120 --resources pool-default=inf\n"
        )


@pytest.mark.parametrize("option", [{"insecure": True}, {"security": False}])
def test_insecure_is_explicit_and_warns(account: Account, option: dict[str, bool]) -> None:
    """It works, in plain TCP; its control channel alone needs the identity."""
    with pytest.warns(UserWarning, match="no encryption and no authentication"):
        cluster = account.cluster(n_workers=1, **option)
    with cluster, cluster.get_client() as client:
        assert cluster.scheduler_address.startswith("tcp://")
        assert client.submit(square, 6).result(timeout=30) == 36
        assert rendezvous.read(Path(cluster.scheduler_file)).tls is None
        assert HeadClient(find(cluster.name)).view()["name"] == cluster.name
    account.wait_until_nothing_is_left()


# -- what it says of itself -----------------------------------------------------------------------


def test_repr_says_how_many_are_wanted_pending_and_running_and_why(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that waits is no failure: wait_for_workers says what it waits for."""
    monkeypatch.setenv("DASK_HPC_LOCAL_SLOTS", "1")
    with account.cluster() as cluster:
        assert "0 wanted: none" in repr(cluster)
        cluster.scale(2)
        cluster.wait_for_workers(1, timeout=30)
        with pytest.raises(WorkersTimeout, match=r"1 of 2 workers joined .* 1 pending"):
            cluster.wait_for_workers(2, timeout=0.2)
        wait_until(lambda: "1 pending (" in repr(cluster))
        assert "2 wanted: 1 running, 1 pending (" in repr(cluster)
        assert "2 wanted: 1 running, 1 pending (" in cluster._repr_html_()
        assert len(account.jobs()) == 1
        cluster.scale(1)
        wait_until(lambda: "1 wanted: 1 running," in repr(cluster) and len(account.jobs()) == 1)


def test_html_without_a_memory_limit_is_shown_too(account: Account) -> None:
    """Workers that nothing bounds have no memory to add up."""
    with account.cluster(memory=None, n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=30)
        wait_until(lambda: "workers: 1" in repr(cluster))
        assert "1 wanted: 1 running" in cluster._repr_html_()


def test_logs_of_jobs_are_gathered_and_kept_where_the_user_wants(account: Account) -> None:
    """Each is named by its path; the directory is the user's, so close leaves it."""
    logs = account.path / "my" / "logs"
    with account.cluster(n_workers=1, log_directory=str(logs)) as cluster:
        cluster.wait_for_workers(1, timeout=30)
        wait_until(lambda: any("1 workers joined" in text for text in cluster.get_logs().values()))
        [path] = [Path(name) for name in cluster.get_logs(workers=False) if name.endswith(".log")]
        assert path.parent == logs
        assert str(path) not in cluster.get_logs(jobs=False)
    account.wait_until_nothing_is_left()
    assert "ended" in path.read_text()


# -- failures explain themselves ------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"python": "/no/such/python"}, "cause: the node has no /no/such/python"),
        ({"fork_preload": ["no_such_module"]}, "no_such_module"),
        ({"job_script_prologue": ["echo the licence server said no", "exit 3"]}, "exit code 3"),
    ],
)
def test_jobs_that_die_at_start_are_explained_and_not_repeated_for_ever(
    account: Account, options: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One error with cause, job and the log's tail; nothing more until scale() is called."""
    with account.cluster("broken", **options) as cluster:
        cluster.scale(3)
        with pytest.raises(JobStartError, match=words) as caught:
            cluster.wait_for_workers(1, timeout=30)
        text = str(caught.value)
        assert "nothing more is submitted until scale() is called again" in text
        assert f"log {cluster.log_directory}" in text
        assert "    | " in text
        assert cluster.report()["jobs_submitted"] == 3
        assert "stopped after failures" in repr(cluster)
        rounds = cluster.head.controller.rounds
        cluster.sync(cluster.head.controller.round)
        assert cluster.head.controller.rounds == rounds + 1
        assert cluster.report()["jobs_submitted"] == 3
        cluster.scale(3)  # the user's word resumes
        wait_until(lambda: cluster.report()["jobs_submitted"] == 6)
        with pytest.raises(JobStartError):
            cluster.wait_for_workers(1, timeout=30)
    wait_until(lambda: not account.processes())
    assert all("/logs" in name or name == "broken" for name in account.left())
    assert any(name.endswith(".log") for name in account.left())  # the failure needs them


def test_html_escapes_what_a_job_wrote(account: Account) -> None:
    """A log is no markup."""
    prologue = ["echo '<script>alert(1)</script>'", "exit 1"]
    with account.cluster("escapes", job_script_prologue=prologue) as cluster:
        cluster.scale(3)
        with pytest.raises(JobStartError, match="<script>"):
            cluster.wait_for_workers(1, timeout=30)
        html = cluster._repr_html_()
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>" not in html


def test_a_refused_submission_is_raised_and_a_constructor_leaves_nothing(account: Account) -> None:
    """n_workers= at construction: the cluster that the caller never gets is closed."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO)
    logging.getLogger("distributed").addHandler(handler)
    try:
        with pytest.raises(SubmitRejected, match="--nosuch"):
            account.cluster(n_workers=1, job_extra_directives=["--nosuch"])
        assert handler.level == logging.INFO  # what was silenced for the cluster speaks again
    finally:
        logging.getLogger("distributed").removeHandler(handler)
    wait_until(lambda: not account.processes())


def test_a_name_is_used_once_at_a_time(account: Account) -> None:
    """The second cluster is refused, the first one lives on."""
    with account.cluster("twin", n_workers=1) as cluster:
        with pytest.raises(ClusterDirectoryError, match=f"its head is process {os.getpid()} on"):
            account.cluster("twin")
        cluster.wait_for_workers(1, timeout=30)
        assert Path(cluster.scheduler_file).exists()
    account.wait_until_nothing_is_left()


def test_a_directory_that_others_may_read_is_refused(account: Account) -> None:
    """With the command that mends it."""
    (account.home / "open").mkdir(parents=True, mode=0o700)
    account.home.chmod(0o700)
    (account.home / "open").chmod(0o755)
    with pytest.raises(ClusterDirectoryError, match=f"chmod 700 {account.home}/open"):
        account.cluster("open")
    account.home.chmod(0o750)
    with pytest.raises(ClusterDirectoryError, match=f"chmod 700 {account.home}"):
        account.cluster("other")
