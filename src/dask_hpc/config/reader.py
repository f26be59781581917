"""Read the configuration: defaults, the user's dask configuration, one batch system's section."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import dask.config
import yaml

SECTION = "dask-hpc"


@cache
def defaults() -> dict[str, Any]:
    """What ships with the package, registered with dask on first use."""
    text = Path(__file__).with_name("dask-hpc.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    dask.config.update_defaults(values)
    return dict(values[SECTION])


def settings(batch: str | None = None) -> dict[str, Any]:
    """Values for one batch system.

    Parameters
    ----------
    batch
        Name of the batch system, or None for the common values alone.

    Returns
    -------
    dict
        Each keyword of :class:`dask_hpc.HPCCluster` that has a default.
    """
    known = defaults()
    values = dask.config.get(SECTION)
    # A batch system's section is the one value that is a mapping.
    common = {key: values.get(key, default) for key, default in known.items()}
    common = {key: value for key, value in common.items() if not isinstance(known[key], dict)}
    return {**common, **(values.get(batch) or {})} if batch else common
