"""The doctor on the embedded batch system: real jobs, real TLS, faults that need no other host."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster.security import ensure_identity
from dask_hpc.site.doctor import archive
from dask_hpc.site.doctor.probe import disks, entry, machine, routes, wire
from tests.helpers import wait_until
from tests.integration.account import Account

pytestmark = pytest.mark.timeout(120)

Files = tuple[str, str, str]


@pytest.fixture
def home(account: Account, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's private directory, a dask configuration and a batch system of their own."""
    monkeypatch.setenv("DASK_CONFIG", str(account.path / "config"))
    return account.home


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dask_hpc", "doctor", "--batch", "local", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def found(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a visit with jobs."""
    done = doctor("--job", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def wrong(facts: Mapping[str, Any]) -> dict[str, str]:
    """What is a problem: what was seen, by name."""
    return {each["name"]: each["seen"] for each in facts["findings"] if each["status"] == "problem"}


# -- whole visits ------------------------------------------------------------------


def test_all_is_well_where_all_is_well(home: Path) -> None:
    """Exit code 0; routes, clocks and files were measured; nothing is left behind."""
    code, facts = found()
    assert (code, wrong(facts)) == (0, {})
    names = {each["name"] for each in facts["findings"]}
    assert {"jobs", "python", "packages", "clock", "TLS", "shared directory"} <= names
    measured = [each for each in facts["routes"] if "error" not in each]
    assert {each["source"] for each in measured} > {"login"}
    assert all(each["bandwidth"] > 1e6 for each in measured)
    assert {path.name for path in home.iterdir()} == {"local", "tls"}  # its own state


def test_another_python_is_a_problem(home: Path, tmp_path: Path) -> None:
    """It runs the probe all the same, and lacks our packages."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    code, facts = found("--python", str(bare / "bin" / "python"))
    assert code == 1
    assert {"python", "packages", "import time"} == set(wrong(facts))
    assert str(bare) in wrong(facts)["python"]


def test_a_python_that_is_not_there_ends_with_the_jobs_own_words(home: Path) -> None:
    """What the log says is in the finding."""
    code, facts = found("--python", "/nosuch/python")
    assert code == 1
    assert "/nosuch/python" in wrong(facts)["jobs"]


@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        ("ulimit -n 256", "limits", "no more than 256 open files"),
        ("nosuch_module load python", "prologue", "nosuch_module: command not found"),
    ],
)
def test_what_the_prologue_breaks_is_named(home: Path, line: str, name: str, words: str) -> None:
    """It runs before the workers, and so before the probe."""
    code, facts = found("--set", f"job_script_prologue=[{json.dumps(line)}]")
    assert code == 1
    assert words in wrong(facts)[name]


def test_an_interface_that_is_nowhere_is_named_for_both_roles(home: Path) -> None:
    """With those that there are."""
    code, facts = found("--interface", "nosuch0")
    assert code == 1
    rows = [each for each in facts["findings"] if each["name"] == "interface"]
    assert [each["status"] for each in rows] == ["problem", "problem"]
    assert ["scheduler" in rows[0]["seen"], "workers" in rows[1]["seen"]] == [True, True]


def test_the_sites_scratch_is_looked_at_beside_the_others(home: Path, tmp_path: Path) -> None:
    """It is configured, so that one that cannot be used is a problem; workers take another."""
    code, facts = found("--set", "scratch=$NO_SUCH_VARIABLE/x")
    assert code == 1
    assert "the variable is not set" in wrong(facts)["scratch"]
    code, facts = found("--set", f"scratch={tmp_path}")
    rows = {each["name"]: each["seen"] for each in facts["findings"]}
    assert str(tmp_path) in rows["scratch"]
    assert "scratch candidate /tmp" in rows


def test_without_jobs_nothing_is_submitted(home: Path) -> None:
    """Only this machine is looked at."""
    done = doctor()
    assert done.returncode == 0, done.stdout
    assert "submitted" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_visit_cancels_its_jobs(
    home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, or a terminal that is closed: no job, no process, no directory stays."""
    marker = tmp_path / "started"
    line = json.dumps(f"echo $$ >{marker}; sleep 600")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dask_hpc", "doctor", "--batch", "local", "--job"),
            *("--set", f"job_script_prologue=[{line}]"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: marker.exists() and marker.read_text().strip(), 60)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the jobs are cancelled" in said
    wait_until(lambda: not Path(f"/proc/{marker.read_text().strip()}").exists(), 60)
    assert list(home.glob("doctor-*")) == []


def test_a_profile_is_written_once(home: Path, tmp_path: Path) -> None:
    """And said where; the name is refused before anything is looked at the next time."""
    (tmp_path / "config").mkdir()
    done = doctor("--write-profile", "mine")
    path = tmp_path / "config" / "dask-hpc-site-mine.yaml"
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"wrote {path}" in done.stdout
    again = doctor("--write-profile", "mine")
    assert again.returncode == 78
    assert "there is a site mine already" in again.stderr
    assert doctor("--write-profile", "mine", "--force").returncode == 0


# -- the probe ------------------------------------------------------------------


def test_the_probe_is_one_file_that_needs_nothing(tmp_path: Path) -> None:
    """No site packages, no environment: it still reports, in a file of ours alone."""
    directory = tmp_path / "shared"
    directory.mkdir(mode=0o700)
    (tmp_path / "probe.pyz").write_bytes(archive.build())
    entry.write(
        directory / entry.PLAN,
        {
            "tls": ["/nosuch", "/nosuch", "/nosuch"],
            "directories": {"/tmp": "/tmp", "scratch": "$NOSUCH/x"},
            "query": {"argv": ["sh", "-c", "exit 3"], "unset": [], "variables": {}},
            "patience": 0,
        },
    )
    bare = [sys.executable, "-I", "-S", str(tmp_path / "probe.pyz"), str(directory), "a", "0"]
    done = subprocess.run(bare, capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 0, done.stderr
    path = directory / "report-a.0.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report = json.loads(path.read_text())
    assert report["name"] == "a.0"
    assert report["python"]["prefix"] == os.path.realpath(sys.base_prefix)
    assert report["packages"] == {}
    assert report["query"]["code"] == 3
    assert report["disks"]["/tmp"]["files_per_second"] > 0
    assert report["disks"]["scratch"]["unset"]
    assert report["tls"]
    assert report["port"] == 0


@pytest.mark.parametrize("path", sorted(Path(machine.__file__).parent.glob("*.py")), ids=str)
def test_the_probe_is_written_for_an_older_python_than_ours(path: Path) -> None:
    """Its syntax is that of 3.9, and nothing newer is called that was used once."""
    text = path.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 9))
    assert "from __future__ import annotations" in text or path.name == "__init__.py"
    assert "strict=True" not in text


