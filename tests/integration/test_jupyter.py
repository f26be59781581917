"""A real JupyterLab beside a real scheduler: it opens for its owner, and ends with the cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from tornado.httpclient import HTTPClientError

from dask_hpc import HPCCluster, LocalJobCluster
from dask_hpc.errors import ConfigurationError, JupyterError
from dask_hpc.jupyter import server
from dask_hpc.jupyter.reach import Reach
from tests.helpers import wait_until
from tests.integration.account import Account, kill
from tests.integration.conftest import new_account
from tests.integration.labs import Browser

pytestmark = pytest.mark.timeout(120)

#: What careless users have in their files: Jupyter's own documentation of 2015 said so.
CARELESS = """
c = get_config()
c.ServerApp.token = c.IdentityProvider.token = c.PasswordIdentityProvider.token = ""
c.ServerApp.password = ""
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 9999
c.ServerApp.sock = ""
c.ServerApp.allow_origin = "*"
c.ServerApp.allow_remote_access = True
c.ServerApp.allow_unauthenticated_access = True
c.ServerApp.disable_check_xsrf = True
c.ServerApp.certfile = ""
c.KernelManager.transport = "tcp"
c.ContentsManager.untitled_notebook = "Mine"
"""
COMPUTE = """
import dask_hpc
with dask_hpc.connect() as client:
    print(client.place, client.submit(sum, range(100)).result())
"""
JLAB = """
def start_jlab(dask_scheduler):
    import subprocess
    command = [{jupyter!r}, "lab", "--ip", "127.0.0.1", "--no-browser", "--allow-root"]
    proc = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    dask_scheduler.jlab_proc = proc
"""
HELD = """
import json, threading
with LocalJobCluster(**options) as cluster:
    print(json.dumps(cluster.jupyter("socket").to_json()), flush=True)
    threading.Event().wait()
"""


@pytest.fixture(scope="module")
def account_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    path = tmp_path_factory.mktemp("a")
    with pytest.MonkeyPatch.context() as monkeypatch, new_account(path, monkeypatch) as account:
        yield account


@pytest.fixture(scope="module")
def cluster(account_of_module: Account) -> Iterator[LocalJobCluster]:
    with account_of_module.cluster() as running:
        yield running


@pytest.fixture(scope="module")
def reach(cluster: LocalJobCluster) -> Reach:
    """Of a server at a socket, which the tests of this module share."""
    return cluster.jupyter("socket")


@pytest.fixture(scope="module")
def owner(reach: Reach) -> Browser:
    return Browser(reach, reach.token)


@pytest.fixture
def stranger(reach: Reach) -> Browser:
    """Who reached the socket all the same: the directory keeps out everybody else."""
    return Browser(reach)


def tree(reach: Reach) -> list[psutil.Process]:
    """The server's process and all below it."""
    for process in psutil.Process().children():
        if "dask_hpc.jupyter.serve" in process.cmdline():
            return [process, *process.children(recursive=True)]
    raise AssertionError("no server runs")


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Addresses on which it takes connections from the network or this machine's other users."""
    return {
        (connection.laddr.ip, connection.laddr.port)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


class TestTheDoor:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/status", 403),
            ("/api/contents", 403),
            ("/api/kernels", 403),
            ("/api/terminals", 403),
            ("/lab", 302),
            ("/lab?token=wrong", 302),
            ("/files/notes.txt", 302),
        ],
    )
    def test_nothing_is_shown_without_the_token(self, stranger, path, status):
        """Pages send to the login, everything else is forbidden."""
        answer = stranger.ask(path)
        assert answer.status == status
        assert answer.headers.get("Location", "/login").startswith("/login")

    def test_the_dashboard_is_not_shown_without_the_token(self, stranger):
        """The proxy has the dashboard's token, and lends it to the owner alone."""
        answer = stranger.ask("/dask/status")
        assert answer.status in (302, 403, 500)
        assert b"bokeh" not in answer.body.lower()

    def test_nobody_starts_a_kernel_without_the_token(self, stranger):
        """A request that changes something is refused, too."""
        assert stranger.ask("/api/kernels", "POST", {"name": "python3"}).status == 403

    def test_a_page_of_another_name_is_refused(self, owner):
        """What a hostile name server would send the owner's browser to: by the Host header."""
        elsewhere = Browser(owner.reach, owner.token, headers={"Host": "evil.example:8888"})
        assert elsewhere.ask("/api/status").status == 403

    async def test_no_websocket_opens_without_the_token(self, stranger):
        """Neither the dashboard's nor a kernel's."""
        for path in ("/dask/status/ws", "/api/kernels/x/channels"):
            with pytest.raises(HTTPClientError, match=r"403|302"):
                await stranger.socket(path, [])

    def test_the_link_opens_it(self, reach, stranger):
        """What is printed leads to the page and leaves a cookie."""
        path = str(reach).split("localhost", 1)[1].split()[0].partition("/")[2]
        answer = stranger.ask("/" + path)
        assert answer.status == 200
        assert b"JupyterLab" in answer.body
        assert "Set-Cookie" in answer.headers


