"""Hosts of a test's own: network namespaces with the interfaces that it wants, and nothing else.

The beds' hosts are shared by all tests: an interface that is switched off there is off for all.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dask_hpc.launch import rendezvous
from dask_hpc.launch.rendezvous import Rendezvous
from tests.site.slurm import wait_until

PROGRAMS = Path(__file__).parent / "programs"
#: Addresses of each network; the last number is the host's.
NETWORKS = {"eth0": "10.81.0.{}/24", "ib0": "10.82.0.{}/24", "ib1": "fd00:82::{}/64"}
DASK = (sys.executable, "-m", "dask_hpc")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Hosts ``a``, ``b``, ``c``, which meet at a bridge for each network.

    Parameters
    ----------
    home
        Of the user, on a file system that all hosts share.
    interfaces
        Of each host.
    """

    def __init__(self, home: Path, **interfaces: str) -> None:
        self.home = home
        self.file = home / "scheduler.json"
        self._prefix = f"dh{secrets.token_hex(2)}"
        self._interfaces = {host: words.split() for host, words in interfaces.items()}

    def __enter__(self) -> Self:
        ip("netns", "add", self.name("hub"))
        for network in NETWORKS:
            ip("-n", self.name("hub"), "link", "add", f"b-{network}", "type", "bridge")
            ip("-n", self.name("hub"), "link", "set", f"b-{network}", "up")
        for number, (host, interfaces) in enumerate(self._interfaces.items(), start=1):
            ip("netns", "add", self.name(host))
            ip("-n", self.name(host), "link", "set", "lo", "up")
            for each in interfaces:
                self._join(host, each, NETWORKS[each].format(number))
            if "eth0" in interfaces:  # the way out
                ip("-n", self.name(host), "route", "add", "default", "via", "10.81.0.254")
        return self

    def _join(self, host: str, interface: str, address: str) -> None:
        end, hub = f"v-{host}-{interface}", self.name("hub")
        there = ("peer", "name", interface, "netns", self.name(host))
        ip("-n", hub, "link", "add", end, "type", "veth", *there)
        ip("-n", hub, "link", "set", end, "master", f"b-{interface}", "up")
        ip("-n", self.name(host), "addr", "add", address, "dev", interface, "nodad")
        ip("-n", self.name(host), "link", "set", interface, "up")

    def __exit__(self, *_: object) -> None:
        for host in (*self._interfaces, "hub"):
            subprocess.run(["ip", "netns", "del", self.name(host)], check=False)

    def name(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def set(self, host: str, *words: str) -> None:
        """``ip`` on a host."""
        ip("-n", self.name(host), *words)

    def command(self, host: str, *words: str | Path) -> list[str]:
        """Words that run a program on a host."""
        return ["ip", "netns", "exec", self.name(host), *map(str, words)]

    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.home)}

    def done(self, host: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program on a host to its end."""
        return subprocess.run(
            self.command(host, *words),
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    @contextmanager
    def running(self, host: str, *words: str | Path) -> Iterator[Path]:
        """Run ``dask-hpc`` on a host until the block ends; its log."""
        log = self.home / f"{host}-{words[0]}-{secrets.token_hex(2)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                self.command(host, *DASK, *words),
                env=self.environ(),
                stdout=stream,
                stderr=stream,
            )
        try:
            yield log
        finally:
            process.terminate()
            process.wait(30)

    @contextmanager
    def scheduler(self, host: str, *words: str) -> Iterator[Rendezvous]:
        """Run a scheduler on a host."""
        command = ("scheduler", "--scheduler-file", self.file, "--no-dashboard", *words)
        with self.running(host, *command) as log:
            wait_until(lambda: self.file.exists() or "->" in log.read_text(), 30, "it listens")
            yield rendezvous.read(self.file)

    @contextmanager
    def worker(self, host: str, *words: str) -> Iterator[Path]:
        """Run a worker on a host; its log."""
        command = ("worker", "--scheduler-file", self.file, "--memory-limit", "0", *words)
        with self.running(host, *command, "--nthreads", "1") as log:
            yield log

    def ended_worker(self, host: str, *words: str) -> tuple[int, str]:
        """Run a worker that ends by itself: exit code, and last line."""
        command = (*DASK, "worker", "--scheduler-file", self.file, "--memory-limit", "0", *words)
        done = self.done(host, *command, "--nthreads", "1")
        return done.returncode, done.stderr.strip().splitlines()[-1]

    def ask(self, host: str, workers: int, size: int = 0) -> dict[str, Any]:
        """What a client on a host sees of so many workers, after each has sent so many bytes."""
        words = (sys.executable, PROGRAMS / "ask.py", self.file, str(workers), str(size))
        done = self.done(host, *words)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def traffic(self) -> dict[str, int]:
        """Bytes that each interface has carried, on all hosts together."""
        total = dict.fromkeys(NETWORKS, 0)
        for host in self._interfaces:
            for line in self.done(host, "cat", "/proc/net/dev").stdout.splitlines():
                name, _, rest = line.partition(":")
                if name.strip() in total:
                    total[name.strip()] += int(rest.split()[0]) + int(rest.split()[8])
        return total
