"""Several pools in one cluster, on the embedded batch system."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pytest
from distributed import Client, Event, get_worker, wait

from dask_hpc import HPCCluster
from dask_hpc.cluster.pools import pool_of
from dask_hpc.errors import ConfigurationError, HPCError, WorkersTimeout
from tests.helpers import wait_until

if TYPE_CHECKING:
    from dask_hpc import LocalJobCluster
    from tests.integration.account import Account


def where(_: object = None) -> str | None:
    """Name of the pool that this runs in."""
    return pool_of(get_worker().state.total_resources)


def where_after(event: str, _: int) -> str | None:
    Event(event).wait(60)
    return where()


def where_in_a_moment(_: int) -> str | None:
    Event("never").wait(0.2)
    return where()


def square(n: int) -> int:
    return n * n


def live(cluster: LocalJobCluster) -> Counter[str]:
    """Jobs by pool that are not known to have ended."""
    arrays = cluster.head.controller.ledger.arrays.values()
    return Counter(tracked.pool for tracked in arrays for _ in tracked.live_indices())


def test_each_task_runs_in_the_pool_whose_resources_it_asks_for(account: Account) -> None:
    """By a resource of the user's, or by the pool's own; sizes are said pool by pool."""
    with account.cluster(n_workers=1) as cluster:
        cluster.add_pool("big", cores=2, processes=1, memory="600 MiB", resources={"WIDE": 2})
        assert cluster.pools == ("default", "big")
        cluster.scale(1, pool="big")
        cluster.wait_for_workers(1, timeout=30, pool="big")
        cluster.wait_for_workers(2, timeout=30)
        with cluster.get_client() as client:
            one = {"pure": False}
            assert client.submit(where, resources={"WIDE": 1}, **one).result() == "big"
            assert client.submit(where, resources={"pool-big": 1}, **one).result() == "big"
            assert client.submit(where, resources={"pool-default": 1}, **one).result() == "default"
            with dask.annotate(resources={"WIDE": 1}):
                wide = dask.delayed(where)()
            assert wide.compute() == "big"
            threads = client.nthreads()
        assert sorted(threads.values()) == [1, 2]
        assert "--nworkers 1 --nthreads 2" in cluster.job_script("big")
        assert "--nworkers 1 --nthreads 1" in cluster.job_script()
        path = Path(cluster.scheduler_file).parent / "job-big.sh"
        assert path.read_text() == cluster.job_script("big")
        cluster.scale({"default": 2, "big": 0})
        wait_until(lambda: live(cluster) == {"default": 2}, 30)
        cluster.wait_for_workers(2, timeout=30, pool="default")
        with pytest.raises(WorkersTimeout, match="0 of 1 workers joined pool big of cluster test"):
            cluster.wait_for_workers(1, timeout=0.1, pool="big")
    account.wait_until_nothing_is_left()


def test_pools_of_the_configuration_are_there_from_the_start(account: Account) -> None:
    """Keywords win over the configuration, pool by pool."""
    gpu = {"worker-extra-args": ["--resources GPU=1"]}
    configured = {"pools": {"big": {"cores": 2}, "gpu": gpu}}
    with (
        dask.config.set({"dask-hpc": configured}),
        account.cluster(pools={"big": {"cores": 3, "processes": 1}}) as cluster,
    ):
        assert cluster.pools == ("default", "big", "gpu")
        assert "--nworkers 1 --nthreads 3" in cluster.job_script("big")
        assert "--resources 'GPU=1 pool-gpu=inf'" in cluster.job_script("gpu")
        cluster.scale({"gpu": 1})
        cluster.wait_for_workers(1, timeout=30)
        with cluster.get_client() as client:
            assert client.submit(where, resources={"GPU": 1}).result() == "gpu"
    account.wait_until_nothing_is_left()


async def test_pools_are_made_in_an_event_loop(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With await, as the rest."""
    async with HPCCluster(
        batch="local",
        name="loop",
        cores=1,
        memory="500 MiB",
        dashboard_port=0,
        asynchronous=True,
    ) as cluster:
        await cluster.add_pool("one")
        await cluster.scale({"one": 1})
        await cluster.wait_for_workers(1, timeout=30, pool="one")
        with monkeypatch.context() as patch:
            patch.setattr(cluster.head.pools, "add", refuse)
            with pytest.raises(OSError, match="disk is full"):
                await cluster.add_pool("two")
        await cluster.add_pool("two")  # its name was not taken by what failed
        assert cluster.pools == ("default", "one", "two")
    await asyncio.to_thread(account.wait_until_nothing_is_left)


