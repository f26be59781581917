"""How a cluster describes itself: one line of text, rows of HTML.

Reads, never changes; every value that reaches HTML is escaped.
"""

from __future__ import annotations

from html import escape

from dask.utils import format_bytes
from distributed.core import Status
from distributed.deploy.cluster import Cluster


def text(cluster: Cluster) -> str:
    """One line for ``repr``."""
    kind = type(cluster).__name__
    if cluster._steering is None:  # noqa: SLF001  (a repr must not raise)
        return f"{kind}({cluster.name!r}, not started)"
    if cluster.status is Status.closed:
        return f"{kind}({cluster.name!r}, closed)"
    workers = cluster.scheduler_info["workers"].values()
    memory = sum(worker["memory_limit"] or 0 for worker in workers)
    return (
        f"{kind}({cluster.name!r}, jobs: {cluster.steering.view()['line']}, "
        f"workers: {len(workers)}, threads: {sum(worker['nthreads'] for worker in workers)}, "
        f"memory: {format_bytes(memory)}, {cluster.status.name})"
    )


def html_rows(cluster: Cluster) -> str:
    """Table rows for the engine's HTML of a cluster."""
    if cluster._steering is None:  # noqa: SLF001
        return ""
    view = cluster.steering.view()
    rows = {
        "Status": cluster.status.name,
        "Batch system": cluster.driver.name,
        "Jobs": view["line"],
        "Cost": view["cost"],
        "Logs": cluster.log_directory,
    }
    if view["problem"]:
        rows["Failure"] = view["problem"]
    return "".join(
        f'<tr><td style="text-align: left;"><strong>{name}:</strong></td>'
        f'<td style="text-align: left;"><pre style="white-space: pre-wrap; margin: 0">'
        f"{escape(value)}</pre></td></tr>"
        for name, value in rows.items()
    )
