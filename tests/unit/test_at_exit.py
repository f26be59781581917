"""What a script left open when it ended is closed, if it still can be."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any
from unittest.mock import Mock

import pytest

from dask_hpc.cluster import at_exit


class Cluster:
    """One whose event loop runs, or has ended."""

    close_timeout = 1.0

    def __init__(self, *, running: bool) -> None:
        self.loop = Mock(asyncio_loop=Mock(spec=asyncio.AbstractEventLoop))
        self.loop.asyncio_loop.is_running.return_value = running
        self.asynchronous = False  # as the engine says of both
        self.sync = Mock()

    def finish(self) -> Any:
        raise AssertionError("called in its loop only")


def test_nobody_waits_for_an_event_loop_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asynchronous cluster's has: it would be waited for as long as a close may take."""
    left, other = Cluster(running=True), Cluster(running=False)
    monkeypatch.setattr(at_exit, "living", weakref.WeakSet([left, other]))
    at_exit.close_all()
    left.sync.assert_called_once_with(left.finish, callback_timeout=1.0)
    other.sync.assert_not_called()
