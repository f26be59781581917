"""What a cluster has cost and done: its report, and the reports of those that were closed.

Figures are :mod:`dask_hpc.control.figures`' business, tables on a terminal the command line's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.cluster.security import home, private_directory
from dask_hpc.control.figures import Account
from dask_hpc.control.reconcile import Phase
from dask_hpc.launch import rendezvous
from dask_hpc.units import format_walltime

if TYPE_CHECKING:
    from dask_hpc.cluster.head import Head

#: In the home of dask-hpc: a line of JSON for each cluster that was closed, the last at the end.
HISTORY = "history.jsonl"
#: Bytes of it, some 500 clusters; the older half goes when it is full.
HISTORY_BYTES = 1 << 20

_HOUR = 3600.0


class Report(dict[str, Any]):
    """The report of one cluster: plain values by name, and a few lines of text by ``str``."""

    def __str__(self) -> str:
        return "\n".join(lines(self))


def report(head: Head) -> Report:
    """What a cluster has cost and done so far."""
    controller, now = head.controller, time.time()
    accounts = controller.book.accounts(now, head.usage.running())
    total = controller.book.total(accounts)
    return Report(
        cluster=head.name,
        batch=head.driver.name,
        opened=head.opened,
        seconds=now - head.opened,
        pools={pool: _now(head, pool) | _values(account) for pool, account in accounts.items()},
        total=_values(total),
        jobs_submitted=total.jobs.submitted,
        core_seconds=total.allocated,
        tasks_rerun=head.workers.tasks_rerun,
        keys_lost=head.workers.keys_lost,
        commands=dict(head.client.commands),
    )


def _now(head: Head, pool: str) -> dict[str, Any]:
    return {
        "wanted": head.controller.wanted[pool],
        "running": head.controller.ledger.phases(pool)[Phase.UP],
        "workers": head.running_workers(pool),
    }


def _values(account: Account) -> dict[str, Any]:
    hours = {name: getattr(account, name) / _HOUR for name in ("allocated", "used", "idle", "lost")}
    return {
        "core_hours": hours,
        "jobs": asdict(account.jobs),
        "wait_seconds": asdict(account.waits),
    }


def summary(values: Mapping[str, Any]) -> str:
    """One line: core-hours and what they went into.

    Parameters
    ----------
    values
        Of a pool, or of all, as in a report.
    """
    hours, jobs, waits = values["core_hours"], values["jobs"], values["wait_seconds"]
    parts = [f"{amount(hours['allocated'])} allocated"]
    if hours["allocated"]:
        shares = {name: hours[name] / hours["allocated"] for name in ("used", "idle", "lost")}
        parts[0] += f" ({', '.join(f'{share:.0%} {name}' for name, share in shares.items())})"
    count = jobs["submitted"]
    parts.append(f"{count} job{'' if count == 1 else 's'}{_ends(jobs)}")
    if waits["jobs"]:
        parts.append(f"waited {duration(waits['median'])} (median)")
    return ", ".join(parts)


def _ends(jobs: Mapping[str, int]) -> str:
    told = {name.replace("_", " "): jobs[name] for name in ("failed", "preempted", "requeued")}
    words = [f"{count} {name}" for name, count in told.items() if count]
    return f" ({', '.join(words)})" if words else ""


def amount(hours: float) -> str:
    """Write core-hours; little of it as core-seconds."""
    return f"{hours:,.1f} core-hours" if hours >= 1 else f"{hours * _HOUR:.0f} core-seconds"


def duration(seconds: float) -> str:
    """Write how long something took."""
    return f"{seconds:.0f} s" if seconds < 60 else format_walltime(round(seconds))  # noqa: PLR2004


def lines(found: Mapping[str, Any]) -> list[str]:
    """Write a report for people.

    Parameters
    ----------
    found
        As :func:`report` gives it.
    """
    text = [
        f"cluster {found['cluster']} on {found['batch']}, {duration(found['seconds'])}",
        f"  {summary(found['total'])}",
    ]
    if len(found["pools"]) > 1:
        text += [f"  {pool}: {summary(values)}" for pool, values in found["pools"].items()]
    waits = found["total"]["wait_seconds"]
    if waits["jobs"]:
        text.append(
            f"  in the queue: half of the jobs up to {duration(waits['median'])},"
            f" nine tenths up to {duration(waits['p90'])}, the longest {duration(waits['longest'])}"
        )
    if found["tasks_rerun"] or found["keys_lost"]:
        text.append(f"  {found['tasks_rerun']} tasks run again, {found['keys_lost']} results lost")
    calls = ", ".join(f"{count} {name}" for name, count in found["commands"].items())
    return [*text, f"  commands of the batch system: {calls or 'none'}"]


def keep(found: Mapping[str, Any]) -> None:
    """Add the last report of a cluster to the history.

    Raises
    ------
    OSError
        If the disk is full or gone.
    ClusterDirectoryError
        If the home cannot be trusted.
    """
    path = private_directory(home()) / HISTORY
    line = json.dumps(found, separators=(",", ":")).encode() + b"\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    try:
        os.write(handle, line)  # one write: clusters that close at the same time do not mix
        size = os.fstat(handle).st_size
    finally:
        os.close(handle)
    if size > HISTORY_BYTES:
        _halve(path)


def _halve(path: Path) -> None:
    """Drop the older half.  A cluster that closes in this very moment may lose its line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    half = text[len(text) // 2 :].partition("\n")[2]
    rendezvous.write_atomically(path, half)


def history() -> list[Report]:
    """Reports of the clusters that were closed, the last one at the end.

    Returns
    -------
    list of Report
        A line that is none, of a write that was torn, is passed over.
    """
    try:
        text = (home() / HISTORY).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and {"cluster", "total", "pools"} <= values.keys():
            found.append(Report(values))
    return found
