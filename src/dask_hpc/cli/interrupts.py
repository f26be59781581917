"""What Ctrl-C means to ``dask-hpc run``: once, end in order; twice, end at once.

Signals only; what there is to end is the command's business.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from dask_hpc.cli.entry import INTERRUPTED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

#: A closed terminal, or who kills us, means the same.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDING = (
    b"\ndask-hpc: ending: the script is told, then the cluster is closed; again ends at once\n"
)
_AT_ONCE = b"\ndask-hpc: ended at once: the cluster's guardian cancels its jobs\n"


class Interrupts:
    """Handles signals while it is entered.

    Attributes
    ----------
    begun : bool
        Whether a first signal has come.
    """

    def __init__(self) -> None:
        self.begun = False
        self._held = False
        self._script: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._handle) for each in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def raise_if_begun(self) -> None:
        """Go on unless a signal has come.

        Raises
        ------
        KeyboardInterrupt
            If one has.
        """
        if self.begun:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the first signal be noted alone: what is done meanwhile must not be broken off."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    @contextmanager
    def passed_to(
        self, start: Callable[[], subprocess.Popen[bytes]]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a script, and pass the first signal to it: its end is waited for."""
        with self.held():
            self._script = start()
            if self.begun:  # it came while the script was started
                self._script.send_signal(signal.SIGINT)
            try:
                yield self._script
            finally:
                self._script = None

    def _handle(self, number: int, _: object) -> None:
        if self.begun:
            self._end_at_once()
        self.begun = True
        os.write(2, _ENDING)
        if self._script is not None:
            if number != signal.SIGINT or not _from_terminal():
                self._script.send_signal(number)
        elif not self._held:
            raise KeyboardInterrupt

    def _end_at_once(self) -> None:
        if self._script is not None:
            self._script.kill()
        os.write(2, _AT_ONCE)
        os._exit(INTERRUPTED)  # the guardian's pipe closes with us


def _from_terminal() -> bool:
    """Whether Ctrl-C goes to us and so to the script too, which is in our process group.

    The kernel does not tell a handler where a signal is from.
    """
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
