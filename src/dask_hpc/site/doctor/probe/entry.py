"""The probe's life in a job: look, report, meet the others, measure the routes, stay until told.

It meets the others in a directory that all share: `plan.json` says what to do, each probe writes
`report-NAME.json`, `go.json` lists all, each writes `routes-NAME.json`, `done` ends it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from . import commands, disks, machine, routes, wire

PLAN, GO, DONE = "plan.json", "go.json", "done"
REPORT, ROUTES = "report-{}.json", "routes-{}.json"
#: Between two looks at the shared directory.
PAUSE = 0.3


def main(directory: Path, name: str) -> int:
    """Be the probe called `name`; an exit code."""
    host = socket.gethostname().partition(".")[0]
    say(f"dask-hpc doctor: probe {name} starts on {host}, {sys.executable}")
    plan = json.loads((directory / PLAN).read_text(encoding="utf-8"))
    files = tuple(plan["tls"])
    server, trouble = None, ""
    try:
        server = wire.Server(files, directory)
    except OSError as error:  # ssl's errors are such
        trouble = str(error)
    report = {"name": name, **look(plan), "port": server.port if server else 0, "tls": trouble}
    report["written"] = time.time()
    write(directory / REPORT.format(name), report)
    deadline = time.monotonic() + float(plan["patience"])
    if wait_for(directory / GO, deadline):
        parties = json.loads((directory / GO).read_text(encoding="utf-8"))["parties"]
        measured = routes.measure(files, name, routes.targets(parties, name))
        write(directory / ROUTES.format(name), {"routes": measured})
        wait_for(directory / DONE, deadline)
    return 0


def look(plan: dict[str, Any]) -> dict[str, Any]:
    """What a node reports; every part of it is looked at even if another fails."""
    found = machine.look()
    found["disks"] = {label: disks.look(text) for label, text in plan["directories"].items()}
    if plan["query"]["argv"]:
        found["query"] = commands.query(plan["query"])
    found["mpi"] = commands.mpi()
    return found


def wait_for(path: Path, deadline: float) -> bool:
    """Whether a file is there in time."""
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON that only we can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    draft.rename(path)


def say(line: str) -> None:
    """Write a line into the job's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
