"""Which rank is what: the scheduler, the client, a worker; and whether there are enough of them.

Pure: numbers in, roles out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dask_hpc.launch.pair import TooFewRanks

if TYPE_CHECKING:
    from collections.abc import Sequence


class Roles(NamedTuple):
    """Ranks by role.

    Parameters
    ----------
    scheduler, client
        Its rank; None if the launch has none.
    workers
        Their ranks.
    """

    scheduler: int | None
    client: int | None
    workers: frozenset[int]


def assign(
    size: int, *, scheduler: int | None, client: int | None = None, exclusive: bool = True
) -> Roles:
    """Give every rank its role.

    Parameters
    ----------
    size
        Of the world.
    scheduler, client
        Ranks, which may be the same; None for none.
    exclusive
        Whether workers run on ranks that have no other role only.

    Returns
    -------
    Roles
        With at least one worker.

    Raises
    ------
    TooFewRanks
        If there are not enough ranks.
    """
    others = {rank for rank in (scheduler, client) if rank is not None}
    workers = frozenset(range(size)) - (others if exclusive else set())
    needed = max(len(others) + 1 if exclusive else 1, *(rank + 1 for rank in others), 1)
    if size < needed or not workers:
        raise TooFewRanks(
            f"a launch of {size} {'rank' if size == 1 else 'ranks'} is too small: it needs"
            f" {needed}{_wanted(scheduler, client, exclusive=exclusive)}",
            hint=f"mpirun -np {needed}, or more: each further rank is one more worker",
        )
    return Roles(scheduler, client, workers)


def _wanted(scheduler: int | None, client: int | None, *, exclusive: bool) -> str:
    roles = [
        f"the {role} on rank {rank}"
        for role, rank in (("scheduler", scheduler), ("client", client))
        if rank is not None
    ]
    if not roles:
        return ""
    where = "and a worker on a rank of its own" if exclusive else "and a worker"
    return f" ({', '.join(roles)} {where})"


def leaders(hosts: Sequence[str], client_alone: int | None = None) -> dict[str, int]:
    """Choose the rank that leads each host: its lowest.

    Parameters
    ----------
    hosts
        Of each rank.
    client_alone
        A rank that runs the user's program and nothing else: it leads nobody.
    """
    chosen: dict[str, int] = {}
    for rank, host in enumerate(hosts):
        if rank != client_alone:
            chosen.setdefault(host, rank)
    return chosen
