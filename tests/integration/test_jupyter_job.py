"""A real JupyterLab in a job of its own, on the ``local`` batch system."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import ssl
import stat
import time
from pathlib import Path

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from click.testing import CliRunner

from dask_hpc import HPCCluster
from dask_hpc.cli.entry import hpc
from dask_hpc.cluster.head_client import hosts
from dask_hpc.cluster.known import find
from dask_hpc.cluster.lab_job import LabJob
from dask_hpc.control.journal import read
from dask_hpc.errors import ConfigurationError, JupyterError, SubmitRejected
from dask_hpc.jupyter.reach import Listen, Reach
from dask_hpc.launch import rendezvous
from tests.helpers import wait_until
from tests.integration.account import Account
from tests.integration.labs import Browser, shut

pytestmark = pytest.mark.timeout(120)

JOB = {"memory": "1 GiB", "walltime": "20 min"}
COMPUTE = """
import dask_hpc
with dask_hpc.connect() as client:
    print(client.place, client.submit(sum, range(100)).result())
"""
HELD = """
import json, threading
with LocalJobCluster(**options) as cluster:
    there = cluster.jupyter(job={"memory": "1 GiB"})
    print(json.dumps(there.to_json()), flush=True)
    threading.Event().wait()
"""


def browser(account: Account, reach: Reach, token: str = "") -> Browser:
    trusted = ssl.create_default_context(cafile=account.home / "tls" / "ca.pem")
    return Browser(reach, token, trusted)


def of_lab(account: Account) -> list[int]:
    """Processes of the job: its own, the server, kernels."""
    name = "DASK_HPC_SCHEDULER_FILE"
    words = (f"{name}={account.home}", "lab_process")
    return [
        process.pid
        for process in account.processes()
        if any(word.encode() in _words(process.pid) for word in words)
    ]


def _words(pid: int) -> bytes:
    try:
        proc = Path("/proc") / str(pid)
        return (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    except OSError:
        return b""


def control_channel_as_nobody(account: Account) -> None:
    found = rendezvous.read(account.home / "test" / "scheduler.json")
    trusted = ssl.create_default_context(cafile=account.home / "tls" / "ca.pem")
    trusted.check_hostname = False
    [host, *_] = hosts(found)
    connection = http.client.HTTPSConnection(host, found.control, timeout=20, context=trusted)
    with contextlib.closing(connection):
        connection.request("GET", "/status")
        print(connection.getresponse().read())


async def dashboard_moves(owner: Browser) -> bool:
    """Its page, bokeh's files and the websocket that all data comes by."""
    page = await asyncio.to_thread(owner.ask, "/dask/status")
    assert (page.status, b"bokeh" in page.body.lower()) == (200, True), page
    assert (await asyncio.to_thread(owner.ask, "/dask/static/js/bokeh.min.js")).status == 200
    token = generate_jwt_token(generate_session_id())
    connection = await owner.socket("/dask/status/ws", ["bokeh", token])
    said = str(await asyncio.wait_for(connection.read_message(), 20))
    await shut(connection)
    return "ACK" in said


async def test_from_its_job_it_serves_its_owner_until_it_is_stopped(account: Account) -> None:
    """The door, the dashboard, a kernel that computes, the second who asks, no secret; the end."""
    async with account.cluster(asynchronous=True, n_workers=1) as cluster:
        reach = await cluster.jupyter(job=JOB, root=account.path)
        assert (reach.listen, bool(reach.job)) == (Listen.NETWORK, True)
        assert 1000 < reach.until - time.time() < 1200
        assert find(f"local:{reach.job}").name == "test"

        stranger, owner = browser(account, reach), browser(account, reach, reach.token)
        for path in ("/api/status", "/api/contents", "/dask/status"):
            refused = await asyncio.to_thread(stranger.ask, path)
            assert refused.status in (302, 403), path
        assert (await asyncio.to_thread(owner.ask, "/api/status")).status == 200
        with pytest.raises(ssl.SSLError):  # the job gets there as the owner, nobody without that
            await asyncio.to_thread(control_channel_as_nobody, account)
        assert await dashboard_moves(owner)
        assert (await owner.run(COMPUTE)).endswith("scheduler-file 4950\n")

        assert await cluster.jupyter() == await cluster.jupyter(job=JOB) == reach
        with pytest.raises(ConfigurationError, match="listens at network"):
            await cluster.jupyter("socket")
        told = await asyncio.to_thread(
            CliRunner().invoke, hpc, ["jupyter", "test", "--job", "--json"]
        )
        assert json.loads(told.stdout)["token"] == reach.token

        shown = b"".join(map(_words, of_lab(account)))
        shown += b"".join(path.read_bytes() for path in account.home.rglob("*.log"))
        assert b"lab_process" in shown
        assert reach.token.encode() not in shown
        for path in (account.home / "test").rglob("*"):
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path

        await cluster.stop_jupyter()
        assert of_lab(account) == []
        assert not (account.home / "test" / "jupyter").exists()
        assert cluster.scheduler_info["workers"]
    account.wait_until_nothing_is_left()


