"""Which nodes fail jobs as they start: none is sent there for a while.

State without I/O: callers pass ``now`` in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from dask_hpc.control.backoff import MOST_EXCLUDED, NODE_FAILURES, NODE_REST


class BadNodes:
    """Start failures by node, since the last success there."""

    def __init__(self) -> None:
        self._failures: dict[str, list[float]] = {}
        self._good: set[str] = set()

    def failed(self, node: str, now: float) -> None:
        """A job ended on a node before a worker of it joined."""
        if node:
            self._failures.setdefault(node, []).append(now)
            self._good.discard(node)

    def worked(self, node: str) -> None:
        """A job on a node was of use."""
        if node:
            self._failures.pop(node, None)
            self._good.add(node)

    def excluded(self, now: float) -> tuple[str, ...]:
        """Nodes to leave out now, by name.

        None where no other is known to be good, or so many fail: then it is not the nodes.
        """
        bad = []
        for node, failures in self._failures.items():
            recent = [when for when in failures if now - when < NODE_REST]
            if len(recent) >= NODE_FAILURES:
                bad.append(node)
        return tuple(sorted(bad)) if self._good and len(bad) <= MOST_EXCLUDED else ()
