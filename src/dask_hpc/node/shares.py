"""What each rank of a node may use, so that all together never use more than the node's share.

Pure: the machine is described by a snapshot, the ranks by their CPUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from fractions import Fraction
from typing import TYPE_CHECKING

from dask_hpc.model.job_environment import told_cores
from dask_hpc.node import limits
from dask_hpc.units import format_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_hpc.node.limits import Snapshot


def threads(
    cpus: Sequence[AbstractSet[int]], environ: Mapping[str, str], quota: float | None = None
) -> list[int]:
    """Threads for each rank of a node.

    A CPU that several ranks may use is divided among them: ranks that are bound get what they are
    bound to, ranks that are not get equal parts of all.

    Parameters
    ----------
    cpus
        Of each rank.
    environ
        A batch system that tells how many cores the job has here is believed.
    quota
        CPUs' worth of time that all of them have together, or None.

    Returns
    -------
    list of int
        At least 1 each.
    """
    users = Counter(cpu for each in cpus for cpu in each)
    told = _told(environ, len(cpus))
    part = min(Fraction(1), Fraction(quota) / max(1, len(users))) if quota else Fraction(1)
    shares = [sum((part / users[cpu] for cpu in each), Fraction(0)) for each in cpus]
    most = Fraction(told) if told else Fraction(sum(len(each) for each in cpus))
    return [max(1, int(min(share, most))) for share in shares]


def _told(environ: Mapping[str, str], ranks: int) -> int:
    """Cores of one rank as the batch system tells; 0 if it does not."""
    for number, name in told_cores(environ):
        return number if name == "SLURM_CPUS_PER_TASK" else max(1, number // ranks)
    return 0


def memory(text: str, ranks: int, workers: int, snapshot: Snapshot) -> tuple[int, tuple[str, ...]]:
    """Bytes for each worker.

    Parameters
    ----------
    text
        ``"auto"``: an equal part for each rank; ``"0"``: no limit; a fraction of the node's
        share; or an amount.
    ranks, workers
        On this node: a rank that runs no worker keeps its part.
    snapshot
        What the machine says.

    Returns
    -------
    int
        0 for no limit.
    tuple of str
        A warning if what was asked was cut down.
    """
    room = limits.memory(snapshot)
    asked = limits.asked_memory(text, room.amount)
    if asked is None:
        return 0, ()
    if asked == 0:
        each = limits.for_workers(room.amount, max(ranks, 1))
        bound = limits.of_one_process(snapshot)
        return each if bound is None else min(each, bound.amount), ()
    fits = room.amount // max(workers, 1)
    if asked <= fits:
        return asked, ()
    return fits, (
        (
            f"--memory-limit {format_memory(asked)} for each of {workers} workers is more than the"
            f" {format_memory(room.amount)} of this node ({room.source}): now {format_memory(fits)}"
        ),
    )
