"""What a trial comes to: which losses its faults account for, and which nothing does.

Pure: what was seen goes in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.site.chaos.plan import Blow

KINDS = ("leaves", "branches", "kept", "scattered")
#: Seconds by which the clocks and orders of events may differ.
SLACK = 2.0


@dataclass(frozen=True)
class Loss:
    """Something that was lost: what, when, on which worker, and the fault that took it, if any."""

    what: str
    key: str
    worker: str
    time: float
    cause: str | None


def rerun(told: Mapping[str, Any], blows: Sequence[Blow]) -> list[Loss]:
    """Each execution of a task that was not its last: interrupted, or its result was lost."""
    lost = {
        (key, event["worker"], event["time"]) for event in told["lost"] for key in event["computed"]
    }
    found = []
    for key, attempts in told["rerun"].items():
        for (worker, began), (_, again) in pairwise(attempts):
            taken = [(w, t) for k, w, t in lost if k == key and began <= t <= again + SLACK]
            cause = next(
                (
                    blow.kind
                    for blow in blows
                    if (blow.hit(worker) and _between(blow, began, again))
                    or any(blow.hit(w) and _between(blow, t, t) for w, t in taken)
                ),
                None,
            )
            found.append(Loss("rerun", key, worker, again, cause))
    return found


def _between(blow: Blow, began: float, ended: float) -> bool:
    return began <= blow.time + blow.lasts and ended >= blow.time - SLACK


def results(told: Mapping[str, Any], blows: Sequence[Blow]) -> list[Loss]:
    """Each result that the scheduler lost: computed anew, or scattered and gone for good."""
    found = []
    for event in told["lost"]:
        worker, when = event["worker"], event["time"]
        hits = (blow.kind for blow in blows if blow.hit(worker) and _between(blow, when, when))
        cause = next(hits, None)
        for what in ("computed", "scattered"):
            found += [Loss(what, key, worker, when, cause) for key in event[what]]
    return found


def doubled(seen: Sequence[tuple[float, str]], blows: Sequence[Blow]) -> list[tuple[float, str]]:
    """Jobs that were there twice, less those whose node was declared down while it was up.

    Slurm starts them elsewhere at once, and ends them there within KillWait.
    """
    taken = [blow for blow in blows if blow.kind == "node"]
    return [
        (when, name)
        for when, name in seen
        if not any(blow.hit(f"{name}-") and _between(blow, when, when) for blow in taken)
    ]


def too_many(
    young: Sequence[tuple[float, Sequence[str]]], blows: Sequence[Blow], wanted: int
) -> list[tuple[float, Sequence[str]]]:
    """When more jobs than wanted had only begun, less those that a fault had told to go."""
    found = []
    for when, jobs in young:
        told = [blow for blow in blows if blow.graceful and _between(blow, when, when)]
        left = [job for job in jobs if not any(blow.hit(f"{job}-") for blow in told)]
        if len(left) > wanted:
            found.append((when, left))
    return found


def wrong(told: Mapping[str, Any]) -> dict[str, int]:
    """Of each kind of data, how many are not as they must be."""
    counts = {kind: told[kind] - told[f"{kind} right"] for kind in KINDS}
    counts["unfinished"] = told["unfinished"]
    return {kind: count for kind, count in counts.items() if count}


def by_cause(losses: Sequence[Loss]) -> dict[str, int]:
    """How many of each kind there are, by the fault that caused them."""
    return dict(Counter(f"{loss.what}, {loss.cause or 'NO FAULT'}" for loss in losses))


def generations(names: Sequence[str], jobs: int) -> float:
    """How often all jobs have been replaced, and once for the first."""
    return len({name.rpartition("-")[0] for name in names}) / jobs


def capacity(told: Mapping[str, Any], workers: int) -> dict[str, float]:
    """Share of the wanted workers that took tasks: the least, the mean, and seconds under 90 %."""
    shares = [running / workers for _, running, _ in told["samples"]]
    under = sum(share < 0.9 for share in shares) / len(shares) * told["seconds"]
    return {"least": min(shares), "mean": sum(shares) / len(shares), "seconds under 90 %": under}
