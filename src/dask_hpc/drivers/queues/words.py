"""Amounts as batch systems print them, leniently: what is no amount is None."""

from __future__ import annotations

import re

from dask_hpc.errors import ConfigurationError
from dask_hpc.units import parse_walltime

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(?:b|w)?", re.IGNORECASE)
_POWERS = " kmgtp"


def whole(text: str) -> int | None:
    """A number, also one that stands for "at least" as in ``16+``; 0 is one."""
    match = re.match(r"\s*(\d+)", text)
    return int(match[1]) if match else None


def seconds(text: str) -> int | None:
    """A duration as a clock, ``1-00:00:00`` or ``0:1:0``; words such as "infinite" are none."""
    days, _, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if days.isdecimal() and len(parts) < 3:  # noqa: PLR2004  (Slurm: days-hours)
        clock = ":".join([*parts, "0", "0"][:3])
    try:
        return parse_walltime(f"{days}-{clock}" if days else clock)
    except ConfigurationError:
        return None


def memory(text: str, unit: int = 1) -> int | None:
    """Bytes of an amount such as ``8gb`` or ``23.5G``, which batch systems count in 1024s.

    Parameters
    ----------
    text
        As printed.
    unit
        Bytes that a bare number counts.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        return None
    number, prefix = float(match[1]), match[2].lower()
    return round(number * (1024 ** _POWERS.index(prefix) if prefix else unit))


def most(*values: int | None) -> int | None:
    """The largest of what is known."""
    return max((value for value in values if value is not None), default=None)


def added(*values: int | None) -> int | None:
    """The sum of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