def refuse(*_: object) -> None:
    raise OSError("disk is full")


def test_mistakes_are_refused_before_anything_is_submitted(account: Account) -> None:
    """And the pools that there are stay as they are."""
    with account.cluster(cores=2) as cluster:
        cluster.add_pool("gpu", gpus=1)
        for name, options, message in (
            ("default", {}, "a pool 'default' already"),
            ("gpu", {}, "a pool 'gpu' already"),
            ("a b", {}, "cannot be called 'a b'"),
            ("x/y", {}, "cannot be called"),
            ("x", {"memroy": "1 GiB"}, r"pool x: a cluster has no option memroy=.*\n.*memory="),
            ("x", {"cores": 1, "processes": 2}, "pool x: 2 workers do not fit on 1 cores"),
            ("x", {"dashboard": False}, "pool x: dashboard= is no option of a pool"),
            ("x", {"n_workers": 1}, r"n_workers= is no option(.|\n)*scale\("),
            ("x", {"name": "y"}, "name= is no option of a pool"),
            ("x", {"resources": {"pool-y": 1}}, "resources= of a worker cannot be"),
            ("x", {"resources": "GPU=1"}, "must be a dict of numbers"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                cluster.add_pool(name, **options)
        for size, message in (
            ({"n": {"cpu": 1}}, r"has no pool 'cpu'(.|\n)*default, gpu"),
            ({"n": {"gpu": -1}}, "cannot scale to -1"),
            ({"n": {"gpu": 1}, "pool": "gpu"}, "workers of each pool alone"),
            ({"jobs": 1, "pool": "cpu"}, "has no pool 'cpu'"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                cluster.scale(**size)
        for call in (cluster.adapt, cluster.job_script, cluster.get_logs):
            with pytest.raises(ConfigurationError, match="has no pool 'cpu'"):
                call(pool="cpu")
        with pytest.raises(ConfigurationError, match="has no pool"):
            cluster.wait_for_workers(1, pool="cpu")
        assert cluster.pools == ("default", "gpu")
        assert cluster.report()["jobs_submitted"] == 0
    with pytest.raises(HPCError, match="is closed"):
        cluster.add_pool("late")
    with pytest.raises(ConfigurationError, match="pools= must be a dict"):
        account.cluster(pools=["gpu"])
    account.wait_until_nothing_is_left()


def test_a_pool_follows_its_own_tasks_from_nothing_and_back(account: Account) -> None:
    """Tasks of the default pool run all the while, and the size of one pool moves no other."""
    with account.cluster(pools={"gpu": {"resources": {"GPU": 1}}}) as cluster, Client(cluster) as c:
        cluster.adapt(maximum_jobs=2, patience="1s", interval="100ms")
        cluster.adapt(maximum_jobs=2, patience="1s", interval="100ms", pool="gpu")
        stream = c.map(where_in_a_moment, range(2000), pure=False)
        cluster.wait_for_workers(2, timeout=40, pool="default")
        assert live(cluster) == {"default": 2}
        there = c.map(where_after, ["gpu"] * 5, range(5), resources={"GPU": 1}, pure=False)
        cluster.wait_for_workers(2, timeout=40, pool="gpu")
        assert live(cluster) == {"default": 2, "gpu": 2}
        Event("gpu").set()
        assert c.gather(there) == ["gpu"] * 5
        del there
        wait_until(lambda: live(cluster) == {"default": 2}, 30)  # others' tasks do not keep them
        cluster.scale(1, pool="gpu")  # ends adapt() of that pool alone
        cluster.wait_for_workers(1, timeout=40, pool="gpu")
        assert not stream[-1].done()
        c.cancel(stream)
        wait_until(lambda: live(cluster) == {"gpu": 1}, 30)
        assert cluster.report()["jobs_submitted"] == 5
    account.wait_until_nothing_is_left()


def test_tasks_that_no_pool_can_run_are_told_of(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and no job is submitted for them."""
    with account.cluster(pools={"gpu": {"resources": {"GPU": 1}}}) as cluster, Client(cluster) as c:
        futures = [c.submit(where, resources={"GPU": 2}), c.submit(where, pure=False)]
        cluster.adapt(maximum_jobs=2, interval="50ms", pool="gpu")
        wait_until(lambda: "ask for GPU=2 wait: no pool of this cluster has it" in caplog.text)
        wait_until(lambda: "ask for nothing wait: pool default is to have no" in caplog.text)
        cluster.adapt(maximum_jobs=2, interval="50ms")
        assert futures[1].result(timeout=30) == "default"
        futures[0].cancel()
        assert cluster.report()["jobs_submitted"] == 1
    assert caplog.text.count("tasks that ask for") == 2


def test_a_look_that_fails_is_told_and_repeated(
    account: Account, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size would never change again."""
    with account.cluster() as cluster, Client(cluster) as client:
        scheduler, looks = cluster.head.scheduler, []

        def target(**_: Any) -> int:
            looks.append(1)
            if len(looks) == 1:
                raise KeyError("prefix")
            return 1

        monkeypatch.setattr(scheduler, "adaptive_target", target)
        cluster.adapt(maximum=1, interval="100ms")
        cluster.wait_for_workers(1, timeout=30)
        assert client.submit(square, 3).result() == 9
    assert "adapt() could not see what is needed; it looks again" in caplog.text
    assert "KeyError: 'prefix'" in caplog.text


def test_what_it_says_of_itself_tells_pools_apart(account: Account) -> None:
    """Where there are several."""
    with account.cluster(n_workers=1) as cluster:
        assert "jobs: 1 wanted:" in repr(cluster)
        cluster.add_pool("gpu", cores=2, gpus=2, processes=1)
        cluster.scale({"gpu": 1})
        cluster.wait_for_workers(2, timeout=30)
        gpu = worker_of(cluster, "gpu")
        assert (
            gpu.resources == cluster.head.pools.pools["gpu"].resources
        )  # known before one is there
        assert gpu.resources["GPU"] == 2
        text = "default 1 wanted: 1 running; gpu 1 wanted: 1 running"
        assert f"jobs: {text}, workers:" in repr(cluster)
        assert text in cluster._repr_html_()
        now = {"wanted": 1, "running": 1, "workers": 1}
        pools = cluster.report()["pools"]
        assert {name: {key: each[key] for key in now} for name, each in pools.items()} == {
            "default": now,
            "gpu": now,
        }
        mine = {"cluster": False, "scheduler": False, "workers": False}
        every = set(cluster.get_logs(**mine))
        [of_gpu] = cluster.get_logs(**mine, pool="gpu")
        [default] = cluster.get_logs(**mine, pool="default")
        assert every == {of_gpu, default}
    account.wait_until_nothing_is_left()


def test_a_result_outlives_the_preemptible_worker_that_computed_it(account: Account) -> None:
    """It was copied to a worker that stays: killed, nothing is computed again or lost."""
    with (
        dask.config.set({"distributed.scheduler.active-memory-manager.interval": "200ms"}),
        account.cluster(n_workers=1, memory="600 MiB") as cluster,
        Client(cluster) as client,
    ):
        cluster.add_pool("cheap", preemptible=True)
        cluster.scale(1, pool="cheap")
        cluster.wait_for_workers(2, timeout=30)
        cheap = {"resources": {"pool-cheap": 1}}
        ballast = client.submit(bytes, 1_000_000, resources={"pool-default": 1})
        futures = client.map(square, range(50), **cheap)
        wait([ballast, *futures])
        [scattered] = client.scatter([b"x" * 1000], workers=[worker_of(cluster, "cheap").address])
        tasks = cluster.head.scheduler.tasks
        keys = [future.key for future in (*futures, scattered)]
        wait_until(lambda: all(stays(cluster, tasks[key]) for key in keys))
        # The superfluous copies go from there, not from the fuller worker that stays.
        wait_until(lambda: not worker_of(cluster, "cheap").has_what)
        again = client.map(square, range(50, 60), **cheap)
        wait_until(lambda: all(stays(cluster, tasks[future.key]) for future in wait(again).done))
        address = worker_of(cluster, "cheap").address
        os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
        wait_until(lambda: address not in cluster.head.scheduler.workers)
        assert client.gather(futures) == [n * n for n in range(50)]
        assert client.gather(again) == [n * n for n in range(50, 60)]
        assert client.gather(scattered) == b"x" * 1000
        assert max(client.run_on_scheduler(times_computed).values()) == 1
    account.wait_until_nothing_is_left()


def worker_of(cluster: LocalJobCluster, pool: str) -> Any:
    workers = cluster.head.scheduler.workers.values()
    return next(ws for ws in workers if pool_of(ws.resources) == pool)


def stays(cluster: LocalJobCluster, task: Any) -> bool:
    return worker_of(cluster, "default") in (task.who_has or ())


def times_computed(dask_scheduler: Any) -> dict[str, int]:
    log = dask_scheduler.transition_log
    return Counter(str(key) for key, _, new, *_ in log if new == "processing")
