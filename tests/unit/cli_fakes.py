"""Clusters that are not there, for tests of the command line: what is known, and their heads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster import head_client, known
from dask_hpc.cluster.known import Known
from dask_hpc.cluster.report import Report
from dask_hpc.errors import HeadUnreachable

NOW = 1_800_000_000.0


def cluster(name: str = "study", **changes: Any) -> Known:
    """What is known of one: detached, alive, opened ten minutes ago."""
    values: dict[str, Any] = {
        "name": name,
        "directory": Path("/home/me/.dask-hpc") / name,
        "batch": "slurm",
        "head": "detached",
        "host": "login1",
        "pid": 4321,
        "opened": NOW - 600,
        "scheduler_file": Path("/home/me/.dask-hpc") / name / "scheduler.json",
        "head_job": "",
        "alive": True,
    }
    return Known(**{**values, **changes})


def job(index: int, state: str = "running", **changes: Any) -> dict[str, Any]:
    """One job of four workers."""
    running = state == "running"
    values = {
        "id": f"77_{index}",
        "name": f"study-ab12-{index}",
        "pool": "default",
        "state": state,
        "reason": "" if running else "Resources",
        "node": f"node{index}" if running else "",
        "workers": 4 if running else 0,
        "submitted": NOW - 500,
        "starts": None if running else NOW + 1800,
        "started": NOW - 300 if running else None,
        "deadline": NOW + 3300 if running else None,
        "log": f"/home/me/.dask-hpc/study/logs/study-ab12-{index}.log",
    }
    return {**values, **changes}


def pool(wanted: int = 3, running: int = 2, **changes: Any) -> dict[str, Any]:
    """Jobs of four workers, of which some run."""
    values = {
        "wanted": wanted,
        "adapting": None,
        "jobs": {"running": running, "pending": wanted - running},
        "reasons": ["Resources"],
        "starts": NOW + 1800 if running < wanted else None,
        "workers": 4 * running,
        "workers_per_job": 4,
        "cores_per_job": 4,
        "memory_per_job": None,
    }
    return {**values, **changes}


def view(**changes: Any) -> dict[str, Any]:
    """Two jobs run, one waits."""
    values = {
        "name": "study",
        "batch": "slurm",
        "status": "running",
        "head": "detached",
        "host": "login1",
        "pid": 4321,
        "head_job": None,
        "head_deadline": None,
        "opened": NOW - 600,
        "now": NOW,
        "changes": 1,
        "scheduler": "tls://10.0.0.1:8786",
        "scheduler_file": "/home/me/.dask-hpc/study/scheduler.json",
        "log_directory": "/home/me/.dask-hpc/study/logs",
        "dashboard": "http://127.0.0.1:8787/status",
        "pools": {"default": pool()},
        "jobs": [job(0), job(1), job(2, "pending")],
        "line": "3 wanted: 2 running, 1 pending (Resources)",
        "unanswered": "",
        "limited": "",
        "problem": "",
        "problem_kind": "",
        "failures": [],
        "cost": "1.2 core-hours allocated",
        "core_hours": {"allocated": 1.2, "used": 1.0, "idle": 0.2, "lost": 0.0},
    }
    return {**values, **changes}


class FakeHead:
    """Plays a head: pictures one after the other, and a record of what it was told."""

    def __init__(self, pictures: Sequence[dict[str, Any]] = (), **texts: Any) -> None:
        self.pictures = list(pictures) or [view()]
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.texts = texts

    def view(self, *, jobs: bool = True) -> dict[str, Any]:
        return self.pictures[0]

    def wait(self, changes: int, seconds: float) -> dict[str, Any]:
        assert changes == self.pictures[0]["changes"]
        assert 0 < seconds <= 30
        self.told.append(("wait", {"seconds": seconds}))
        if len(self.pictures) == 1:
            raise HeadUnreachable("the head is gone")
        self.pictures.pop(0)
        return self.pictures[0]

    def scale(self, n: Any = None, **size: Any) -> dict[str, Any]:
        self.told.append(("scale", size if n is None else {"n": n, **size}))
        return self.view()

    def adapt(self, **bounds: Any) -> dict[str, Any]:
        self.told.append(("adapt", bounds))
        return self.view()

    def renew(self, walltime: str) -> dict[str, Any]:
        self.told.append(("renew", {"walltime": walltime}))
        return {**self.view(), "head_deadline": NOW + 7800}

    def logs(self, pool: str | None = None) -> dict[str, str]:
        return self.texts.get("logs", {})

    def report(self) -> Report:
        return self.texts["report"]

    def dashboard(self) -> str:
        return "http://127.0.0.1:8787/status?token=secret"

    def shutdown(self) -> None:
        self.told.append(("shutdown", {}))


def have(
    monkeypatch: pytest.MonkeyPatch, *clusters: Known, head: FakeHead | None = None
) -> FakeHead:
    """Let these be the user's clusters, with one head for all."""
    head = head or FakeHead()

    def find(what: str | os.PathLike[str]) -> Known:
        for each in clusters:
            if str(what) in (each.name, str(each.scheduler_file)):
                return each
        raise known.unknown(str(what), clusters)

    monkeypatch.setattr(known, "clusters", lambda: list(clusters))
    monkeypatch.setattr(known, "find", find)
    monkeypatch.setattr(head_client, "HeadClient", lambda _known, _timeout=10.0: head)
    return head
