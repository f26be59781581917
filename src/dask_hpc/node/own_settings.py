"""What a user set of the engine's memory settings: all of it stays as it is.

Reads the dask configuration, after the engine is imported.  Which settings we would choose is
:mod:`.storage`'s business.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dask_hpc.node.spawn import fast_yaml
from dask_hpc.node.spilling import SECTION

#: Where distributed read its configuration until 2018; it no longer looks there, its users' values
#: are still meant.
OLD_DIRECTORY = Path("~/.dask")
_NAMES = ("target", "spill", "pause", "terminate", "max-spill")


def own() -> dict[str, Any]:
    """What was set, by name (``target``, ``spill``, ``pause``, ``terminate``, ``max-spill``).

    Returns
    -------
    dict
        What differs from the engine's defaults, whoever set it; what a file or the environment
        says even where that is the default; old names (``worker-memory-target``) under the new.
    """
    return {**_section(_collected()), **changed()}


def changed() -> dict[str, Any]:
    """What differs from the engine's defaults, whoever set it: no file is read."""
    import dask

    shipped: dict[str, Any] = {}
    for defaults in dask.config.defaults:
        shipped |= _section(defaults)
    now = _section(dask.config.config)
    return {name: value for name, value in now.items() if value != shipped.get(name)}


def from_old_directory(known: Mapping[str, Any]) -> dict[str, Any]:
    """What ``~/.dask`` has beyond `known`: the engine must be told of it."""
    directory = OLD_DIRECTORY.expanduser()
    if not directory.is_dir():
        return {}
    import dask

    found: dict[str, Any] = {}
    for values in dask.config.collect_yaml(paths=[str(directory)]):
        _rename(values)
        found |= _section(values)
    return {name: value for name, value in found.items() if name not in known}


def _collected() -> Mapping[str, Any]:
    import dask

    with fast_yaml(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of old names: the engine has said it
        collected: Mapping[str, Any] = dask.config.collect(env=_relevant())
    return collected


def _relevant() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("DASK_")}


def _rename(values: dict[str, Any]) -> None:
    import dask

    dask.config.rename(dask.config.deprecations, config=values)


def _section(values: Mapping[str, Any]) -> dict[str, Any]:
    import dask

    section = dask.config.get(SECTION, None, config=values) or {}
    plain = {str(name).replace("_", "-"): value for name, value in section.items()}
    return {name: plain[name] for name in _NAMES if name in plain}
