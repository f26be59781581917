"""How many jobs the batch system lets this user have, learnt from what it refuses.

Pure: no clock, no process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dask_hpc.control.backoff import LIMIT_BELIEVED


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Between which numbers of jobs the limit lies.

    Jobs of the user that are not this cluster's count too and come and go, so that what was learnt
    is believed for a while only.

    Parameters
    ----------
    accepted
        Most jobs that there were together, since a submission was refused.
    refused
        Fewest jobs with which a submission was refused; None as long as none was.
    until
        When that is no longer believed.
    """

    accepted: int = 0
    refused: int | None = None
    until: float = 0.0

    def room(self, live: int, count: int, now: float) -> int:
        """How many of ``count`` jobs to submit now, with ``live`` there.

        As many as fit below what was refused; then half-way between that and what was accepted, so
        that the limit is found in few tries.
        """
        if self.refused is None or now >= self.until:
            return count
        known = max(live, self.accepted)
        if live + count <= known:
            return count
        middle = known + (self.refused - known) // 2
        return max(0, min(live + count, max(middle, known)) - live)

    def refuse(self, live: int, count: int, now: float) -> Ceiling:
        """Learn that ``count`` jobs beside ``live`` ones are too many."""
        total = live + count
        held = self.believed(now)
        most = total if held.refused is None else min(total, held.refused)
        return Ceiling(min(held.accepted, most - 1), most, now + LIMIT_BELIEVED)

    def accept(self, live: int) -> Ceiling:
        """Learn that so many jobs together are accepted."""
        if self.refused is None:
            return self
        return replace(self, accepted=max(self.accepted, live), refused=max(self.refused, live + 1))

    def believed(self, now: float) -> Ceiling:
        """What is still believed."""
        return self if self.refused is None or now < self.until else Ceiling()
