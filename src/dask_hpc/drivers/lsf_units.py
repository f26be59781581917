"""Amounts as LSF's and OpenLava's options take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError

if TYPE_CHECKING:
    from dask_hpc.model.job import JobSpec

_UNITS = "KMGTPE"


def in_unit(size: int, unit: str) -> int:
    """Write bytes in a unit such as ``MB``, rounded up.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    power = _UNITS.find(unit.strip()[:1].upper()) + 1
    if power == 0:
        raise ConfigurationError(
            f"not a unit of memory: {unit!r}", hint="give lsf_units= KB, MB, GB or TB"
        )
    return -(-size // (1 << 10 * power))


def slots_per_node(spec: JobSpec) -> int:
    """Slots to request on each node: ``ncpus`` or what the workers use.

    Raises
    ------
    ConfigurationError
        If ``ncpus`` is no number.
    """
    asked = spec.options.get("ncpus", "").strip()
    if not asked:
        return spec.cores
    if not asked.isdecimal() or int(asked) == 0:
        raise ConfigurationError(f"ncpus= is a number of slots, not {asked!r}")
    return int(asked)
