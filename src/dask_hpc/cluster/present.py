"""How a cluster describes itself: one line of text, rows and tables of HTML, from one view.

Pure: a view goes in, text comes out, and every value that reaches HTML is escaped.  Where the view
comes from is not known here: of a cluster in this process, or of one elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from dask_hpc.cluster.view import STATES, Bounds, PoolRow, View

#: Facts that one line has room for.
_IN_A_LINE = ("Jobs", "Expected", "Adapting")

_LEFT = 'style="text-align: left;"'
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def facts(view: View) -> dict[str, str]:
    """What a person wants to know of a cluster, by its name: all that its text and HTML say."""
    told = {
        "Batch system": view["batch"],
        "Head": _head(view),
        "Jobs": view["line"],
        "Expected": _expected(view),
        "Adapting": _adapting(view["pools"]),
        "Failure": view["problem"] or _last_failure(view),
        "Cost": view["cost"],
        "Logs": view["log_directory"],
    }
    return {name: value for name, value in told.items() if value}


def _head(view: View) -> str:
    where = {"here": "", "detached": f"process {view['pid']} on {view['host']}"}.get(
        view["head"], f"job {view['head_job']} on {view['host']}"
    )
    if where and view["head_deadline"] is not None:
        where += f", which ends in {span(view['head_deadline'] - view['now'])}"
    return where


def _expected(view: View) -> str:
    """When the first of the jobs that wait may start, where the batch system has an estimate."""
    pools = view["pools"]
    return "; ".join(
        f"{f'{name}: ' if len(pools) > 1 else ''}"
        f"the first that waits may start {soon(starts, view['now'])}"
        for name, pool in pools.items()
        if (starts := pool["starts"]) is not None
    )


def _adapting(pools: Mapping[str, PoolRow]) -> str:
    return "; ".join(
        f"{name}: {_bounds(bounds)}" if len(pools) > 1 else _bounds(bounds)
        for name, pool in pools.items()
        if (bounds := pool["adapting"]) is not None
    )


def _bounds(bounds: Bounds) -> str:
    least, most = bounds["minimum"], bounds["maximum"]
    return f"at least {least} jobs" if most is None else f"{least} to {most} jobs"


def _last_failure(view: View) -> str:
    if not view["failures"]:
        return ""
    at, what = view["failures"][-1]
    return f"{span(view['now'] - at)} ago: {what}"


# --- one line ------------------------------------------------------------------------------------


def text(kind: str, name: str, status: str, view: View | None = None, size: str = "") -> str:
    """One line for ``repr``.

    Parameters
    ----------
    kind
        Of the cluster: the name of its class.
    name
        Of the cluster.
    status
        In a word.
    view
        Of the cluster; None where there is nothing to be seen.
    size
        What its workers have.
    """
    if view is None:
        return f"{kind}({name!r}, {status})"
    told = facts(view)
    parts = [f"{fact.lower()}: {told[fact]}" for fact in _IN_A_LINE if fact in told]
    parts.append(size)
    if "Head" in told:
        parts.append(f"head: {told['Head']}")
    if "Failure" in told:
        parts.append(f"failure: {told['Failure'].splitlines()[0]}")
    return f"{kind}({name!r}, {', '.join(part for part in (*parts, status) if part)})"


# --- HTML ----------------------------------------------------------------------------------------


def html_rows(status: str, view: View | None = None) -> str:
    """Table rows for the engine's HTML of a cluster: what :func:`text` says, and more of it."""
    if view is None:
        return ""
    return "".join(
        f"<tr><td {_LEFT}><strong>{escape(name)}:</strong></td><td {_LEFT}>"
        f'<pre style="white-space: pre-wrap; margin: 0">{escape(value)}</pre></td></tr>'
        for name, value in {"Status": status, **facts(view)}.items()
    )


def pools_table(view: View) -> str:
    """HTML of how many jobs each pool has, by state."""
    states = [s for s in STATES if any(pool["jobs"].get(s) for pool in view["pools"].values())]
    return table(
        ("pool", "jobs wanted", *states, "workers", "size"),
        [
            (
                name,
                pool["wanted"],
                *(pool["jobs"].get(state, 0) for state in states),
                pool["workers"],
                "as asked for" if (bounds := pool["adapting"]) is None else _bounds(bounds),
            )
            for name, pool in view["pools"].items()
        ],
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> str:
    """HTML of a table: numbers to the right, all else to the left.

    Parameters
    ----------
    heads
        Of the columns.
    rows
        Their values.
    empty
        What to say instead, without rows.
    """
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    if not body:
        return f"<p>{escape(empty)}</p>"
    head = "".join(f'<th style="{_CELL} text-align: left">{escape(each)}</th>' for each in heads)
    return (
        '<table style="border-collapse: collapse">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


_CELL = "padding: 2px 10px 2px 0; vertical-align: top;"


def _cell(value: object) -> str:
    side = "right" if isinstance(value, int | float) else "left"
    return (
        f'<td style="{_CELL} text-align: {side}; white-space: pre-wrap">{escape(str(value))}</td>'
    )


# --- times ---------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """Write a duration as people say it: ``45 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    seconds = max(0.0, seconds)
    if round(seconds) < _MINUTE:
        return f"{seconds:.0f} s"
    if round(seconds / _MINUTE) < _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < _DAY:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.1f} days"


def soon(at: float, now: float) -> str:
    """Write when something is expected, with the time of day here; an estimate may be past."""
    if at <= now:
        return "any moment"
    day = "" if at - now < _DAY else "%Y-%m-%d "
    return f"in {span(at - now)} ({time.strftime(f'{day}%H:%M', time.localtime(at))})"