class TestBesideTheScheduler:
    def test_the_dashboard_is_reached_through_it(self, owner):
        """Its pages and bokeh's files, below /dask/."""
        page = owner.ask("/dask/status")
        assert (page.status, b"bokeh" in page.body.lower()) == (200, True)
        assert owner.ask("/dask/static/js/bokeh.min.js").status == 200

    async def test_the_dashboards_websocket_opens_through_it(self, owner):
        """All the data comes this way."""
        token = generate_jwt_token(generate_session_id())
        connection = await owner.socket("/dask/status/ws", ["bokeh", token])
        assert "ACK" in str(await asyncio.wait_for(connection.read_message(), 20))
        connection.close()

    async def test_a_kernel_finds_the_cluster_and_computes(self, cluster, owner):
        """No argument, no file name: the environment names the scheduler file."""
        cluster.scale(jobs=1)
        assert (await owner.run(COMPUTE)).endswith("scheduler-file 4950\n")

    async def test_nobody_else_can_read_along(self, owner, reach):
        """Server and kernels are reached at sockets in the private directory alone.

        The one port of a kernel that is left takes the output of processes that it forked, and
        only with the kernel's secret; nothing can be read there.
        """
        assert await owner.run("print(6 * 7)") == "42\n"
        server_itself, *kernels = tree(reach)
        assert listening(server_itself) == set()
        assert kernels
        for kernel in kernels:
            assert len(listening(kernel)) <= 1
        files = list(Path(reach.socket).parent.glob("kernel-*.json"))
        assert files
        assert {json.loads(file.read_text())["transport"] for file in files} == {"ipc"}

    def test_no_secret_shows(self, cluster, owner, reach):
        """Not in arguments, environments, the log or a file that others may read."""
        owner.ask(f"/lab?token={reach.token}")
        secrets = (reach.token, cluster.head.scheduler.dashboard_token)
        folder = Path(reach.socket).parent
        shown = [(folder / "server.log").read_text()]
        for process in tree(reach):
            proc = Path("/proc") / str(process.pid)
            shown += [(proc / name).read_text("latin-1") for name in ("cmdline", "environ")]
        assert not [text for text in shown for secret in secrets if secret in text]
        for path in (folder, *filter(Path.is_file, folder.rglob("*"))):
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path

    def test_a_second_call_finds_the_first_server(self, cluster, reach):
        """It is asked for again from another notebook; a different one is not started beside it."""
        assert cluster.jupyter() == reach
        with pytest.raises(ConfigurationError, match="listens at socket"):
            cluster.jupyter("loopback")
        with pytest.raises(ConfigurationError, match="cannot listen at 'everywhere'"):
            cluster.jupyter("everywhere")

    def test_an_attached_cluster_has_it_as_well(self, cluster, reach):
        """Over the control channel, errors included."""
        with HPCCluster.attach(cluster.scheduler_file) as attached:
            assert attached.jupyter() == reach
            with pytest.raises(ConfigurationError, match="listens at socket"):
                attached.jupyter("network")

    def test_it_shows_where_the_user_is(self, owner):
        """The current directory, as a Jupyter started by hand."""
        names = {each["name"] for each in owner.ask("/api/contents").json["content"]}
        assert names >= {path.name for path in Path.cwd().iterdir() if path.name == "src"}

    async def test_the_way_of_the_guides_works_unchanged(self, cluster):
        """``client.run_on_scheduler(start_jlab)``, as in guides to HPC written for others."""
        scope: dict[str, object] = {}
        jupyter = str(Path(sys.executable).with_name("jupyter"))
        exec(JLAB.format(jupyter=jupyter), scope)  # noqa: S102  (as from __main__: sent by value)
        with cluster.get_client() as client:
            client.run_on_scheduler(scope["start_jlab"])
        process = cluster.head.scheduler.jlab_proc
        try:
            lines = iter(process.stderr.readline, "")
            assert any("/lab?token=" in line for line in lines)
        finally:
            process.terminate()
            process.communicate()


