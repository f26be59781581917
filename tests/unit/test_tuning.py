"""An idle worker sleeps, and a user's own settings stay."""

from __future__ import annotations

import os
import subprocess
import sys

import dask
import distributed  # noqa: F401  (brings its settings)
import yaml

from dask_hpc.node.spawn import fast_yaml
from dask_hpc.node.tuning import slower_clocks


def test_each_clock_is_still_the_engines() -> None:
    """A setting that the engine renames or changes shows here, not as a table without effect."""
    assert len(slower_clocks(dask.config.get)) == 4


def test_what_a_user_has_changed_is_left_alone() -> None:
    """One's own profiler interval is one's own."""
    with dask.config.set({"distributed.worker.profile.interval": "5ms"}):
        assert "distributed.worker.profile.interval" not in slower_clocks(dask.config.get)


def test_thefast_yaml_is_put_back() -> None:
    """User code on workers meets PyYAML as it always is."""
    before = yaml.SafeLoader
    with fast_yaml():
        assert yaml.safe_load("a: [1, 2.5, null, 10ms]") == {"a": [1, 2.5, None, "10ms"]}
    assert yaml.SafeLoader is before


def test_freed_memory_is_given_back_without_the_variable() -> None:
    """After the imports malloc trims early, as the engine asks of its workers."""
    code = (
        "import os, psutil; from dask_hpc.node.spawn import warm_up, _trim_memory_early\n"
        "warm_up(); _trim_memory_early()\n"
        "rss = lambda: psutil.Process().memory_info().rss\n"
        "before = rss(); kept = [bytes(100_000) for _ in range(1000)]; grown = rss(); del kept\n"
        "print(before, grown, rss())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_TRIM_THRESHOLD_"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    before, grown, after = map(int, done.stdout.split())
    assert grown - before > 50_000_000
    assert after - before < 20_000_000
