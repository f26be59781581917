"""A head in a process of its own, and clusters that are held from elsewhere."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from dask_hpc import HPCCluster, LocalJobCluster
from dask_hpc.cluster.head_client import HeadClient, client_context
from dask_hpc.cluster.known import clusters, find
from dask_hpc.cluster.security import ensure_identity
from dask_hpc.cluster.steering import operations
from dask_hpc.errors import (
    ClusterDirectoryError,
    ConfigurationError,
    HeadUnreachable,
    HPCError,
    SubmitRejected,
    UnknownCluster,
)
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from tests.helpers import wait_until
from tests.integration.account import Account

#: What a TLS server's refusal looks like from outside.
_SHUT = r"(?i)refused|certificate|reset|disconnected|EOF|closed|unknown.ca"

pytestmark = pytest.mark.timeout(90)


def detached(account: Account, **options: object) -> LocalJobCluster:
    return account.cluster("out", head="detached", **options)


def ask(url: str, context: ssl.SSLContext | None) -> Any:
    with urllib.request.urlopen(url, b"{}", timeout=5, context=context) as answer:  # noqa: S310
        return json.load(answer)


def head_of(name: str) -> psutil.Process:
    return psutil.Process(find(name).pid)


def test_it_goes_on_without_its_maker_and_ends_when_it_is_shut_down(account: Account) -> None:
    """Closed here, attached there: the same jobs, the same results; nothing is left in the end."""
    with detached(account, n_workers=2) as cluster:
        cluster.wait_for_workers(2, timeout=60)
        with cluster.get_client() as client:
            future = client.submit(sum, [1, 2, 3], key="kept")
            assert future.result(timeout=30) == 6
            client.publish_dataset(kept=future)
    head = head_of("out")
    with HPCCluster.attach("out") as again, again.get_client() as client:
        assert client.get_dataset("kept").result(timeout=30) == 6
        client.unpublish_dataset("kept")
        again.scale(3)
        again.wait_for_workers(3, timeout=60)
        assert "3 wanted: 3 running" in repr(again)
        assert "out" in str(again.report())
        assert again.job_script().startswith("#!")
        assert any("workers joined" in log for log in again.get_logs().values())
        again.shutdown()
    head.wait(10)
    account.wait_until_nothing_is_left()


def test_a_head_in_a_job_submits_from_there(account: Account) -> None:
    """Its job has a size and a deadline of its own; both are told, and it ends with the cluster."""
    mine = {"walltime": "20 min", "memory": "1 GiB"}
    cluster = account.cluster("out", head="job", head_options=mine, n_workers=1, walltime="5 min")
    with cluster, cluster.get_client() as client:
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        view = HeadClient(find("out")).view()
        assert (view["head"], len(view["jobs"])) == ("job", 1)
        assert view["head_deadline"] is not None
        assert 1000 < view["head_deadline"] - view["now"] < 1200
        assert find(f"local:{view['head_job']}").name == "out"
        with pytest.raises(ConfigurationError, match="local has no command that gives a job more"):
            cluster.renew("1 h")
        with pytest.raises(ConfigurationError, match="not a walltime: 'soon'"):
            cluster.renew("soon")
        cluster.shutdown()
    account.wait_until_nothing_is_left()


def test_what_keeps_a_heads_job_from_starting_is_raised_here(account: Account) -> None:
    """An option that is none, a refusal, an error of the head itself: nothing is left of it."""
    with pytest.raises(ConfigurationError, match=r"head_options: .*cheese"):
        account.cluster("out", head="job", head_options={"cheese": 1})
    with pytest.raises(SubmitRejected, match="--nosuch"):
        account.cluster("out", head="job", head_options={"job_extra_directives": ["--nosuch"]})
    with pytest.raises(ConfigurationError, match="cannot listen"):
        account.cluster("out", head="job", scheduler_interface="nosuch0")
    with pytest.raises(HPCError, match="before it could start: broken"):
        account.cluster(
            "out", head="job", head_options={"job_script_prologue": ["echo broken; exit 1"]}
        )
    account.wait_until_nothing_is_left()


async def test_it_can_be_awaited(account: Account) -> None:
    """In an event loop all that changes something is awaited."""
    async with detached(account, asynchronous=True) as cluster:
        await cluster.scale(1)
        await cluster.wait_for_workers(1, timeout=60)
        async with HPCCluster.attach("out", asynchronous=True) as other:
            await other.add_pool("more", cores=1)
            await other.adapt(minimum=0, maximum=2, pool="more")
            assert other.pools == ("default", "more")
            with pytest.raises(ConfigurationError, match="no pool 'less'"):
                await other.scale(1, pool="less")
            await other.shutdown()
    account.wait_until_nothing_is_left()


def test_two_that_hold_it_both_see_its_workers(account: Account) -> None:
    """The engine's list of workers follows in each of them, not in the last one alone."""
    with detached(account) as cluster, HPCCluster.attach("out") as other:
        other.scale(2)
        for each in (cluster, other):
            wait_until(lambda each=each: len(each.scheduler_info["workers"]) == 2, 60)
        cluster.shutdown()
        with pytest.raises(HPCError):
            other.scale(1)
    account.wait_until_nothing_is_left()


