"""How a cluster describes itself: one line of text, rows of HTML.

Reads, never changes; every value that reaches HTML is escaped.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from dask.utils import format_bytes
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from dask_hpc.cluster.report import summary
from dask_hpc.control.reconcile import Phase
from dask_hpc.model.job import JobState

if TYPE_CHECKING:
    from dask_hpc.control.controller import Controller

_PHASES = {
    Phase.UP: "running",
    Phase.STARTING: "starting",
    Phase.PENDING: "pending",
    Phase.IN_DOUBT: "in doubt",
    Phase.LEAVING: "leaving",
}


def jobs_line(controller: Controller) -> str:
    """Say how many jobs there are and why some wait: ``4 wanted: 3 running, 1 pending (...)``."""
    several = len(controller.pools) > 1
    line = "; ".join(
        f"{pool} {_pool_line(controller, pool)}" if several else _pool_line(controller, pool)
        for pool in controller.pools
    )
    if controller.unanswered:
        line += f"; no answer from the batch system: {controller.unanswered}"
    if controller.submitter.limited:
        line += f"; no more are accepted: {controller.submitter.limited}"
    return f"{line}; stopped after failures" if controller.problem else line


def _pool_line(controller: Controller, pool: str) -> str:
    phases, why = controller.ledger.phases(pool), _reasons(controller, pool)
    parts = []
    for phase, word in _PHASES.items():
        if count := phases[phase]:
            parts.append(f"{count} {word}{f' ({why})' if why and phase is Phase.PENDING else ''}")
    return f"{controller.wanted[pool]} wanted: {', '.join(parts) or 'none'}"


def _reasons(controller: Controller, pool: str) -> str:
    """The most frequent reasons for which jobs of a pool wait."""
    waiting = Counter(
        f"held: {status.reason}" if status.state is JobState.HELD else status.reason
        for tracked in controller.ledger.arrays.values()
        for status in tracked.status.values()
        if tracked.pool == pool and status.state.waiting and status.reason
    )
    return "; ".join(reason for reason, _ in waiting.most_common(2))


def text(cluster: Cluster) -> str:
    """One line for ``repr``."""
    kind = type(cluster).__name__
    if cluster._head is None:  # noqa: SLF001  (a repr must not raise)
        return f"{kind}({cluster.name!r}, not started)"
    if cluster.status is Status.closed:
        return f"{kind}({cluster.name!r}, closed)"
    workers = cluster.scheduler_info["workers"].values()
    memory = sum(worker["memory_limit"] or 0 for worker in workers)
    return (
        f"{kind}({cluster.name!r}, jobs: {jobs_line(cluster.head.controller)}, "
        f"workers: {len(workers)}, threads: {sum(worker['nthreads'] for worker in workers)}, "
        f"memory: {format_bytes(memory)}, {cluster.status.name})"
    )


def html_rows(cluster: Cluster) -> str:
    """Table rows for the engine's HTML of a cluster."""
    if cluster._head is None:  # noqa: SLF001
        return ""
    controller = cluster.head.controller
    rows = {
        "Status": cluster.status.name,
        "Batch system": cluster.driver.name,
        "Jobs": jobs_line(controller),
        "Cost": summary(cluster.report()["total"]),
        "Logs": cluster.log_directory,
    }
    if controller.problem is not None:
        rows["Failure"] = str(controller.problem)
    return "".join(
        f'<tr><td style="text-align: left;"><strong>{name}:</strong></td>'
        f'<td style="text-align: left;"><pre style="white-space: pre-wrap; margin: 0">'
        f"{escape(value)}</pre></td></tr>"
        for name, value in rows.items()
    )
