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

    async def retire(self, names: Collection[str], *, force: bool) -> set[str]:
        """Move data off these workers and close them; the names of those that closed."""
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
