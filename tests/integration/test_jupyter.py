"""A real JupyterLab beside a real scheduler: it opens for its owner, and ends with the cluster."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from click.testing import CliRunner

from dask_hpc import HPCCluster, LocalJobCluster
from dask_hpc.cli.entry import hpc
from dask_hpc.errors import ConfigurationError
from dask_hpc.jupyter.reach import Reach
from tests.integration.account import Account
from tests.integration.conftest import new_account
from tests.integration.labs import Browser, listening, shut, tree

pytestmark = pytest.mark.timeout(120)

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

    def test_no_websocket_opens_without_the_token(self, reach):
        """Neither the dashboard's nor a kernel's."""
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        stranger = Browser(reach, headers=upgrade)
        for path in ("/dask/status/ws", "/api/kernels/x/channels"):
            assert stranger.ask(path).status in (302, 403)

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
        await shut(connection)

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

    def test_the_command_finds_it_as_well(self, cluster, reach):
        """``dask-hpc jupyter NAME``: the line for people, JSON for programs."""
        shown = CliRunner().invoke(hpc, ["jupyter", cluster.name])
        assert (shown.exit_code, shown.stdout) == (0, f"{reach}\n"), shown.output
        told = json.loads(CliRunner().invoke(hpc, ["jupyter", cluster.name, "--json"]).stdout)
        assert Reach.from_json({name: told[name] for name in reach.to_json()}) == reach
        assert told["url"] in str(reach)
        assert told["tunnel"] in str(reach)
        elsewhere = CliRunner().invoke(hpc, ["jupyter", cluster.name, "--listen", "network"])
        assert elsewhere.exit_code == 78
        assert "listens at socket" in elsewhere.output

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
