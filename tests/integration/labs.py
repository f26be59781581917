"""A person's browser, as far as tests without one need it: requests and websockets to Lab."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psutil
from tornado.httpclient import HTTPRequest
from tornado.netutil import Resolver
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dask_hpc.jupyter.reach import Listen, Reach


def tree(reach: Reach) -> list[psutil.Process]:
    """The server's process and all below it."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess):  # a guardian of an earlier test, say
            if "dask_hpc.jupyter.serve" in process.cmdline():
                return [process, *process.children(recursive=True)]
    raise AssertionError("no server runs")


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Addresses on which it takes connections from the network or this machine's other users."""
    return {
        (connection.laddr.ip, connection.laddr.port)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@dataclass(frozen=True)
class Answer:
    """Of one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Browser:
    """Somebody who reaches the server, and has its token or not."""

    reach: Reach
    token: str = ""
    context: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """What the browser takes the server for: the near end of the tunnel."""
        return f"localhost:{self.reach.near}"

    def _headers(self) -> dict[str, str]:
        shown = {"Authorization": f"token {self.token}"} if self.token else {}
        return {"Host": self.host, **shown, **self.headers}

    def _connection(self) -> http.client.HTTPConnection:
        if self.reach.listen is Listen.SOCKET:
            connection = http.client.HTTPConnection("localhost", timeout=20)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(self.reach.socket)
            return connection
        return http.client.HTTPSConnection(
            "localhost", self.reach.port, timeout=20, context=self.context
        )

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Answer:
        """Send one request, follow nothing."""
        connection = self._connection()
        text = None if body is None else json.dumps(body)
        with closing(connection):
            connection.request(method, path, body=text, headers=self._headers())
            got = connection.getresponse()
            return Answer(got.status, dict(got.getheaders()), got.read())

    async def socket(self, path: str, protocols: list[str]) -> WebSocketClientConnection:
        """Open a websocket as a page of the server does."""
        at_socket = self.reach.listen is Listen.SOCKET
        s, resolver = ("", _ToSocket(self.reach.socket)) if at_socket else ("s", None)
        headers = {**self._headers(), "Origin": f"http{s}://{self.host}"}
        request = HTTPRequest(f"ws{s}://{self.host}{path}", headers=headers)
        request.ssl_options = self.context
        return await websocket_connect(request, subprotocols=protocols, resolver=resolver)

    async def run(self, code: str) -> str:
        """Run a cell in a new kernel: what it prints, or its traceback."""
        made = await asyncio.to_thread(self.ask, "/api/kernels", "POST", {"name": "python3"})
        assert made.status == 201, made
        kernel = made.json["id"]
        channels = await self.socket(f"/api/kernels/{kernel}/channels", [])
        try:
            return await asyncio.wait_for(_execute(channels, code), 50)
        finally:
            await shut(channels)


async def shut(connection: WebSocketClientConnection) -> None:
    """Close a websocket, and wait until it is."""
    connection.close()
    async with asyncio.timeout(10):
        while await connection.read_message() is not None:
            pass


class _ToSocket(Resolver):
    def initialize(self, path: str) -> None:
        self._path = path

    def __new__(cls, path: str) -> Any:
        return super().__new__(cls, path=path)

    async def resolve(self, host: str, port: int, family: Any = None) -> list[Any]:
        return [(socket.AF_UNIX, self._path)]


async def _execute(channels: WebSocketClientConnection, code: str) -> str:
    ours = uuid.uuid4().hex
    header = {
        "msg_id": ours,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "date": "",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
    }
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    await channels.write_message(json.dumps({**message, "channel": "shell", "buffers": []}))
    said = ""
    while True:
        text = await channels.read_message()
        assert text is not None, "the kernel's channel was closed"
        heard = json.loads(text)
        if heard["parent_header"].get("msg_id") != ours:
            continue
        kind, content = heard["msg_type"], heard["content"]
        if kind == "stream":
            said += content["text"]
        elif kind == "error":
            said += "\n".join(content["traceback"])
        elif kind == "status" and content["execution_state"] == "idle":
            return said
