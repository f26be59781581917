"""Preloaded by a fork server that the standard library starts: importing makes it ours.

Used only where a warm fork is not possible (see `spawn`).  Import it nowhere else.
"""

from __future__ import annotations

from dask_hpc.node import forked, spawn

spawn.quieten()
forked.become_server()
