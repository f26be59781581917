"""How a JupyterLab begins and ends: with what settings, and with whom.

Each test has a cluster of its own: the local batch system is found by the environment, so that a
cluster which several tests share could not live beside them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner

from dask_hpc import HPCCluster
from dask_hpc.cli.entry import hpc
from dask_hpc.errors import JupyterError
from dask_hpc.jupyter import server
from dask_hpc.jupyter.reach import Reach
from tests.helpers import wait_until
from tests.integration.account import kill
from tests.integration.labs import Browser, listening, tree

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
c.ServerProxy.servers = {"mine": {"command": [], "port": 1}, "dask": {"command": [], "port": 2}}
"""
HELD = """
import json, threading
with LocalJobCluster(**options) as cluster:
    print(json.dumps(cluster.jupyter("socket").to_json()), flush=True)
    threading.Event().wait()
"""


def test_careless_settings_of_the_user_open_no_door(account):
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
        shown = owner.ask("/server-proxy/servers-info").json["server_processes"]
        assert {each["name"] for each in shown} >= {"mine", "dask"}
        assert b"bokeh" in owner.ask("/dask/status").body.lower()
        assert owner.ask("/api/kernels", "POST", {"name": "python3"}).status == 201
        assert listening(tree(reach)[0]) == {("127.0.0.1", reach.port)}
        kernel_file = next(Path(tree(reach)[0].cwd()).glob("kernel-*.json"))
        assert json.loads(kernel_file.read_text())["transport"] == "ipc"
    account.wait_until_nothing_is_left()


def test_one_that_dies_is_told_and_can_be_had_again(account, caplog):
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


def test_beside_a_detached_head_it_outlives_who_asked(account):
    """It is there for the next who attaches, until the cluster is shut down."""
    with account.cluster(head="detached") as cluster:
        reach = cluster.jupyter("socket", root=account.path)
    assert Browser(reach, reach.token).ask("/api/contents").status == 200
    with HPCCluster.attach("test") as attached:
        assert attached.jupyter() == reach
        stopped = CliRunner().invoke(hpc, ["jupyter", "test", "--stop"])
        assert stopped.exit_code == 0, stopped.output
        assert not Path(reach.socket).exists()
        assert attached.jupyter("socket", root=account.path).token != reach.token
        attached.shutdown()
    account.wait_until_nothing_is_left()


def test_it_ends_with_a_head_that_is_killed(account):
    """kill -9 of the head leaves neither server nor kernel, socket nor log."""
    held = account.start(HELD)
    reach = Reach.from_json(json.loads(held.stdout.readline()))
    owner = Browser(reach, reach.token)
    assert owner.ask("/api/kernels", "POST", {"name": "python3"}).status == 201
    os.kill(held.pid, signal.SIGKILL)
    held.communicate()
    wait_until(lambda: not Path(reach.socket).parent.exists())
    wait_until(lambda: not account.processes())


def test_without_jupyterlab_the_error_says_what_to_install(account, monkeypatch):
    """The extra is named, and the Python that lacks it."""
    monkeypatch.setattr(server, "_NEEDED", ("no_such_module",))
    missing = pytest.raises(JupyterError, match=r"pip install 'dask-hpc\[jupyter\]'")
    with account.cluster() as cluster, missing:
        cluster.jupyter()
