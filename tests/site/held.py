"""A cluster of alice's on the login host that a test of root's holds open."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import psutil

from tests.site.beds import BED

TESTBED = Path(os.environ.get("TESTBED_DIR", "/var/tmp/testbeds"))
PROGRAMS = Path(__file__).parent / "programs"
TESTBEDS = Path(__file__).parents[2] / "testbeds"


def bed(*words: str) -> None:
    """Run ``SCRIPT-up.sh`` or ``SCRIPT-down.sh`` of this system's bed."""
    script, *arguments = words
    done = subprocess.run(
        [str(TESTBEDS / f"{BED.script}-{script}.sh"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout


class Held:
    """A cluster of alice's on the login host, held open by a program."""

    def __init__(self, name: str, *arguments: str, exact: bool = False) -> None:
        # Batch systems remember jobs for minutes: each run has a name of its own.
        self.name = name if exact else f"{name}-{secrets.token_hex(2)}"
        self.process = subprocess.Popen(
            [
                *(str(TESTBED / "on-host"), "-u", "alice", "login"),
                *(sys.executable, str(PROGRAMS / "hold.py"), self.name, *arguments),
                *(f"{key}={value}" for key, value in {"batch": BED.batch, **BED.options}.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.known = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the program ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def say(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def head(self) -> psutil.Process:
        """The head's process, as this host sees it."""
        [found] = [
            p
            for p in psutil.process_iter(["cmdline"])
            if (p.info["cmdline"] or [])[:1] == [sys.executable]
            and self.name in p.info["cmdline"]
            and any("hold.py" in word for word in p.info["cmdline"])
        ]
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process on any host that belongs to this cluster."""
        path = f"/.dask-hpc/{self.name}"
        found = []
        for process in psutil.process_iter():
            try:
                if process.username() == "alice" and any(
                    path in word for word in process.cmdline()
                ):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
