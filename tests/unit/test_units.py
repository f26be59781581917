"""Memory and walltime: what is read, what is written, what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError
from dask_hpc.units import format_memory, format_walltime, parse_memory, parse_walltime


@given(st.integers(1, 10**24))
def test_memory_written_is_read_back(value: int) -> None:
    """Exact, also beyond 2**53 where floats are not."""
    assert parse_memory(format_memory(value)) == value
    assert parse_memory(value) == value


@given(st.integers(1, 10**12))
def test_walltime_written_is_read_back(seconds: int) -> None:
    """As a clock, with days where there are any."""
    assert parse_walltime(format_walltime(seconds)) == seconds
    assert parse_walltime(seconds) == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32 GiB", 32 * 2**30),
        ("32GB", 32 * 10**9),
        ("32G", 32 * 10**9),
        ("32 gib", 32 * 2**30),
        ("1.5 GiB", 3 * 2**29),
        (".5GB", 5 * 10**8),
        ("500 MB", 5 * 10**8),
        ("1024", 1024),
        ("7 B", 7),
        (" 1 KiB ", 1024),
        (2**60 + 1, 2**60 + 1),
        (1e9, 10**9),
        (1.4, 1),
    ],
)
def test_memory_is_read_as_people_write_it(text: str | float, value: int) -> None:
    """GiB is 2**30 bytes, GB and G are 10**9."""
    assert parse_memory(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "abc", "-1", "0", 0, -1, 0.2, "5iB", "5i", "5 GB/s", "1,5 GB", "GiB",
     float("nan"), float("inf"), True, False],
)  # fmt: skip
def test_what_is_no_memory_is_refused(text: Any) -> None:
    """With a hint that shows how to write it."""
    with pytest.raises(ConfigurationError, match="not an amount of memory") as caught:
        parse_memory(text)
    assert "32 GiB" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30 min", 1800),
        ("30 mins", 1800),
        ("01:30:00", 5400),
        ("90:00", 5400),
        ("100:00:00", 360000),
        ("1-00:00:00", 86400),
        ("1-12", 129600),
        ("0-01:30", 5400),
        ("90 s", 90),
        ("1 h 30 min", 5400),
        ("1h30m", 5400),
        ("1.5 h", 5400),
        ("2 Days, 1 hour", 176400),
        ("1 week", 604800),
        (timedelta(hours=2), 7200),
        (timedelta(milliseconds=1), 1),
        (3600, 3600),
        (0.5, 1),
        (10**400, 10**400),
    ],
)
def test_a_walltime_is_read_as_people_write_it(value: Any, seconds: int) -> None:
    """Clocks, quantities, timedelta; fractions of a second are rounded up."""
    assert parse_walltime(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", " ", "abc", "-1", "-1 h", "10", "0", "00:00", "0 s", 0, -5, float("nan"), float("inf"),
     True, timedelta(0), "1 h -30 min", "5 ms", "1:90", "01:60:00", "1-24:00", "1 fortnight",
     "1:2:3:4", "h"],
)  # fmt: skip
def test_what_is_no_walltime_is_refused(value: Any) -> None:
    """Above all a bare number in text: Slurm reads minutes, others seconds."""
    with pytest.raises(ConfigurationError, match="not a walltime"):
        parse_walltime(value)
