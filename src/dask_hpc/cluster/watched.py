"""A scheduler that several cluster objects follow: the one that started it, and those attached."""

from __future__ import annotations

import itertools
from typing import Any

from distributed import Scheduler

#: The engine's name for whoever follows the workers: one place, so that the next one takes it.
_FOLLOWER = "worker-status"


class WatchedScheduler(Scheduler):
    """Tells every cluster object that subscribes of its workers, not only the last one.

    Parameters
    ----------
    options
        Of the engine's Scheduler.
    """

    def __init__(self, **options: Any) -> None:
        self._followers = itertools.count()
        super().__init__(**options)

    def subscribe_worker_status(self, comm: Any) -> Any:
        """See the engine's Scheduler; the plugin that it adds gets a name of its own."""
        identity = super().subscribe_worker_status(comm)
        plugin = self.plugins.pop(_FOLLOWER)
        plugin.name = f"{_FOLLOWER}-{next(self._followers)}"
        self.plugins[plugin.name] = plugin
        return identity
