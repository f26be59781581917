"""Settings of the engine that follow from where scratch is, beside what the user set.

Pure.  Where scratch goes is :mod:`.storage`' choice; what the user set, :mod:`.own_settings` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dask_hpc.node.storage import Choice, reason

#: Of the free space, what the workers of a job may fill: the rest is for all others on the node.
_PART = 0.9
#: Published for systems without local disk (dask-jobqueue, "Configuration Examples": no local
#: storage); the two that remain are the engine's own values as well.
_WITHOUT_DISK: Mapping[str, float | bool] = {
    "target": False,
    "spill": False,
    "pause": 0.80,
    "terminate": 0.95,
}
#: Where the engine has its settings of memory.
SECTION = "distributed.worker.memory"


def settings(
    choice: Choice, own: Mapping[str, Any], *, workers: int, forced: bool = False
) -> dict[str, Any]:
    """Settings of the engine that follow from the choice.

    Parameters
    ----------
    choice
        The choice.
    own
        What the user set below ``distributed.worker.memory``, which stays.
    workers
        That share the directory.
    forced
        Whether the user said ``never``: a target of an old configuration is then not meant.

    Returns
    -------
    dict
        By their full names; a worker with a disk keeps the engine's fractions.
    """
    if choice.spill:
        part = int(choice.look.free * _PART) // max(workers, 1)
        wanted: dict[str, Any] = {"max-spill": part}
    else:
        wanted = dict(_WITHOUT_DISK)
    stays = set(own)
    if forced:
        stays -= {"target", "spill"}
    elif own.get("target") or own.get("spill"):  # they want to spill: both are theirs to say
        stays |= {"target", "spill"}
    return {f"{SECTION}.{name}": value for name, value in wanted.items() if name not in stays}


def with_own(choice: Choice, own: Mapping[str, Any], *, forced: bool = False) -> Choice:
    """Say what the user's own settings make of a choice.

    Parameters
    ----------
    choice, own, forced
        As for :func:`settings`.

    Returns
    -------
    Choice
        Unlike what was chosen if their ``target`` or ``spill`` decide about spilling.
    """
    told = {name: own[name] for name in ("target", "spill") if name in own}
    if forced or not told:
        return choice
    effective = {"target": choice.spill, "spill": choice.spill, **told}
    spills = any(effective.values())
    words = ", ".join(f"{name}: {value}" for name, value in told.items())
    if spills == choice.spill:
        return choice
    what = "workers spill there" if spills else "workers do not spill"
    why = f"{what} (your dask configuration has {words})"
    warned = (f"workers spill to {choice.look}, and {reason(choice.look)}",) if spills else ()
    return replace(choice, spill=spills, why=why, warnings=(*choice.warnings, *warned))
