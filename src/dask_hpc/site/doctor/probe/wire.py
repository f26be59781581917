"""Measure routes: a server and a client that prove to each other that they are the same user.

TLS with a certificate of the user's own authority on both sides, or no word is exchanged.  Amounts
are bounded, whoever asks.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

#: Seconds for a connection, and for any one step after it.
CONNECT_SECONDS, STEP_SECONDS = 3.0, 30.0
#: Messages for a round trip; bytes for the bandwidth, and the most that a server reads.
PINGS, BULK, MOST = 20, 8 << 20, 64 << 20
#: Connections at a time; a line is this long at most.
CONNECTIONS, LINE = 16, 4096
#: Between two looks whether a file is there, and for how long it is looked for.
GLANCE, PATIENCE = 0.02, 20.0


def context(files: tuple[str, str, str], *, server: bool) -> ssl.SSLContext:
    """Both sides show a certificate, and believe one authority alone.

    Parameters
    ----------
    files
        Authority, certificate, key.
    server
        Whether we are the one that listens.
    """
    kind = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    made = ssl.SSLContext(kind)
    made.check_hostname = False  # one certificate for all of a user's processes
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_verify_locations(files[0])
    made.load_cert_chain(files[1], files[2])
    return made


class Server:
    """Answers the same user's measurements until it is closed.

    Parameters
    ----------
    files
        Authority, certificate, key.
    directory
        In which names of files are looked for; no other can be named.
    """

    def __init__(self, files: tuple[str, str, str], directory: Path) -> None:
        self._context = context(files, server=True)
        self._directory = directory
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self._socket = socket.create_server(("", 0), family=family, dualstack_ipv6=both)
        self.port = int(self._socket.getsockname()[1])
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:  # closed
                return
            if not self._room.acquire(blocking=False):
                plain.close()
                continue
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            plain.settimeout(STEP_SECONDS)
            with plain, self._context.wrap_socket(plain, server_side=True) as stream:
                reader = stream.makefile("rb")
                while line := reader.readline(LINE):
                    stream.sendall(_line(self._answer(json.loads(line), reader)))
        except (OSError, ValueError, KeyError):  # not us, or gone: there is nobody to tell
            return
        finally:
            self._room.release()

    def _answer(self, asked: dict[str, Any], reader: Any) -> dict[str, Any]:
        if asked["do"] == "sink":
            left = min(int(asked["bytes"]), MOST)
            while left and (chunk := reader.read1(min(left, 1 << 16))):
                left -= len(chunk)
        if asked["do"] == "watch":
            return {"there": self._path(asked).exists()}
        if asked["do"] == "await":
            return {"seconds": await_file(self._path(asked))}
        if asked["do"] == "create":
            self._path(asked).touch(mode=0o600)
        return {"time": time.time()}

    def _path(self, asked: dict[str, Any]) -> Path:
        return self._directory / Path(str(asked["name"])).name


def await_file(path: Path) -> float | None:
    """Seconds until a file is seen; None if it is not seen in time."""
    started = time.monotonic()
    while not path.exists():
        if time.monotonic() - started > PATIENCE:
            return None
        time.sleep(GLANCE)
    return time.monotonic() - started


class Caller:
    """A connection to such a server.

    Raises
    ------
    OSError
        If it cannot be reached, or is not the same user's.
    """

    def __init__(self, files: tuple[str, str, str], address: str, port: int) -> None:
        plain = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
        try:
            plain.settimeout(STEP_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stream = context(files, server=False).wrap_socket(plain)
        except BaseException:
            plain.close()
            raise
        self._lines = self._stream.makefile("rb")

    def ask(self, **what: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        self._stream.sendall(_line(what))
        answer = self._lines.readline(LINE)
        if not answer:
            raise ConnectionResetError("closed by the other side")
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._stream.close()

    def round_trip(self) -> tuple[float, float]:
        """Shortest seconds there and back; seconds that their clock is ahead of ours."""
        best, ahead = float("inf"), 0.0
        for _ in range(PINGS):
            clock, started = time.time(), time.perf_counter()
            theirs = float(self.ask(do="echo")["time"])
            took = time.perf_counter() - started
            if took < best:
                best, ahead = took, theirs - (clock + took / 2)
        return best, ahead

    def bandwidth(self) -> float:
        """Bytes per second that the other side receives."""
        started = time.perf_counter()
        self._stream.sendall(_line({"do": "sink", "bytes": BULK}) + bytes(BULK))
        self._lines.readline(LINE)
        return BULK / max(time.perf_counter() - started, 1e-6)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
