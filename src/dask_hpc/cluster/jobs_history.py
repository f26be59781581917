"""How many jobs were in which state over the last hour.

Pure: counts go in with the time, series to be drawn come out.  Of any length of life it keeps a
bounded number of moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds that are kept; and within which two changes are one, so that at most so many are kept as
#: a screen has dots.
SPAN = 3600.0
RESOLUTION = 5.0


@dataclass(frozen=True, slots=True)
class Series:
    """Counts over time, as steps: each change stands twice, with what was before and after.

    Parameters
    ----------
    times
        Seconds since the epoch, rising.
    counts
        Jobs at each time, by state.
    """

    times: list[float]
    counts: dict[str, list[int]]


class JobsHistory:
    """Counts by state, at each change."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, dict[str, int]]] = deque()

    def __len__(self) -> int:
        """Moments that are kept."""
        return len(self._moments)

    def add(self, at: float, counts: Mapping[str, int]) -> None:
        """Note how many jobs there are in each state.

        Parameters
        ----------
        at
            Seconds since the epoch; a clock that was put back counts as not having moved.
        counts
            By state; those that are missing are 0.
        """
        now = {state: count for state, count in counts.items() if count}
        moments = self._moments
        if moments:
            last, known = moments[-1]
            at = max(at, last)
            if known == now:
                return
            if len(moments) > 1 and at - moments[-2][0] < RESOLUTION:
                moments[-1] = (at, now)
                return
        moments.append((at, now))
        while len(moments) > 1 and moments[1][0] <= at - SPAN:  # the one before tells how it began
            moments.popleft()

    def series(self, states: tuple[str, ...], now: float) -> Series:
        """Counts of these states over the last hour, until now."""
        times: list[float] = []
        counts: dict[str, list[int]] = {state: [] for state in states}
        before: Mapping[str, int] = {}
        since = now - SPAN
        for at, known in self._moments:
            if at > since and times:
                _step(times, counts, at, before)
            _step(times, counts, max(at, since), known)
            before = known
        if times:
            _step(times, counts, max(now, times[-1]), before)
        return Series(times, counts)


def _step(
    times: list[float], counts: dict[str, list[int]], at: float, known: Mapping[str, int]
) -> None:
    times.append(at)
    for state, column in counts.items():
        column.append(known.get(state, 0))
