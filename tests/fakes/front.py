"""What stands between a command and its answer: the faults of every system alike.

A dialect answers as its system does; this file makes it slow, silent, chatty or cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tests.fakes.core import Core

if TYPE_CHECKING:
    from tests.fakes.dialects.base import Dialect

#: What a site's wrapper says; numbers and colons, as real ones have.
BEFORE = "Welcome to Example HPC!  Maintenance on 2026-12-01, 8:00.\n* 12 jobs of yours wait\n"
AFTER = "Tip 7 of 31: see https://docs.example.org/jobs?id=42\n"
WARNING = "warning: module python/3.11 replaces python/3.9\n"


class Answer(NamedTuple):
    """How a command ends.  `fate`: "" it ends, "hangs" for ever, "killed" by a signal."""

    code: int
    out: str = ""
    err: str = ""
    fate: str = ""


def answer(
    dialect: Dialect, core: Core, argv: Sequence[str], environ: Mapping[str, str], stdin: str = ""
) -> Answer:
    """Run one command of a system, with what goes wrong at the moment."""
    program, faults = argv[0].rpartition("/")[2], core.faults
    core.commands.append((program, *argv[1:]))
    if (version := dialect.version(program, argv[1:])) is not None:
        return Answer(0, version)  # asks no server
    if faults.down == "hangs":
        return Answer(0, fate="hangs")
    if faults.down and (silence := dialect.down(program, argv[1:])) is not None:
        return silence
    if faults.busy and (busy := dialect.busy(program, argv[1:])) is not None:
        faults.busy -= 1
        return busy
    submits = program == dialect.submits and dialect.is_submit(argv)
    before = (BEFORE, WARNING) if faults.chatter else ("", "")  # printed when all seemed well
    if submits and faults.lose_request:
        fate, faults.lose_request = faults.lose_request, ""
        return Answer(0, *before, fate)
    given = dialect.run(core, program, list(argv[1:]), environ, stdin)
    if submits and faults.lose_reply:
        fate, faults.lose_reply = faults.lose_reply, ""
        return Answer(0, *before, fate)
    if faults.garbage:
        return Answer(faults.garbage_code, faults.garbage, "")
    if faults.chatter:
        return Answer(given.code, BEFORE + given.out + AFTER, WARNING + given.err)
    if faults.cut is not None:
        return Answer(given.code, given.out[: faults.cut], given.err)
    return given