def test_what_keeps_it_from_starting_is_raised(account: Account) -> None:
    """An option that is none, a refusal, a job that fails, JupyterLab itself; then it is there."""
    with account.cluster() as cluster:
        with pytest.raises(ConfigurationError, match=r"job: .*cheese"):
            cluster.jupyter(job={"cheese": 1})
        with pytest.raises(SubmitRejected, match="--nosuch"):
            cluster.jupyter(job={"job_extra_directives": ["--nosuch"]})
        with pytest.raises(JupyterError, match=r"before it could be reached(?s:.*)broken"):
            cluster.jupyter(job={**JOB, "job_script_prologue": ["echo broken; exit 1"]})
        with pytest.raises(JupyterError, match=r"ended with status 1 as it started(?s:.*)nosuch"):
            cluster.jupyter(job=JOB, root=account.path / "nosuch")
        reach = cluster.jupyter("socket", job=JOB)
        assert Browser(reach, reach.token).ask("/api/status").status == 200
        job = reach.job
        os.kill(_server(account), signal.SIGKILL)
        with pytest.raises(JupyterError, match="ended with status -9"):
            wait_until(lambda: cluster.jupyter().job != job)
    account.wait_until_nothing_is_left()


def _server(account: Account) -> int:
    [pid] = [pid for pid in of_lab(account) if b"dask_hpc.jupyter.serve" in _words(pid)]
    return pid


def test_a_head_that_is_killed_leaves_none(account: Account) -> None:
    """Its guardian cancels the job, and with the scheduler file the server ends by itself."""
    held = account.start(HELD)
    reach = Reach.from_json(json.loads(held.stdout.readline()))
    assert browser(account, reach, reach.token).ask("/api/status").status == 200
    os.kill(held.pid, signal.SIGKILL)
    held.communicate()
    wait_until(lambda: not account.processes(), 30)
    assert not (account.home / "script" / "jupyter").exists()


def test_a_job_that_is_not_known_to_have_ended_is_left_to_the_guardian(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch system did not answer when the cluster closed: its journal tells of the job."""

    async def unanswered(self: LabJob) -> list[str]:
        return ["4711"]

    with account.cluster() as cluster:
        cluster.jupyter(job=JOB)
        monkeypatch.setattr(LabJob, "close", unanswered)
        with pytest.raises(JupyterError, match="4711, is not known to have ended"):
            cluster.stop_jupyter()
    assert "jobs 4711 of cluster test may be left" in caplog.text
    wait_until(lambda: not account.processes(), 30)
    events = list(read(account.home / "test" / "journal.jsonl"))
    assert [each["event"] for each in events[-3:]] == ["closed", "closing", "closed"]


async def test_it_outlives_a_detached_head_and_is_found_by_the_next(account: Account) -> None:
    """Same server, same kernels; the dashboard in it is the new head's."""
    cluster = await asyncio.to_thread(account.cluster, head="detached", name="out")
    with cluster:
        reach = await asyncio.to_thread(cluster.jupyter, job=JOB)
        owner = browser(account, reach, reach.token)
        assert await dashboard_moves(owner)
    first = find("out").pid
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: find("out").pid != first, 40)
    with await asyncio.to_thread(HPCCluster.attach, "out") as attached:
        assert await asyncio.to_thread(attached.jupyter) == reach
        assert await dashboard_moves(owner)
        await asyncio.to_thread(attached.shutdown)
    account.wait_until_nothing_is_left()
