"""What a person is told to type, and what a JupyterLab server is told: values in, text out."""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from dask_hpc.cluster import certificates, security
from dask_hpc.jupyter import reach as text
from dask_hpc.jupyter.reach import Listen, Reach
from dask_hpc.jupyter.server import make_place
from dask_hpc.jupyter.settings import Settings, config, environment, usable_root

AT_SOCKET = Reach(
    cluster="analysis",
    host="login1",
    user="ada",
    listen=Listen.SOCKET,
    socket="/home/ada/.dask-hpc/analysis/jupyter/lab.sock",
    address="",
    port=0,
    near=24655,
    token="s3cret",  # noqa: S106
)
LOOPBACK = replace(
    AT_SOCKET,
    listen=Listen.LOOPBACK,
    socket="",
    address="127.0.0.1",
    port=40001,
    near=40001,
    fingerprint="AB:" * 31 + "CD",
)
NETWORK = replace(LOOPBACK, listen=Listen.NETWORK, host="node7", address="10.0.0.7")


@pytest.fixture(autouse=True)
def _on_login1(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an ssh session on the host where the server runs."""
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.9 1 10.0.0.1 22")
    monkeypatch.setattr(socket, "gethostname", lambda: "login1")


class TestTheWay:
    def test_at_a_socket_it_is_a_tunnel_to_it(self):
        """One line: what to type, where, and what to open afterwards."""
        assert str(AT_SOCKET) == (
            "In a new terminal on your own computer run   "
            "ssh -N -L 24655:/home/ada/.dask-hpc/analysis/jupyter/lab.sock ada@login1   , "
            "leave it open, and then open   http://localhost:24655/lab?token=s3cret   "
            "in the browser there"
        )

    def test_on_a_node_it_goes_by_way_of_the_login_node(self):
        """The person has logged in here, and the server is there."""
        on_a_node = replace(AT_SOCKET, host="node7")
        assert text.tunnel(on_a_node) == (
            "ssh -N -L 24655:/home/ada/.dask-hpc/analysis/jupyter/lab.sock -J ada@login1 ada@node7"
        )

    def test_on_the_network_the_login_node_forwards(self):
        """Nobody needs to log in to the node."""
        assert text.tunnel(NETWORK) == "ssh -N -L 40001:10.0.0.7:40001 ada@login1"

    def test_an_address_of_ipv6_is_set_off_from_its_port(self):
        """As ssh wants it."""
        there = replace(NETWORK, address="fd00::7")
        assert "-L '40001:[fd00::7]:40001'" in text.tunnel(there)

    def test_here_the_link_is_enough(self):
        """No tunnel on the user's own machine; the certificate can be compared."""
        assert text.line(LOOPBACK, remote=False) == (
            "https://localhost:40001/lab?token=s3cret   (the browser does not know the certificate "
            "and asks once; its SHA-256 fingerprint begins with AB:AB:AB:AB:AB:AB:AB:AB)"
        )

    def test_in_a_job_its_end_is_told(self):
        """What is open there is lost then."""
        at = time.mktime((2026, 3, 4, 14, 30, 0, 0, 0, -1))
        in_job = replace(NETWORK, job="4711", until=at)
        assert "ssh -N -L 40001:10.0.0.7:40001 ada@login1 " in text.line(in_job)
        assert text.line(in_job).endswith("   (its job, 4711, ends at 2026-03-04 14:30)")
        assert text.line(replace(in_job, until=None)).endswith("   (it ends with its job, 4711)")

    def test_words_of_the_shell_stay_words(self):
        """A home with a blank in its name is one argument."""
        odd = replace(AT_SOCKET, socket="/home/a da/x y/lab.sock")
        assert shlex.split(text.tunnel(odd))[3] == "24655:/home/a da/x y/lab.sock"

    def test_the_repr_holds_no_secret(self):
        """What a notebook shows is saved with it."""
        for each in (AT_SOCKET, LOOPBACK, NETWORK):
            assert "s3cret" not in repr(each)
            assert "analysis" in repr(each)

    def test_it_travels_as_json(self):
        """The head tells it over its control channel."""
        for each in (AT_SOCKET, LOOPBACK, NETWORK, replace(NETWORK, job="1", until=2.5)):
            assert Reach.from_json(json.loads(json.dumps(each.to_json()))) == each
            assert text.from_json(each.to_json()) == each
        waiting = text.Waiting("JupyterLab's job 1 is pending")
        assert text.from_json(waiting.to_json()) == waiting

    def test_a_port_is_opened_only_for_a_browser_on_the_same_machine(self, monkeypatch):
        """Who came by ssh, or asks from another host, gets a socket."""
        assert text.default_listen(remote=text.is_remote("login1")) is Listen.SOCKET
        monkeypatch.delenv("SSH_CONNECTION")
        assert text.default_listen(remote=text.is_remote("node7")) is Listen.SOCKET
        assert text.default_listen(remote=text.is_remote("login1")) is Listen.LOOPBACK

    def test_the_near_port_is_the_same_each_time(self):
        """A browser knows the page again; another cluster mostly has another."""
        ports = [text.near_port(name) for name in ("a", "b", "a")]
        assert ports[0] == ports[2] != ports[1]
        assert all(20000 <= port < 30000 for port in ports)


class TestSettings:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(
            runtime=tmp_path / "run",
            root=tmp_path,
            scheduler_file=tmp_path / "scheduler.json",
            token="s3cret",  # noqa: S106
            dashboard_token="d4sh",  # noqa: S106
            listen=Listen.SOCKET,
        )

    def test_the_environment_names_the_cluster_and_no_secret(self, settings):
        """Kernels find the scheduler file; what another server told the head is left out."""
        inherited = {
            "PATH": "/bin",
            "JUPYTERHUB_API_TOKEN": "x",
            "JUPYTER_TOKEN": "x",
            "JPY_PARENT_PID": "7",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        told = environment(settings, inherited)
        assert told == {
            "PATH": "/bin",
            "DASK_HPC_SCHEDULER_FILE": str(settings.scheduler_file),
            "JUPYTER_RUNTIME_DIR": str(settings.runtime),
        }
        assert environment(settings, {"MPLBACKEND": "agg"})["MPLBACKEND"] == "agg"

    def test_at_a_socket_no_port_is_opened(self, settings):
        """Neither by the server nor towards the dashboard."""
        told = config(settings)
        assert told["ServerApp"]["sock"] == str(settings.runtime / "lab.sock")
        assert told["ServerApp"]["sock_mode"] == "0600"
        proxied = told["ServerProxy"]["servers"]["dask"]
        assert proxied["unix_socket"] == str(settings.runtime / "dask.sock")
        assert "port" not in proxied

    def test_it_shows_the_users_directory(self, tmp_path, monkeypatch):
        """Where the head was started; home if that is no place for notebooks, or gone."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert usable_root(None) == tmp_path
        assert usable_root("~/x") == tmp_path / "x"
        monkeypatch.chdir("/")
        assert usable_root(None) == tmp_path
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert usable_root(None) == tmp_path


class TestThePlace:
    @pytest.fixture
    def short(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("s")

    def test_it_is_in_the_cluster_directory(self, short):
        """Private, and without what a dead server left."""
        left = short / "jupyter" / "lab.sock"
        left.parent.mkdir()
        left.touch()
        place = make_place(short)
        assert place == short / "jupyter"
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert list(place.iterdir()) == []

    def test_it_is_elsewhere_if_names_would_be_too_long_for_sockets(self, short):
        """107 bytes are all that Linux gives; private there, too."""
        deep = short / ("d" * 90)
        deep.mkdir()
        place = make_place(deep)
        try:
            assert place.parent == Path("/tmp")
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert place.stat().st_uid == os.getuid()
            assert list(deep.iterdir()) == []
        finally:
            place.rmdir()


class TestTheCertificate:
    def test_it_is_for_a_web_server_on_this_machine_alone(self, tmp_path, monkeypatch):
        """Signed by the user's authority, of use to nobody who wants to connect, key 0600."""
        monkeypatch.setenv("DASK_HPC_HOME", str(tmp_path / "hpc"))
        made = security.page_certificate(tmp_path)
        ca = certificates.from_pem((tmp_path / "hpc" / "tls" / "ca.pem").read_bytes())
        assert certificates.signed_by(made, ca)
        extensions = made.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
        for name in ("page.pem", "page-key.pem"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        own = (tmp_path / "hpc" / "tls" / "key.pem").read_bytes()
        assert (tmp_path / "page-key.pem").read_bytes() != own
        assert len(certificates.fingerprint(made).split(":")) == 32
