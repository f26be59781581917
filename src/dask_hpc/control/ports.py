"""What the controller is given: the scheduler's side, and where the files of a cluster are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Workers(Protocol):
    """What the controller asks of the dask scheduler."""

    def load(self) -> Mapping[str, float]:
        """Bytes held by each worker, by its name."""
        ...

    def busy(self) -> Collection[str]:
        """Names of the workers that compute something, or are about to."""
        ...

    def longest_task(self) -> float:
        """Seconds that the longest of the tasks at hand is expected to take; 0 where none is."""
        ...

    def deadlines(self, deadlines: Mapping[str, float]) -> None:
        """When the jobs of workers end by force, by their names, in seconds since the epoch."""
        ...

    async def retire(
        self, names: Collection[str], *, force: bool, deadline: float | None = None
    ) -> set[str]:
        """Let these workers finish what they can, hand over the rest, and close.

        Parameters
        ----------
        names
            Of the workers.
        force
            Close them at once, even where their data has nowhere to go.
        deadline
            When their job is ended by force, in seconds since the epoch; None if nobody knows.

        Returns
        -------
        set
            The names of those that closed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a cluster are.

    Parameters
    ----------
    scripts
        Job script of each pool, by its name.
    logs
        Directory of the jobs' logs.
    """

    scripts: Mapping[str, Path]
    logs: Path