def test_what_keeps_a_head_from_starting_is_raised_here(account: Account) -> None:
    """In the head's own words; nothing is left, nothing overwritten."""
    with pytest.raises(SubmitRejected, match="--nosuch"):
        detached(account, job_extra_directives=["--nosuch"], n_workers=1)
    with detached(account) as cluster:
        before = Path(cluster.scheduler_file).read_text()
        with pytest.raises(ClusterDirectoryError, match="a cluster out runs already"):
            detached(account)
        with pytest.raises(ConfigurationError, match="the head of cluster out runs in no job"):
            cluster.renew("1 h")
        assert Path(cluster.scheduler_file).read_text() == before
        cluster.shutdown()
    with pytest.raises(ConfigurationError, match="cannot run 'there'"):
        account.cluster(head="there")
    account.wait_until_nothing_is_left()


def test_clusters_are_found_by_name_file_and_job(account: Account) -> None:
    """Also one whose head is here; a word that is none is told which there are."""
    with account.cluster("first", n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=60)
        (known,) = clusters()
        assert (known.name, known.batch, known.head, known.alive) == (
            "first",
            "local",
            "here",
            True,
        )
        job = HeadClient(known).view()["jobs"][0]["id"]
        for what in ("first", cluster.scheduler_file, f"local:{job}"):
            assert find(what) == known
        with pytest.raises(UnknownCluster, match=r"no cluster 'frist'\n.*did you mean first"):
            find("frist")
        with HPCCluster.attach(f"local:{job}") as other:
            assert other.scheduler_address == cluster.scheduler_address
            other.shutdown()
        assert "closed" in repr(cluster)
    account.wait_until_nothing_is_left()


def test_a_signal_ends_it_in_order(account: Account) -> None:
    """So that `kill`, and a machine that shuts down, leave no job behind."""
    with detached(account, n_workers=1) as cluster:
        cluster.wait_for_workers(1, timeout=60)
        head = head_of("out")
        head.send_signal(signal.SIGHUP)
        assert HeadClient(find("out")).view()["status"] == "running"
        head.terminate()
        head.wait(30)
    account.wait_until_nothing_is_left()


def test_files_and_words_of_a_head_tell_others_nothing(account: Account) -> None:
    """Modes of what it writes; its command line and environment."""
    with detached(account) as cluster:
        directory = Path(cluster.scheduler_file).parent
        for path in directory.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        token = cluster.dashboard_help.partition("token=")[2]
        head = head_of("out")
        assert token
        assert token not in " ".join(head.cmdline())
        assert token not in head.environ().values()
        cluster.shutdown()


def test_the_control_channel_lets_nobody_in_without_the_identity(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a certificate, with another user's, without TLS: no request is heard."""
    with account.cluster("first") as cluster:
        found = rendezvous.read(Path(cluster.scheduler_file))
        url = f"://127.0.0.1:{found.control}/view"
        mine = ensure_identity()
        nobody = ssl.create_default_context(cafile=mine.ca_file)
        nobody.check_hostname = False
        monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "bob"))
        others = ensure_identity()
        bob = client_context(TLSFiles(mine.ca_file, others.cert, others.key))  # who knows our CA
        monkeypatch.undo()
        for context in (nobody, bob):
            with pytest.raises(OSError, match=_SHUT):
                ask(f"https{url}", context)
        with pytest.raises(OSError, match=_SHUT):
            ask(f"http{url}", None)
        with pytest.raises(OSError, match=_SHUT):  # nor do we talk with an impostor
            ask(f"https{url}", client_context(others))
        assert ask(f"https{url}", client_context(mine))["answer"]["name"] == "first"


async def test_who_waits_for_news_hears_of_the_end(account: Account) -> None:
    """Else the process of the head would wait for them, until it loses patience."""
    there = []
    async with account.cluster("first", asynchronous=True) as cluster:
        wait = operations(cluster.steering, cluster.finish)["wait"]

        async def ask_again_and_again() -> None:
            changes = 0
            while True:
                changes = (await wait(changes, 30.0))["changes"]
                there.append(cluster.directory.path.exists())

        asking = asyncio.create_task(ask_again_and_again())
    async with asyncio.timeout(5):
        while there[-1:] != [False]:
            await asyncio.sleep(0.01)
    asking.cancel()


def test_what_the_head_does_not_know_is_said(account: Account) -> None:
    """An operation of a newer version, an argument that is none, a head that is gone."""
    with account.cluster("first"):
        known = find("first")
        client = HeadClient(known)
        with pytest.raises(HPCError, match="knows no operation 'fly'"):
            client.call("fly")
        with pytest.raises(HPCError, match="unexpected keyword"):
            client.call("view", hobs=1)
    with pytest.raises(HeadUnreachable, match="does not answer"):
        client.view()


def test_commands_need_no_engine() -> None:
    """What asks a head imports neither dask nor distributed: it must be fast."""
    words = "import sys, dask_hpc.cluster.head_client, dask_hpc.cluster.known\n"
    words += "print(*{'dask', 'distributed', 'tornado', 'jinja2'} & set(sys.modules))"
    told = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == ""
