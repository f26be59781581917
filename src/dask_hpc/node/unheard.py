"""Signals that a worker leaves to its supervisor, and what it starts hears again.

Batch systems warn all processes of a job, and workers are to work on until they are told to close.
"""

from __future__ import annotations

import os
import signal
import threading

#: By which batch systems warn; the supervisor alone answers.
WARNINGS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class _Forking(threading.local):
    """What the forking thread had blocked before."""

    mask: frozenset[int | signal.Signals] = frozenset()


_forking = _Forking()


def leave_to_supervisor() -> None:
    """Do nothing at a warning, in this process.

    By a handler: that a signal is ignored, programs that tasks start would inherit.  Processes that
    tasks fork do inherit a handler, so it is taken away there, before a signal can come.
    """
    for number in WARNINGS:
        signal.signal(number, _leave_it)
        signal.siginterrupt(number, False)
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_hear_again)


def _leave_it(_number: int, _frame: object) -> None:
    pass


def _block() -> None:
    _forking.mask = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS))


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _hear_again() -> None:
    for number in WARNINGS:
        if signal.getsignal(number) is _leave_it:  # a task may have set its own
            signal.signal(number, signal.SIG_DFL)
    _unblock()
