"""Where a JupyterLab listens, and what its owner types to get there.

Values in, text out.  No process, no socket.
"""

from __future__ import annotations

import os
import shlex
import socket
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlencode
from zlib import crc32

#: By number: "localhost" may lead to [::1] first, where another user of the machine may listen.
LOOPBACK = "127.0.0.1"
#: Near ends of tunnels: unassigned by IANA for the most part, below Linux's ephemeral ports.
_FIRST_PORT, _PORTS = 20000, 10000


class Listen(StrEnum):
    """Where the server listens.

    A Unix socket in a directory of the owner's is the safest: the kernel lets nobody else connect,
    no other user can sit on its name before or after, and ssh encrypts what leaves the machine.
    """

    SOCKET = "socket"
    LOOPBACK = "loopback"  # TLS on 127.0.0.1: for a browser on the head's own machine
    NETWORK = "network"  # TLS on the head's address: for nodes that users may not ssh to


def is_remote(host: str) -> bool:
    """Whether the browser of a person who asks here is on another machine than `host`."""
    return "SSH_CONNECTION" in os.environ or socket.gethostname() != host


def default_listen(*, remote: bool) -> Listen:
    """Where to listen for a person who did not say: at a port only if the browser is here."""
    return Listen.SOCKET if remote else Listen.LOOPBACK


def near_port(cluster: str) -> int:
    """Return the port of the tunnel's near end.

    It is the same each time, so that a browser knows the page again, and mostly another for each
    cluster, because browsers share cookies between ports of one host only in part.
    """
    return _FIRST_PORT + crc32(cluster.encode()) % _PORTS


@dataclass(frozen=True, slots=True)
class Reach:
    """How to reach a running JupyterLab.

    Parameters
    ----------
    cluster, host, user
        Names: of the cluster, of the machine where it runs, of its owner there.
    listen
        Where it listens.
    socket
        Path of its Unix socket, or empty.
    address, port
        Where else it listens.
    near
        Port for the near end of a tunnel.
    token
        Secret: whoever has it and reaches the server is its owner.
    fingerprint
        SHA-256 of its certificate, as browsers show it; empty at a socket.
    job
        Id of the job it runs in, if it has one of its own.
    until
        When that job ends, in seconds since the epoch; None if nobody knows.
    """

    cluster: str
    host: str
    user: str
    listen: Listen
    socket: str
    address: str
    port: int
    near: int
    token: str
    fingerprint: str = ""
    job: str = ""
    until: float | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Make one of what :meth:`to_json` gave."""
        return cls(**{**values, "listen": Listen(values["listen"])})

    def to_json(self) -> dict[str, Any]:
        """Plain values, the token among them: for the owner's own connection."""
        return asdict(self)

    @property
    def place(self) -> str:
        """Where it listens, as ssh names it: the socket, or address and port."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return self.socket or f"{address}:{self.port}"

    def __repr__(self) -> str:
        # What a notebook shows is saved with it: print() shows the line with the token instead.
        return f"<JupyterLab of cluster {self.cluster!r} on {self.host} at {self.place}>"

    def __str__(self) -> str:
        return line(self)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A JupyterLab that is not there yet.

    Parameters
    ----------
    told
        How it does, in a line for people.
    """

    told: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {"waiting": self.told}


def from_json(values: dict[str, Any]) -> Reach | Waiting:
    """Make what `to_json` of either gave."""
    return Waiting(values["waiting"]) if "waiting" in values else Reach.from_json(values)


def link(reach: Reach, *, token: bool = True, page: str = "lab") -> str:
    """Return the link to open in a browser, at the near end of the tunnel if there is one.

    Parameters
    ----------
    reach
        The server.
    token
        Whether the link opens it.
    page
        ``"lab"``, or ``"dask/status"`` for the scheduler's dashboard.
    """
    scheme = "http" if reach.listen is Listen.SOCKET else "https"
    query = "?" + urlencode({"token": reach.token}) if token else ""
    return f"{scheme}://localhost:{reach.near}/{page}{query}"


def tunnel(reach: Reach, *, from_host: str | None = None) -> str:
    """Return the ssh command to run on the person's own computer.

    Parameters
    ----------
    reach
        The server.
    from_host
        Machine that the person has logged in to; None: this one.  If the server is on another,
        the tunnel goes there by way of it.
    """
    here = from_host or socket.gethostname()
    via, last = "", reach.host
    if reach.listen is Listen.NETWORK:
        last = here
    elif here != reach.host:
        via = f"-J {shlex.quote(f'{reach.user}@{here}')} "
    account = shlex.quote(f"{reach.user}@{last}")
    return f"ssh -N -L {shlex.quote(f'{reach.near}:{reach.place}')} {via}{account}"


def line(reach: Reach, *, remote: bool | None = None) -> str:
    """Return one line that tells a person how to open JupyterLab; it holds the token.

    Parameters
    ----------
    reach
        The server.
    remote
        Whether the person's browser is on another machine; None: see :func:`is_remote`.
    """
    if remote is None:
        remote = is_remote(reach.host)
    warned = "" if reach.listen is Listen.SOCKET else f"   ({_warning(reach)})"
    warned += f"   ({_end(reach)})" if reach.job else ""
    if not remote and reach.listen is not Listen.SOCKET:
        return f"{link(reach)}{warned}"
    return (
        f"In a new terminal on your own computer run   {tunnel(reach)}   , "
        f"leave it open, and then open   {link(reach)}   in the browser there{warned}"
    )


def _warning(reach: Reach) -> str:
    return (
        "the browser does not know the certificate and asks once; "
        f"its SHA-256 fingerprint begins with {reach.fingerprint[:23]}"
    )


def _end(reach: Reach) -> str:
    if reach.until is None:
        return f"it ends with its job, {reach.job}"
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(reach.until))
    return f"its job, {reach.job}, ends at {moment}"
