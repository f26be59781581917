"""Tools that look for clusters find ours: the real dask-ctl, and JupyterLab's real extension."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tornado.web import HTTPError

from dask_hpc import HPCCluster, LocalJobCluster
from dask_hpc.cluster import lab_panel
from dask_hpc.cluster.discovery import DiscoveredCluster, ManagedCluster, discover, living
from dask_hpc.cluster.known import clusters
from dask_hpc.cluster.lab_panel import Panel
from dask_hpc.errors import HPCError
from tests.helpers import wait_until
from tests.integration.account import Account

JOB = {"cores": 1, "memory": "512 MiB"}

#: ``dask cluster``.  The newest dask-ctl (2024.1.0) imports a function that the engine no longer
#: has (``distributed.cli.utils.install_signal_handlers``); with it, the rest is the real one.
DASK_CLUSTER = """
import sys
import distributed.cli.utils as utils
if not hasattr(utils, "install_signal_handlers"):
    utils.install_signal_handlers = lambda loop: None
from dask_ctl.cli import cluster
cluster.main(sys.argv[1:], prog_name="dask cluster")
"""


@pytest.fixture
def detached(account: Account) -> Iterator[HPCCluster]:
    """A cluster whose head is a process of its own."""
    with LocalJobCluster(name="mine", head="detached", **JOB) as cluster:
        yield cluster
        if living():
            cluster.shutdown()


def dask(account: Account, *words: str) -> str:
    """What a command of dask-ctl prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DASK_CLUSTER, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
        cwd=account.path,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dask_ctl_lists_and_ends_clusters(account: Account, detached: HPCCluster) -> None:
    """By name, with workers and status; ``delete`` ends one, jobs and head."""
    pytest.importorskip("dask_ctl")
    detached.scale(1)
    detached.wait_for_workers(1, timeout=40)
    (row,) = [line for line in dask(account, "list", "hpc").splitlines() if "mine" in line]
    assert row.split()[-1] == "Running"
    assert row.split()[4] == "1"
    assert [each.name for each in living()] == ["mine"]  # listing ends nothing
    dask(account, "delete", "mine")
    assert living() == []
    assert clusters() == []


def test_dask_ctl_makes_a_cluster_that_stays(account: Account, tmp_path: Path) -> None:
    """From a file, as its own documentation has it, with a detached head."""
    pytest.importorskip("dask_ctl")
    options = {"name": "made", "head": "detached", **JOB}
    spec = {"version": 1, "module": "dask_hpc", "class": "LocalJobCluster", "kwargs": options}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    assert "Created cluster made" in dask(account, "create", "-f", str(tmp_path / "spec.yaml"))
    assert [each.name for each in living()] == ["made"]
    HPCCluster.attach("made").shutdown()


def test_a_cluster_is_found_by_its_name(account: Account, detached: HPCCluster) -> None:
    """As dask-ctl asks: in an event loop, for an object that needs none; leaving ends nothing."""

    async def ask() -> list[tuple[str, type[DiscoveredCluster]]]:
        return [each async for each in discover()]

    ((name, found),) = asyncio.run(ask())
    assert (name, found) == ("mine", DiscoveredCluster)
    with found.from_name(name) as cluster:
        assert cluster.name == "mine"
        assert "HPCCluster.attach('mine')" in cluster.get_snippet()
        cluster.scale(1)
    assert [each.name for each in living()] == ["mine"]


def test_a_head_that_was_killed_is_not_listed(account: Account, detached: HPCCluster) -> None:
    """Its directory is left, but nothing is said of it that cannot be held; the next one is."""
    (known,) = clusters()
    os.kill(known.pid, signal.SIGKILL)
    assert living() == []
    wait_until(living, 20)
    HPCCluster.attach("mine").shutdown()


def test_a_managed_cluster_ends_when_it_is_closed(account: Account) -> None:
    """Wherever its head runs; ``with`` alone leaves a detached one."""
    for head in ("here", "detached"):
        cluster = ManagedCluster(batch="local", name=f"tool-{head}", head=head, **JOB)
        assert [each.name for each in living()] == [f"tool-{head}"]
        cluster.close()
        assert living() == []
    with ManagedCluster(batch="local", name="stays", head="detached", **JOB):
        pass
    assert [each.name for each in living()] == ["stays"]
    HPCCluster.attach("stays").shutdown()


# -- JupyterLab's extension -----------------------------------------------------------------------


