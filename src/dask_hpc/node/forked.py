"""What a process forked from a warm parent must do first: die with its parent, forget its dice.

A worker leaves signals to its supervisor, too (:mod:`.unheard`).
Runs in the fork server and in each worker.  How the server comes to be is not known here.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from enum import Enum, auto

from dask_hpc.node.unheard import WARNINGS, leave_to_supervisor

_PR_SET_PDEATHSIG = 1  # prctl(2)
#: proc(5): thousandths of all memory that a process counts for beyond what it uses.
_OOM_SCORE, _WORKER_FIRST = "/proc/self/oom_score_adj", 200


class _Role(Enum):
    NONE = auto()
    SERVER = auto()
    WORKER = auto()


class _Self:
    role = _Role.NONE
    server = 0


def become_server() -> None:
    """From now on, children of this process are workers.

    Signals meant for the whole job (a batch system's SIGTERM, Ctrl-C) must reach workers through
    their nannies alone, which close them in order; so the server, which would take all workers
    with it, ignores them.
    """
    _Self.role, _Self.server = _Role.SERVER, os.getpid()
    for number in (*WARNINGS, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.register_at_fork(after_in_child=_after_fork)


def die_with(parent: int) -> None:
    """Be killed the moment the parent dies, however it dies.

    Parameters
    ----------
    parent
        Process id of the parent, as known before the fork.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl was called
        os._exit(1)


def _after_fork() -> None:
    if _Self.role is not _Role.SERVER:
        return  # a process that a user's task forks is the user's business
    _Self.role = _Role.WORKER
    die_with(_Self.server)
    _go_first()
    leave_to_supervisor()  # Ctrl-C, which the server ignores, stays its to answer too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    gc.enable()
    random = sys.modules.get("numpy.random")
    if random is not None:  # unlike Python's own, numpy's global generator survives a fork
        random.seed()


def _go_first() -> None:
    """Have the kernel, if it runs out of memory, kill a worker rather than what starts it again."""
    try:
        with open(_OOM_SCORE, "r+", encoding="ascii") as file:  # noqa: PTH123  (twice as fast)
            own = int(file.read())
            file.seek(0)
            file.write(str(min(1000, own + _WORKER_FIRST)))
    except (OSError, ValueError):  # a container may hide it
        pass
