"""What the doctor says of one thing: a value, and how several add up.

Nothing is looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How it is; the order is that of gravity."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


_ORDER = list(Status)


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table.

    Parameters
    ----------
    name
        Of what was looked at, the same from run to run.
    status
        How it is.
    seen
        What was seen, with numbers.
    advice
        What to do; empty if nothing is to be done.
    """

    name: str
    status: Status
    seen: str
    advice: str = ""


def ok(name: str, seen: str) -> Finding:
    """Say that all is well."""
    return Finding(name, Status.OK, seen)


def warning(name: str, seen: str, advice: str = "") -> Finding:
    """Say what may go wrong."""
    return Finding(name, Status.WARNING, seen, advice)


def problem(name: str, seen: str, advice: str = "") -> Finding:
    """Say what will go wrong."""
    return Finding(name, Status.PROBLEM, seen, advice)


def worst(findings: Iterable[Finding]) -> Status:
    """The gravest of all; of none, ok."""
    return max((each.status for each in findings), key=_ORDER.index, default=Status.OK)


def rough(amount: float) -> str:
    """Write an amount of bytes for a table: three digits are enough there."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1000 or unit == "TiB":  # noqa: PLR2004
            break
        amount /= 1024
    return f"{amount:.3g} {unit}"