@pytest.fixture
async def manager(account: Account, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The extension's own, which makes clusters of ours."""
    module = pytest.importorskip("dask_labextension.manager")
    import dask

    factory = {
        "module": "dask_hpc.cluster.discovery",
        "class": "ManagedCluster",
        "args": [],
        "kwargs": {"batch": "local", "head": "detached", "name": "lab", **JOB},
    }
    panel = {"factory": factory, "default": {"workers": None, "adapt": None}, "initial": []}
    with dask.config.set({"labextension": panel}):
        async with module.DaskClusterManager() as manager:
            yield manager


async def test_the_panel_makes_scales_adapts_and_ends_clusters(manager: Any) -> None:
    """With its own buttons."""
    model = await manager.start_cluster(configuration={"adapt": {"minimum": 0, "maximum": 2}})
    assert model["adapt"] == {"minimum": 0, "maximum": 2}
    key = model["id"]
    assert "adapt" not in await manager.scale_cluster(key, 1)
    cluster = manager._clusters[key]
    await asyncio.wait_for(cluster.wait_for_workers(1), 40)
    await asyncio.to_thread(wait_until, lambda: manager.get_cluster(key)["workers"] == 1)
    assert manager.adapt_cluster(key, 1, 3)["adapt"] == {"minimum": 1, "maximum": 3}
    await manager.close_cluster(key)
    assert await asyncio.to_thread(living) == []


async def test_the_panel_lists_clusters_as_they_come_and_go(manager: Any) -> None:
    """Made anywhere; what is ended in the panel is ended, and what is ended elsewhere vanishes."""
    panel = Panel(manager)

    async def made(name: str) -> None:
        async with HPCCluster(batch="local", name=name, head="detached", asynchronous=True, **JOB):
            pass

    await made("one")
    await made("two")
    await panel.refresh()
    listed = {each["name"]: each["id"] for each in manager.list_clusters()}
    assert set(listed) == {"one", "two"}
    assert set(panel.tokens) == set(listed.values())
    await panel.refresh()  # once more changes nothing
    assert {each["name"]: each["id"] for each in manager.list_clusters()} == listed
    await manager.close_cluster(listed["one"])
    assert [each.name for each in await asyncio.to_thread(living)] == ["two"]
    other = await HPCCluster.attach("two", asynchronous=True)
    await other.shutdown()
    await panel.refresh()
    assert manager.list_clusters() == []
    assert panel.tokens == {}


async def test_a_cluster_whose_end_fails_is_dropped_once_its_head_is_gone(manager: Any) -> None:
    """The button says what went wrong; the list is right again at the next look."""
    panel = Panel(manager)
    options = {"batch": "local", "name": "lab", "head": "detached", **JOB}
    async with HPCCluster(asynchronous=True, **options):
        await panel.refresh()
    (model,) = manager.list_clusters()
    (known,) = clusters()
    os.kill(known.pid, signal.SIGKILL)
    with pytest.raises(HPCError):
        await manager.close_cluster(model["id"])
    await panel.refresh()
    assert manager.list_clusters() == []


async def test_a_dashboard_on_another_machine_is_not_shown(
    manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens on loopback there: this port here may be anybody's, who would get the token."""
    panel = Panel(manager)
    model = await manager.start_cluster()
    with monkeypatch.context() as patch:
        patch.setattr(lab_panel.socket, "gethostname", lambda: "another")
        await panel.refresh()
    assert panel.tokens == {}
    handler = object.__new__(lab_panel._dashboard_handler(panel))
    with pytest.raises(HTTPError, match="404"):
        handler._ask(model["id"])
    handler._ask("of-another-kind")  # a LocalCluster's is the extension's own business
    await panel.refresh()
    assert set(panel.tokens) == {model["id"]}
    await manager.close_cluster(model["id"])


async def test_what_the_panel_makes_is_listed_once(manager: Any) -> None:
    """Although a look at the directories finds it too, perhaps before its maker has it."""
    panel = Panel(manager)
    starting = asyncio.ensure_future(manager.start_cluster())
    while not starting.done():
        await panel.refresh()
    await panel.refresh()
    (model,) = manager.list_clusters()
    assert model["id"] == starting.result()["id"]
    assert isinstance(manager._clusters[model["id"]], ManagedCluster)
    assert not isinstance(manager._clusters[model["id"]], DiscoveredCluster)
    await manager.close_cluster(model["id"])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


class Server:
    """A Jupyter server of the account, with both extensions."""

    KNOWN: ClassVar[dict[str, str]] = {"Authorization": "token open"}

    def __init__(self, account: Account) -> None:
        extensions = {"dask_hpc.cluster.lab_panel": True, "dask_labextension": True}
        runtime = account.path / "runtime"
        command = [
            *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"),
            *("--ServerApp.port=0", "--ServerApp.ip=127.0.0.1"),
            f"--ServerApp.jpserver_extensions={extensions}",
        ]
        environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_TOKEN": "open"}
        with (account.path / "jupyter.log").open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=account.path, env=environment, stderr=log, stdout=log
            )
        told = wait_until(lambda: list(runtime.glob("jpserver-*.json")), 30)
        port = json.loads(told[0].read_text())["port"]
        self.address = f"127.0.0.1:{port}"
        wait_until(lambda: _listens(port), 20)  # it tells a moment before it does

    def ask(self, path: str, method: str = "GET", *, known: bool = True) -> tuple[int, Any]:
        """Make one request, as somebody who knows the token; status, and JSON if there is any."""
        headers = self.KNOWN if known else {}
        connection = http.client.HTTPConnection(self.address, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, f"/dask/{path}", headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text and answer.status == 200 else None


def test_a_jupyter_server_shows_clusters_and_their_dashboards(
    account: Account, detached: HPCCluster
) -> None:
    """To who may use the server; SHUTDOWN there ends a cluster."""
    pytest.importorskip("dask_labextension")
    from bokeh.client import pull_session

    server = Server(account)
    try:
        (model,) = wait_until(lambda: server.ask("clusters")[1], 20)
        assert model["name"] == "mine"
        page = f"dashboard/{model['id']}/individual-plots.json"
        status, pages = server.ask(page)
        assert status == 200
        assert "Individual Task Stream" in pages
        # a page lives on its websocket
        plot = f"http://{server.address}/dask/dashboard/{model['id']}/individual-task-stream"
        session = pull_session(url=plot, arguments={"token": "open"})
        assert session.document.roots
        session.close()
        assert server.ask(page, known=False)[0] == 302  # to the login page
        assert server.ask(f"clusters/{model['id']}", "DELETE")[0] == 204
        assert living() == []
        assert server.ask("clusters") == (200, [])
    finally:
        server.process.terminate()
        server.process.wait(20)
