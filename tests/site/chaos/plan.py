"""Which fault comes when: drawn from a seed, so that a bad day can be had again.

Pure: data and chance.  What a fault does is in :mod:`~tests.site.chaos.faults`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Seconds that what is taken away stays away.
AWAY = 8.0


@dataclass(frozen=True)
class Fault:
    """One fault to come.

    Parameters
    ----------
    at
        Seconds after the start.
    kind
        Its name.
    pick
        Between 0 and 1: which of the possible victims it hits.
    """

    at: float
    kind: str
    pick: float


@dataclass(frozen=True, kw_only=True)
class Blow:
    """A fault that has happened.

    Parameters
    ----------
    kind
        Its name.
    time
        When, in seconds since the epoch.
    victims
        Beginnings of the names of the workers that it hit; none where no worker need suffer.
    graceful
        Whether they were told some seconds before.
    lasts
        Seconds in which its consequences show.
    mend
        What ends it, after AWAY seconds.
    """

    kind: str
    time: float
    victims: tuple[str, ...] = ()
    graceful: bool = False
    lasts: float = 20.0
    mend: Callable[[], object] | None = None

    def hit(self, worker: str) -> bool:
        """Whether a worker is among its victims."""
        return any(worker.startswith((f"{one}-", f"{one}.")) for one in self.victims)


def draw(seed: int, kinds: Sequence[str], first: float, last: float) -> list[Fault]:
    """Each kind once, in an order drawn, one in each equal part of the time between first and last.

    Repeated kinds come as often as they are named.
    """
    drawn = random.Random(seed)
    order = drawn.sample(list(kinds), len(kinds))
    part = (last - first) / len(order)
    return [
        Fault(first + part * (index + 0.5 * drawn.random()), kind, drawn.random())
        for index, kind in enumerate(order)
    ]
