"""Close the clusters that a script left open when it ended.

The guardian would clear away too, but later and without a word.  What closing a cluster means is
the cluster's business.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

#: Clusters that have not ended.
living: weakref.WeakSet[Any] = weakref.WeakSet()


class _Inline(ThreadPoolExecutor):
    """Runs at once what it is given: once the interpreter ends, no executor takes work."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  (the future's, as in any executor)
            future.set_exception(error)
        return future


@atexit.register
def close_all() -> None:
    """Close what is open; an asynchronous cluster's event loop is gone, its guardian clears it."""
    for cluster in list(living):
        with suppress(Exception):  # the interpreter ends: nobody is left to tell
            # Not by `asynchronous`: once its loop has ended, the engine says False to that.
            if cluster.loop.asyncio_loop.is_running():
                cluster.loop.asyncio_loop.set_default_executor(_Inline(1))
                cluster.sync(cluster.finish, callback_timeout=cluster.close_timeout)
