"""Every error this package raises, in one tree.

A message says what happened, where, and what to do next.  Nothing but exceptions, and their way to
another process, may live here: it is the lowest layer, imported on login and compute nodes alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HPCError(Exception):
    """Base of all errors of dask-hpc.

    Parameters
    ----------
    message
        What happened and where.
    hint
        What to do next; printed on a line of its own.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  -> {self.hint}" if self.hint else message


def to_json(error: HPCError) -> dict[str, str]:
    """What another process needs to raise the same error."""
    return {"error": type(error).__name__, "message": str(error.args[0]), "hint": error.hint}


def from_json(told: Mapping[str, Any]) -> HPCError:
    """Make an error that another process has raised.

    Parameters
    ----------
    told
        As `to_json` gives it; a kind that is not known here becomes an `HPCError`.
    """
    kind = globals().get(str(told.get("error")), HPCError)
    if not (isinstance(kind, type) and issubclass(kind, HPCError)):
        kind = HPCError
    return kind(str(told.get("message", "")), hint=str(told.get("hint", "")))


class ConfigurationError(HPCError, ValueError):
    """A request that can never work as written: caught before anything is submitted."""


class BatchSystemError(HPCError):
    """A command of the batch system failed."""


class BatchSystemMissing(BatchSystemError):
    """The batch system's programs are not on this machine."""


class BatchSystemUnavailable(BatchSystemError):
    """The batch system did not answer in time; what it knows is unknown, not gone."""


class SubmitRejected(BatchSystemError):
    """The batch system refused a submission for good."""


class SubmitLimited(SubmitRejected):
    """The batch system accepts no more jobs of this user for now."""


class JobStartError(HPCError):
    """Jobs end before a worker of theirs joins."""


class RendezvousError(HPCError):
    """The scheduler file cannot be used."""


class SchedulerFileMissing(RendezvousError, TimeoutError):
    """No scheduler file appeared in time."""


class SchedulerFileForeign(RendezvousError):
    """The scheduler file belongs to another user, or others may write it."""


class SchedulerFileBroken(RendezvousError):
    """The scheduler file is half-written or holds no address."""


class HeadUnreachable(RendezvousError, TimeoutError):
    """The scheduler named in the scheduler file does not answer."""


class UnknownCluster(HPCError, LookupError):
    """You have no cluster that is called so."""


class ClusterDirectoryError(HPCError):
    """The cluster directory is not ours, or others may read it."""


class IdentityError(HPCError):
    """The TLS identity of this user cannot be used."""


class NodeError(HPCError):
    """A job's node cannot run what was asked of it."""


class JupyterError(HPCError):
    """JupyterLab beside the scheduler cannot be started, or has died."""


class WorkersTimeout(HPCError, TimeoutError):
    """Not enough workers joined in the time given."""
