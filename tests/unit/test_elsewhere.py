"""A head in another process is steered in the order of the calls."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from dask_hpc.cluster import elsewhere
from dask_hpc.cluster.known import Known


class Client:
    """A head whose answer to `adapt` is late: `scale` may overtake it."""

    def __init__(self, known: Known) -> None:
        self.done: list[str] = []
        self.scaled = threading.Event()

    def view(self, *, jobs: bool) -> dict[str, Any]:
        return {}

    def adapt(self, **words: Any) -> dict[str, Any]:
        self.scaled.wait(0.3)
        self.done.append("adapt")
        return {}

    def scale(self, n: int) -> dict[str, Any]:
        self.done.append("scale")
        self.scaled.set()
        return {}


async def test_what_is_asked_last_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody awaits what was asked before, as tools do not."""
    monkeypatch.setattr(elsewhere, "HeadClient", Client)
    monkeypatch.setattr(elsewhere.rendezvous, "read", lambda path: None)
    place = Path("/nowhere")
    known = Known("one", place, "local", "detached", "here", 1, 0.0, place)
    head: Any = elsewhere.Elsewhere(known)
    await asyncio.gather(
        asyncio.ensure_future(head.adapt(minimum=0)), asyncio.ensure_future(head.scale(1))
    )
    assert head.client.done == ["adapt", "scale"]
