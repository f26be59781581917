"""Sizes as users say them (workers, jobs, cores, memory) in whole jobs of one layout.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dask_hpc.control.demand import Bounds
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.layout import Layout
from dask_hpc.units import parse_memory


def jobs_wanted(
    layout: Layout,
    *,
    n: int | None = None,
    jobs: int | None = None,
    cores: int | None = None,
    memory: str | int | None = None,
) -> int:
    """How many jobs of a layout give what was asked for; the others are those of ``scale``.

    Raises
    ------
    ConfigurationError
        Unless exactly one is given, and not negative.
    """
    if sum(value is not None for value in (n, jobs, cores, memory)) != 1:
        raise ConfigurationError("scale() takes exactly one of n, jobs=, cores=, memory=")
    if memory is not None:
        return layout.jobs_for_memory(parse_memory(memory)) if memory else 0
    count = next(value for value in (n, jobs, cores) if value is not None)
    if not isinstance(count, int) or count < 0:
        raise ConfigurationError(f"cannot scale to {count!r}: take a whole number, 0 or more")
    if jobs is not None:
        return count
    return layout.jobs_for_workers(count) if cores is None else layout.jobs_for_cores(count)


def jobs_between(layout: Layout, *, least: Mapping[str, Any], most: Mapping[str, Any]) -> Bounds:
    """Between how many jobs an adaptive cluster may move.

    Parameters
    ----------
    layout
        Of a job.
    least, most
        Sizes as ``scale`` takes them, by ``"n"``, ``"jobs"``, ``"cores"`` or ``"memory"``, at most
        one each that is not None; an infinite one is none.

    Returns
    -------
    Bounds
        At least the least, in whole jobs, and not more than the most, but one job.

    Raises
    ------
    ConfigurationError
        If there is no number between them.
    """
    low = {name: value for name, value in least.items() if value is not None}
    high = {name: value for name, value in most.items() if value not in (None, math.inf)}
    if len(low) > 1 or len(high) > 1:
        raise ConfigurationError(
            "adapt() takes one minimum and one maximum",
            hint="in workers (minimum=), jobs, cores or memory",
        )
    fewest = jobs_wanted(layout, **low) if low else 0
    if not high:
        return Bounds(fewest)
    ((name, value),) = high.items()
    size = parse_memory(value) if name == "memory" else value
    if not isinstance(size, int) or size < 0:
        raise ConfigurationError(f"cannot have up to {size!r}: take a whole number")
    greatest = max(1, jobs_wanted(layout, **{name: size + 1}) - 1)  # rounded down, not up
    if not 0 <= fewest <= greatest:
        raise ConfigurationError(
            f"adapt() cannot stay between {fewest} and {greatest} jobs",
            hint=f"a job has {layout.workers} workers with {layout.threads} threads each",
        )
    return Bounds(fewest, greatest)