def test_an_old_python_reports_what_it_is(tmp_path: Path) -> None:
    """It cannot run the probe; its version is what the user has to know."""
    directory = tmp_path / "shared"
    directory.mkdir(mode=0o700)
    (tmp_path / "probe.pyz").write_bytes(archive.build())
    pretend = (
        "import runpy, sys; sys.version_info = (3, 6, 8);"
        " sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [sys.executable, "-c", pretend, str(tmp_path / "probe.pyz"), str(directory), "a", "0"]
    subprocess.run(words, check=True)
    [path] = directory.iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("report-a.0.json", 0o600)
    assert json.loads(path.read_text()).keys() == {"name", "host", "time", "python"}


def test_a_report_is_whole_or_not_there(tmp_path: Path) -> None:
    """Nobody reads half of it, and no draft stays."""
    entry.write(tmp_path / "report.json", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_directory_is_left_as_it_was(tmp_path: Path) -> None:
    """What is written for the measurement is removed."""
    looked = disks.look(str(tmp_path / "not" / "yet"))
    assert looked["free"] > 0
    assert looked["type"]
    assert list(tmp_path.iterdir()) == []


def test_this_machine_is_seen_as_it_is() -> None:
    """Its routed address is one of its interfaces'."""
    seen = machine.look()
    assert seen["host"] == socket.gethostname().partition(".")[0]
    assert seen["import"]["seconds"] > 0
    assert seen["packages"]["dask"]
    assert 0 < seen["cores"]["amount"] <= (os.cpu_count() or 1)
    assert seen["memory"]["source"]
    everywhere = [a for each in seen["interfaces"].values() for a in each["addresses"]]
    assert seen["routed"] in everywhere


# -- the wire ------------------------------------------------------------------


def identity(monkeypatch: pytest.MonkeyPatch, path: Path) -> Files:
    monkeypatch.setenv("DASK_HPC_HOME", str(path))
    files = ensure_identity()
    return files.ca_file, files.cert, files.key


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Files, wire.Server]]:
    files = identity(monkeypatch, tmp_path / "home")
    server = wire.Server(files, tmp_path)
    yield files, server
    server.close()


