"""JupyterLab on a login node: by the printed line, over real ssh, in a real browser; not as bob.

Runs as root beside the hosts, since only root may be two users and start an sshd.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.site.held import PROGRAMS, TESTBED, Held
from tests.site.slurm import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.root, pytest.mark.timeout(300)]

CODE = "import dask_hpc; dask_hpc.connect().submit(sum, range(100)).result()"
KERNEL = """
import dask_hpc, socket
with dask_hpc.connect() as client:
    print(client.place, client.submit(sum, range(100)).result(), socket.gethostname())
"""
#: What bob tries at a Unix socket and what lies beside it.
INTRUDE = """
import os, socket, sys
folder = os.path.dirname(sys.argv[1])
def connect(name):
    socket.socket(socket.AF_UNIX).connect(os.path.join(folder, name))
for trial in (
    lambda: connect("lab.sock"),
    lambda: connect("dask.sock"),
    lambda: os.listdir(folder),
    lambda: open(os.path.join(folder, "server.log")).read(),
):
    try:
        print("GOT", trial())
    except OSError as error:
        print(type(error).__name__)
"""


#: What bob tries on the network: whatever listens there says to whoever asks.
ASK = """
import ssl, sys, urllib.request
context = ssl._create_unverified_context()
for path in ("api/status", "api/contents", "dask/status", "lab"):
    try:
        page = urllib.request.urlopen(f"https://{sys.argv[1]}/{path}", context=context, timeout=20)
        print(page.status, page.url.split("?")[0].rsplit("/", 1)[1])
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.fixture
def told() -> Iterator[dict[str, str]]:
    """What alice is told of the JupyterLab of her cluster."""
    with Held("notebooks", "1", "1") as held:
        held.say("jupyter")
        yield held.answer()


@pytest.fixture
def ssh() -> Iterator[Path]:
    """An sshd on the login host that lets alice in; a configuration of ssh that leads there."""
    made = Path(subprocess.check_output(["mktemp", "-d", "/tmp/sshd.XXXXXX"], text=True).strip())
    made.chmod(0o755)
    for name in ("host", "alice"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made / name)], check=True
        )
    subprocess.run(["chown", "alice:", str(made / "alice")], check=True)
    (made / "sshd").write_text(
        f"HostKey {made}/host\nAuthorizedKeysFile {made}/alice.pub\nPidFile none\nUsePAM yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nListenAddress 10.77.0.2\n"
        "StrictModes no\n"  # the key lies below /tmp
    )
    (made / "ssh").write_text(
        f"IdentityFile {made}/alice\nIdentitiesOnly yes\nStrictHostKeyChecking no\n"
        "UserKnownHostsFile /dev/null\nExitOnForwardFailure yes\nLogLevel ERROR\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    on_login = [str(TESTBED / "on-host"), "login"]
    daemon = subprocess.Popen([*on_login, "/usr/sbin/sshd", "-D", "-e", "-f", str(made / "sshd")])
    try:
        yield made / "ssh"
    finally:
        end(daemon)
        subprocess.run(["rm", "-rf", str(made)], check=True)


def end(started: subprocess.Popen[bytes]) -> None:
    """End what on-host has started, and with it on-host."""
    for process in psutil.Process(started.pid).children(recursive=True):
        process.terminate()
    started.wait(10)


def as_user(user: str, host: str, *argv: str, timeout: float = 60) -> str:
    done = subprocess.run(
        [str(TESTBED / "on-host"), "-u", user, host, *argv],
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout


def tunnelled(line: str, ssh: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Do what the line says, on a host that stands for alice's own computer; the link to open."""
    found = re.search(r"run   (ssh .*?)   , leave it open, and then open   (\S+)", line)
    assert found, line
    command, link = found.groups()
    near = int(link.split(":")[2].split("/")[0])
    arguments = command.replace("ssh ", f"ssh -F {ssh} ", 1).split()
    tunnel = subprocess.Popen([str(TESTBED / "on-host"), "-u", "alice", "node01", *arguments])
    probe = f"import socket; print(socket.create_connection(('localhost', {near}), 2))"
    try:
        wait_until(
            lambda: "socket" in as_user("alice", "node01", sys.executable, "-c", probe),
            30,
            "the tunnel is there",
        )
    except BaseException:
        end(tunnel)
        raise
    return tunnel, link


def test_the_printed_line_leads_a_person_there_and_nobody_else(
    told: dict[str, str], ssh: Path
) -> None:
    """Alice copies the command and the link; bob, on the same host, is refused everywhere."""
    seen = as_user("bob", "login", sys.executable, "-c", INTRUDE, told["socket"])
    assert seen.split() == ["PermissionError"] * 4
    assert told["token"] not in as_user("bob", "login", "ps", "-efww")

    tunnel, link = tunnelled(told["line"], ssh)
    try:
        pictures = as_user("alice", "login", "mktemp", "-d").strip()
        browse = (sys.executable, str(PROGRAMS / "browse.py"), link, CODE, pictures)
        told_by_browser = as_user("alice", "node01", *browse, timeout=200)
    finally:
        end(tunnel)
    assert json.loads(told_by_browser) == {"shown": "4950", "title": "Dask: Status"}


def test_from_a_job_the_printed_line_leads_there_by_way_of_the_login_node(ssh: Path) -> None:
    """Alice has its pages, dashboard and kernels through the tunnel; bob, beside it, nothing."""
    with Held("notebooks", "1", "1") as held:
        held.say("jupyter-job")
        told = held.answer()
        reach = told["reach"]
        assert reach["host"].startswith("node")
        assert f"(its job, {reach['job']}, ends at " in told["line"]

        seen = as_user(
            "bob", "login", sys.executable, "-c", ASK, f"{reach['address']}:{reach['port']}"
        )
        assert seen.splitlines() == ["403"] * 4, seen
        assert reach["token"] not in as_user("bob", reach["host"], "ps", "-efww")

        tunnel, _ = tunnelled(told["line"], ssh)
        try:
            program = (sys.executable, str(PROGRAMS / "kernel.py"), json.dumps(reach), KERNEL)
            said = json.loads(as_user("alice", "node01", *program))
        finally:
            end(tunnel)
        assert said.pop("kernel").endswith(f"\nscheduler-file 4950 {reach['host']}\n"), said
        assert said == {"stranger": 403, "owner": 200, "dashboard": [200, True]}

        held.say("stop-jupyter")
        held.answer()
        left = as_user("alice", "login", "squeue", "-h", "-j", reach["job"], "-o", "%T").strip()
        assert left not in ("PENDING", "RUNNING")
        assert not [each for each in held.processes() if "lab_process" in " ".join(each.cmdline())]
