"""How often an idle worker wakes up: the engine's clocks, slowed where nobody loses by it.

A node of 64 idle workers would otherwise burn two of its cores, and workers that wait for the last
of a thousand to join slow it down.  Pure: settings in, settings out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Setting, the engine's value, ours, and why that is enough.
_CLOCKS = (
    # The statistical profiler samples a busy thread: 10 samples a second from each of many workers
    # show the same picture.
    ("distributed.worker.profile.interval", "10ms", "100ms"),
    # The event loop's health: warnings begin at 3 s.
    ("distributed.admin.tick.interval", "20ms", "500ms"),
    # Memory policy: `memory_watch` looks sooner wherever little is left of the job's limit.
    ("distributed.worker.memory.monitor-interval", "100ms", "200ms"),
    # A curve on the dashboard.
    ("distributed.admin.system-monitor.interval", "500ms", "2s"),
)


def slower_clocks(get: Callable[[str], Any]) -> Mapping[str, str]:
    """Settings that let an idle worker sleep.

    Parameters
    ----------
    get
        Current value of a setting; one that a user has changed is left alone.

    Returns
    -------
    Mapping
        New values by setting.
    """
    return {name: ours for name, engine, ours in _CLOCKS if get(name) == engine}
