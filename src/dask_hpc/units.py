"""Memory in bytes and walltime in seconds: the one parser and formatter of both.

System-neutral: what one batch system wants to read ("4G", minutes, "02:00:00") its driver writes.
"""

from __future__ import annotations

import re
from datetime import timedelta

from dask_hpc.errors import ConfigurationError

_PREFIXES = "kmgtpe"
_MEMORY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgtpe])(i?))?b?\s*", re.IGNORECASE)

_SECONDS = {
    unit: seconds
    for units, seconds in (
        ("s sec secs second seconds", 1),
        ("m min mins minute minutes", 60),
        ("h hr hrs hour hours", 3600),
        ("d day days", 86400),
        ("w week weeks", 604800),
    )
    for unit in units.split()
}
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)", re.IGNORECASE)


def parse_memory(text: str | float) -> int:
    """Read an amount of memory.

    Parameters
    ----------
    text
        A number of bytes, or text such as ``"32 GiB"`` (2**30), ``"32GB"`` (10**9), ``"500M"``.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ConfigurationError
        If the text is not an amount of memory, or not positive.
    """
    if isinstance(text, bool):
        raise _bad_memory(text)
    if isinstance(text, int):
        return _positive_memory(text, text)
    if isinstance(text, float):
        number, factor = text, 1
    else:
        match = _MEMORY.fullmatch(text)
        if match is None:
            raise _bad_memory(text)
        number, factor = float(match[1]), _factor(match[2], binary=bool(match[3]))
        if match[1].isdigit():  # exact beyond 2**53, where floats are not
            return _positive_memory(int(match[1]) * factor, text)
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124  (NaN)
        raise _bad_memory(text)
    return _positive_memory(round(number * factor), text)


def _factor(prefix: str, *, binary: bool) -> int:
    power = _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
    return int((1024 if binary else 1000) ** power)


def _positive_memory(value: int, text: object) -> int:
    if value < 1:
        raise _bad_memory(text)
    return value


def _bad_memory(text: object) -> ConfigurationError:
    return ConfigurationError(
        f"not an amount of memory: {text!r}",
        hint='write for example "32 GiB", "500 MB" or a number of bytes above zero',
    )


def format_memory(value: int) -> str:
    """Write bytes so that :func:`parse_memory` reads the same number back.

    Parameters
    ----------
    value
        Bytes, at least 1.

    Returns
    -------
    str
        The largest unit that divides the value, for example ``"32 GiB"`` or ``"1500 MB"``.
    """
    for power in range(len(_PREFIXES), 0, -1):
        letter = _PREFIXES[power - 1].upper()
        for base, unit in ((1024, f"{letter}iB"), (1000, "kB" if power == 1 else f"{letter}B")):
            if value >= base**power and value % base**power == 0:
                return f"{value // base**power} {unit}"
    return f"{value} B"


def parse_walltime(value: str | float | timedelta) -> int:
    """Read a walltime.

    Parameters
    ----------
    value
        Seconds, a :class:`datetime.timedelta`, a clock (``"MM:SS"``, ``"HH:MM:SS"``,
        ``"D-HH"``, ``"D-HH:MM"``, ``"D-HH:MM:SS"``) or text such as ``"30 min"``, ``"1 h 30 min"``.
        A bare number in text is refused: batch systems read it as minutes or as seconds.

    Returns
    -------
    int
        Seconds, at least 1; fractions are rounded up.

    Raises
    ------
    ConfigurationError
        If the value is not a walltime, or not positive.
    """
    if isinstance(value, bool):
        raise _bad_walltime(value)
    seconds: float
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float):
        seconds = value  # an int stays one: exact, and never too large for a float
    else:
        seconds = _text_seconds(value)
    if not 0 < seconds < float("inf"):
        raise _bad_walltime(value)
    return -int(-seconds // 1)


def _text_seconds(text: str) -> float:
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    if clock is not None and not text.isdigit():
        return _clock_seconds(clock, text)
    seconds, rest = 0.0, text
    while match := _QUANTITY.match(rest):
        scale = _SECONDS.get(match[2].lower())
        if scale is None:
            break
        seconds, rest = seconds + float(match[1]) * scale, rest[match.end() :].lstrip(" ,")
    if rest or not text:
        raise _bad_walltime(text)
    return seconds


def _clock_seconds(clock: re.Match[str], text: str) -> float:
    days = int(clock[1] or 0)
    parts = [int(part) for part in clock.groups()[1:] if part is not None]
    if clock[1] is not None:  # D-HH[:MM[:SS]]
        parts += [0] * (3 - len(parts))
    elif len(parts) < 3:  # MM:SS  # noqa: PLR2004
        parts = [0, *parts]
    hours, minutes, seconds = parts
    if seconds > 59 or (minutes > 59 and hours) or (days and hours > 23):  # noqa: PLR2004
        raise _bad_walltime(text)
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def _bad_walltime(value: object) -> ConfigurationError:
    return ConfigurationError(
        f"not a walltime: {value!r}",
        hint='write for example "30 min", "01:30:00", "1-00:00:00" or a timedelta',
    )


def format_walltime(seconds: int) -> str:
    """Write seconds as ``"HH:MM:SS"`` or ``"D-HH:MM:SS"``.

    Parameters
    ----------
    seconds
        Seconds, at least 0.

    Returns
    -------
    str
        A clock that :func:`parse_walltime` reads back as the same number.
    """
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock
