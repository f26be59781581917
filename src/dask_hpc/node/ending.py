"""How a supervisor ends: the exit code and the last line, in plain words.

Pure: nothing is closed or printed here.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError, HPCError, NodeError, RendezvousError

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExitCode(IntEnum):
    """Exit codes of ``dask-hpc worker`` (sysexits.h); a signal gives 128 + its number."""

    DONE = 0  # the cluster closed the workers, or the head is gone: nothing is left to do
    WORKERS_FAILED = 70  # EX_SOFTWARE: a worker failed to start
    HEAD_UNREACHABLE = 75  # EX_TEMPFAIL: no scheduler file, or nobody answers at its address
    BAD_OPTIONS = 78  # EX_CONFIG: what was asked can never work here


@dataclass(frozen=True, slots=True)
class Ending:
    """An exit code and its reason, and whether the head went without closing its workers."""

    code: int
    reason: str
    lost: bool = field(default=False, compare=False)


#: What the engine's worker says when the connection to its scheduler breaks.
BROKEN = "worker-handle-scheduler-connection-broken"

_REASONS = {
    BROKEN: "the head is gone",
    "worker-lifetime-reached": "the lifetime of the workers is over",
    "nanny-instantiate-failed": "a worker could not be started again",
    "nanny-instantiate-timeout": "a worker could not be started again in time",
}


def finished(reasons: Iterable[str]) -> Ending:
    """All workers are closed.

    Parameters
    ----------
    reasons
        Why, in the engine's words, one of each worker that told.
    """
    told = [_REASONS.get(reason, "closed by the cluster") for reason in reasons]
    for reason in ("closed by the cluster", *_REASONS.values()):
        if reason in told:
            return Ending(ExitCode.DONE, reason, lost=reason == _REASONS[BROKEN])
    return Ending(ExitCode.DONE, "all workers ended")


def head_gone(address: str) -> Ending:
    """The head does not answer any more."""
    return Ending(ExitCode.DONE, f"the head is gone ({address})", lost=True)


def cut_off(address: str, place: str) -> Ending:
    """The head cannot connect to the workers of this node."""
    return Ending(
        ExitCode.BAD_OPTIONS,
        f"the head at {address} cannot connect to this node's workers at {place}, although they"
        " reach it: a firewall, or a network that the head is not on; choose another --interface",
    )


def signalled(number: int) -> Ending:
    """A signal asked us to end."""
    return Ending(128 + number, f"signal {signal.Signals(number).name}")


def start_failed(error: BaseException) -> Ending:
    """A worker did not start."""
    text = _one_line(str(error)) or type(error).__name__
    return Ending(ExitCode.WORKERS_FAILED, f"a worker failed to start: {text}")


def unexpected(error: Exception) -> Ending:
    """A fault of this program."""
    text = _one_line(f"{type(error).__name__}: {error}")
    return Ending(ExitCode.WORKERS_FAILED, f"unexpected error: {text}")


def failed(error: HPCError) -> Ending:
    """Ours went wrong before a worker ran."""
    if isinstance(error, RendezvousError):
        return Ending(ExitCode.HEAD_UNREACHABLE, f"cannot reach the head: {_one_line(str(error))}")
    if isinstance(error, ConfigurationError | NodeError):
        return Ending(ExitCode.BAD_OPTIONS, _one_line(str(error)))
    return Ending(ExitCode.WORKERS_FAILED, _one_line(str(error)))


def _one_line(text: str) -> str:
    """The last line of a log is read by machines as well: one line, whatever the error said."""
    return " ".join(text.split())