class TestItsLife:
    def test_careless_settings_of_the_user_open_no_door(self, account, monkeypatch):
        """They hold, unless they decide who may enter; and with TLS on this machine alone."""
        folder = account.path / ".jupyter"
        folder.mkdir()
        for name in ("jupyter_server_config.py", "jupyter_lab_config.py", "jupyter_config.py"):
            (folder / name).write_text(CARELESS)
        with account.cluster() as cluster:
            reach = cluster.jupyter("loopback", root=account.path)
            trusted = ssl.create_default_context(cafile=account.home / "tls" / "ca.pem")
            stranger = Browser(reach, context=trusted)
            assert stranger.ask("/api/status").status == 403
            assert stranger.ask("/lab").status == 302
            owner = Browser(reach, reach.token, context=trusted)
            assert owner.ask("/api/status").status == 200
            made = owner.ask("/api/contents", "POST", {"type": "notebook"})
            assert made.json["name"] == "Mine.ipynb"
            assert owner.ask("/api/kernels", "POST", {"name": "python3"}).status == 201
            assert listening(tree(reach)[0]) == {("127.0.0.1", reach.port)}
            kernel_file = next(Path(tree(reach)[0].cwd()).glob("kernel-*.json"))
            assert json.loads(kernel_file.read_text())["transport"] == "ipc"
        account.wait_until_nothing_is_left()

    def test_one_that_dies_is_told_and_can_be_had_again(self, account, caplog):
        """The log's end says why; closing the cluster ends the second."""
        with account.cluster() as cluster:
            first = cluster.jupyter("socket")
            head = tree(first)[0]
            with caplog.at_level(logging.ERROR, logger="dask_hpc"):
                kill(head.pid)
                wait_until(lambda: "JupyterLab of cluster test ended with status -9" in caplog.text)
            assert "the end of its log" in caplog.text
            second = cluster.jupyter("network")
            assert second.token != first.token
            trusted = ssl.create_default_context(cafile=account.home / "tls" / "ca.pem")
            owner = Browser(second, second.token, trusted)
            assert owner.ask("/api/status").status == 200
            mine = tree(second)
        assert not any(process.is_running() for process in mine)
        account.wait_until_nothing_is_left()

    def test_beside_a_detached_head_it_outlives_who_asked(self, account):
        """It is there for the next who attaches, until the cluster is shut down."""
        with account.cluster(head="detached") as cluster:
            reach = cluster.jupyter("socket", root=account.path)
        assert Browser(reach, reach.token).ask("/api/contents").status == 200
        with HPCCluster.attach("test") as attached:
            assert attached.jupyter() == reach
            attached.shutdown()
        account.wait_until_nothing_is_left()

    def test_it_ends_with_a_head_that_is_killed(self, account):
        """kill -9 of the head leaves neither server nor kernel, socket nor log."""
        held = account.start(HELD)
        reach = Reach.from_json(json.loads(held.stdout.readline()))
        owner = Browser(reach, reach.token)
        assert owner.ask("/api/kernels", "POST", {"name": "python3"}).status == 201
        os.kill(held.pid, signal.SIGKILL)
        held.communicate()
        wait_until(lambda: not Path(reach.socket).parent.exists())
        wait_until(lambda: not account.processes())

    def test_without_jupyterlab_the_error_says_what_to_install(self, account, monkeypatch):
        """The extra is named, and the Python that lacks it."""
        monkeypatch.setattr(server, "_NEEDED", ("no_such_module",))
        missing = pytest.raises(JupyterError, match=r"pip install 'dask-hpc\[jupyter\]'")
        with account.cluster() as cluster, missing:
            cluster.jupyter()
