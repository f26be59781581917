"""How many jobs were in which state over the last hour.

Pure: counts go in with the time, series to be drawn come out.  Of any length of life it keeps a
bounded number of moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds that are kept; those of them in which each change can be told from the next; and within
#: how many seconds two changes are one, then and before: a screen has no more dots.
SPAN = 3600.0
LATELY = 300.0
FINE, COARSE = 1.0, 10.0

_Moment = tuple[float, Mapping[str, int]]


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
        self._before: deque[_Moment] = deque()
        self._lately: deque[_Moment] = deque()

    def __len__(self) -> int:
        """Moments that are kept."""
        return len(self._before) + len(self._lately)

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
        lately = self._lately
        if lately:
            last, known = lately[-1]
            at = max(at, last)
            if known == now:
                return
            if len(lately) > 1 and at - lately[-2][0] < FINE:
                lately.pop()
        lately.append((at, now))
        while lately[0][0] < at - LATELY:
            self._age(lately.popleft())
        while len(self._before) > 1 and self._before[1][0] <= at - SPAN:
            self._before.popleft()  # the last one of them stays: it tells how the hour began

    def _age(self, moment: _Moment) -> None:
        if self._before and moment[0] - self._before[-1][0] < COARSE:
            moment = (self._before.pop()[0], moment[1])
        self._before.append(moment)

    def series(self, states: tuple[str, ...], now: float) -> Series:
        """Counts of these states over the last hour, until now."""
        times: list[float] = []
        counts: dict[str, list[int]] = {state: [] for state in states}
        before: Mapping[str, int] = {}
        since = now - SPAN
        for at, known in (*self._before, *self._lately):
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
