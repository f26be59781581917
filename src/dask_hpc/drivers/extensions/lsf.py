"""LSF: bmod, and bjobs.

Source: IBM's documentation of LSF 10.1: bmod, bjobs (``-o``, ``-WL``) and LSB_MOD_ALL_JOBS, without
which limits of running jobs stay as they are.  LSF itself was not seen.
"""

from __future__ import annotations

import re

from dask_hpc.drivers import lsf_words as words
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.extensions import Run

WHO = "LSF does it where the site has set LSB_MOD_ALL_JOBS, and up to the queue's limit"

#: The limit in minutes, of which host's speed; what is left in hours and minutes, and of what kind
#: it is.  Sites may have both as clocks with seconds (LSB_HMS_TIME_FORMAT).
_ROW = re.compile(
    r"(?:(?P<minutes>\d+(?:\.\d+)?)|(?P<limit>\d+:\d\d:\d\d))(?:/\S*)?"
    r"\|(?P<left>\d+:\d\d?(?::\d\d)?)(?: [LEX])?"
)


def ask(job: str) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    fields = "runtimelimit time_left delimiter='|'"
    return Command(("bjobs", "-noheader", "-o", fields, _element(job)), words.UNSET)


def read(output: Output, now: float) -> Run | None:
    """See :class:`~dask_hpc.drivers.extensions.Extension`."""
    for match in filter(None, (_ROW.fullmatch(each.strip()) for each in output.stdout.split("\n"))):
        limit = float(match["minutes"]) * 60 if match["minutes"] else _seconds(match["limit"])
        end = now + _seconds(match["left"])
        return Run(end - limit, end)
    return None


def extend(job: str, walltime: int) -> Command:
    """See :class:`~dask_hpc.drivers.extensions.Extension`: in minutes, rounded up."""
    return Command(("bmod", "-W", str(-(-walltime // 60)), _element(job)), words.UNSET)


def _element(job: str) -> str:
    """Of an array, which all our jobs are, the first."""
    return f"{job}[1]"


def _seconds(clock: str) -> int:
    hours, minutes, *rest = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + sum(rest)
