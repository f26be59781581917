"""When jobs of one shape would start, as far as a batch system tells.

Values only.  How one batch system is asked is :mod:`dask_hpc.drivers.forecasts`' business.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """Some jobs that would start together.

    Parameters
    ----------
    jobs
        How many, at least one.
    seconds
        From now.
    """

    jobs: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is known of the starts of some jobs of one shape.

    Parameters
    ----------
    starts
        In the order of their time; of jobs beyond these nothing is known.
    refused
        Why they can never run as asked, in the batch system's words; empty if they can.
    said
        What it was told by, or why nothing is known, in a few words.
    """

    starts: tuple[Start, ...] = ()
    refused: str = ""
    said: str = ""

    @property
    def known(self) -> int:
        """Jobs whose start is known."""
        return sum(start.jobs for start in self.starts)

    @property
    def first(self) -> float | None:
        """Seconds until the first one starts; None where that is not known."""
        return self.starts[0].seconds if self.starts else None

    @property
    def last(self) -> float | None:
        """Seconds until the last of the known ones starts."""
        return self.starts[-1].seconds if self.starts else None


def starts(*steps: tuple[int, float]) -> tuple[Start, ...]:
    """Make starts of numbers of jobs and seconds from now, without those that are none."""
    found = [Start(jobs, max(0.0, seconds)) for jobs, seconds in steps if jobs > 0]
    return tuple(sorted(found, key=lambda start: start.seconds))
