"""What tests share: waiting for conditions.  Nothing of dask-hpc itself may live here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")  # requires-python 3.11: no `def f[T]` yet


def wait_until(predicate: Callable[[], T], timeout: float = 20.0) -> T:
    """Wait for a condition on what other processes do, and return its first true value.

    Parameters
    ----------
    predicate
        Asked every 20 ms.
    timeout
        Seconds after which the test fails.

    Raises
    ------
    AssertionError
        If the condition does not come true in time.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout} s; last value: {value!r}")
        time.sleep(0.02)
    return value
