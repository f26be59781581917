"""How a cluster describes itself: one line of text, rows of HTML.

Reads, never changes; every value that reaches HTML is escaped.
"""

from __future__ import annotations

from html import escape

from dask.utils import format_bytes
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from dask_hpc.cluster.report import summary
from dask_hpc.cluster.view import jobs_line

__all__ = ["html_rows", "jobs_line", "text"]


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