def test_a_route_is_measured(served: tuple[Files, wire.Server]) -> None:
    """Round trip, bandwidth, and how far the other clock is ahead."""
    files, server = served
    target = routes.Target("a", "lo", "127.0.0.1", server.port)
    shut = routes.Target("b", "lo", "127.0.0.1", 1)
    good, bad = routes.measure(files, "login", [target, shut])
    assert 0 < good["round_trip"] < 1
    assert good["bandwidth"] > 1e6
    assert abs(good["ahead"]) < 1
    assert "refused" in bad["error"]


def test_another_user_gets_no_word(
    served: tuple[Files, wire.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with another identity, nor without one, nor in plain text."""
    _, server = served
    other = identity(monkeypatch, tmp_path / "other")
    with pytest.raises(OSError), closing(wire.Caller(other, "127.0.0.1", server.port)) as caller:
        caller.ask(do="echo")
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    for context in (nobody, None):
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        with contextlib.suppress(OSError), plain:
            stream = context.wrap_socket(plain) if context else plain
            with stream:
                stream.sendall(b'{"do": "echo"}\n')
                assert b"time" not in stream.recv(100)


def test_a_server_of_another_user_is_not_believed(
    served: tuple[Files, wire.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller sends nothing to it."""
    _, server = served
    other = identity(monkeypatch, tmp_path / "other")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        wire.Caller(other, "127.0.0.1", server.port)


def test_files_are_named_in_one_directory_only(
    served: tuple[Files, wire.Server], tmp_path: Path
) -> None:
    """Even by the same user: a path is cut down to its last part."""
    files, server = served
    with closing(wire.Caller(files, "127.0.0.1", server.port)) as caller:
        caller.ask(do="create", name="../../escaped")
        assert caller.ask(do="watch", name="escaped")["there"]
    assert (tmp_path / "escaped").exists()


def test_a_new_file_is_waited_for(served: tuple[Files, wire.Server], tmp_path: Path) -> None:
    """Seconds until it is seen."""
    files, server = served
    with closing(wire.Caller(files, "127.0.0.1", server.port)) as caller:
        assert not caller.ask(do="watch", name="x")["there"]
        (tmp_path / "x").touch()
        assert caller.ask(do="await", name="x")["seconds"] < 5


def test_a_directory_without_room_is_a_finding(home: Path) -> None:
    """Not a traceback; here the log directory cannot be made."""
    home.mkdir(mode=0o700)
    done = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 8; exec "$@"',
            "bash",
            sys.executable,
            "-m",
            "dask_hpc",
            "doctor",
            "--batch",
            "local",
            "--job",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be used: File too large" in wrong(json.loads(done.stdout))["shared directory"]
    assert list(home.glob("doctor-*")) == []
