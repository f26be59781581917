"""Which process is the head of a cluster directory, by its journal, and whether it lives.

A number alone is no process: a machine gives it to another one, most of all after a restart.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: Of the fields in /proc/PID/stat after the program's name (proc(5)): the state, and when the
#: process started.
_STATE, _START = 0, 19


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that is the head, or about to be.

    Parameters
    ----------
    host, pid
        Where it runs, and its number there.
    born
        What tells it from others of that number; empty if that was not written down.
    """

    host: str
    pid: int
    born: str = ""

    @property
    def alive(self) -> bool | None:
        """Whether it runs; None where that cannot be told, from another host."""
        if self.host != socket.gethostname():
            return None
        if self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return not self.born  # another user's is not ours
        return not self.born or born(self.pid) == self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def myself() -> dict[str, Any]:
    """Our own process and the time, as an event names them."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "born": born(pid), "at": time.time()}


def born(pid: int) -> str:
    """Which start of the machine, and when since then, a process began; empty if it does not run.

    One that nobody has waited for yet has ended all the same.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        boot = _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return "" if fields[_STATE] in ("Z", "X") else f"{boot} {fields[_START]}"


def holders(events: Iterable[Mapping[str, Any]]) -> list[Holder]:
    """The head that was last, if any, and then whoever was about to be the next, in their order.

    Parameters
    ----------
    events
        Of the journal.
    """
    found: list[Holder] = []
    for event in events:
        if event["event"] == "opened":
            found = [_holder(event)]
        elif event["event"] == "claimed":
            found.append(_holder(event))
    return found


def _holder(event: Mapping[str, Any]) -> Holder:
    return Holder(str(event.get("host", "")), int(event.get("pid", 0)), str(event.get("born", "")))
