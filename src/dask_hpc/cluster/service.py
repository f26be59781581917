"""The control channel of a head: HTTPS, where both sides show the identity of the cluster's owner.

A request is ``POST /OPERATION`` with a JSON object of arguments; the answer is JSON.  It needs no
engine on the other side, so that a command is fast.  What the operations do is known elsewhere.
All other requests are for pages of the dashboard.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.routing import Router
from tornado.web import Application, RequestHandler

from dask_hpc.batch.runner import OUTPUT_CAP
from dask_hpc.errors import HPCError, to_json
from dask_hpc.model.tls import TLSFiles

logger = logging.getLogger("dask_hpc")

#: Takes the arguments of one operation, and gives what JSON can carry.
Operation = Callable[..., Awaitable[Any]]

#: Bytes of a request: what a command printed that was run for a head, as JSON.
_LARGEST_BODY = 4 * OUTPUT_CAP
#: Seconds that the last answers may take.
_GOODBYE = 2.0


class Service:
    """A control channel.

    Parameters
    ----------
    operations
        By name.
    tls
        Of the cluster's owner: nobody else is let in.

    Attributes
    ----------
    pages
        Finds what serves a page of the dashboard, once there is one.
    """

    def __init__(self, operations: Mapping[str, Operation], tls: TLSFiles) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls.cert, tls.key)
        self.running: set[asyncio.Task[Any]] = set()
        self.pages: Callable[[HTTPServerRequest], Any] | None = None
        routes = [(r"/([a-z_]+)", _Handler, {"operations": operations, "service": self})]
        self._server = HTTPServer(
            _Front(Application(routes, log_function=_quiet), self),
            ssl_options=context,
            max_body_size=_LARGEST_BODY,
        )

    def listen(self, host: str | Sequence[str] | None) -> int:
        """Listen where the scheduler does, on a free port.

        Parameters
        ----------
        host
            An address, several, or None for all.

        Returns
        -------
        int
            The port, the same everywhere.

        Raises
        ------
        OSError
            If this machine lets us listen nowhere.
        """
        hosts = [host] if host is None or isinstance(host, str) else list(host)
        first = bind_sockets(0, _bare(hosts[0]))
        port: int = first[0].getsockname()[1]
        self._server.add_sockets(first)
        for each in hosts[1:]:
            self._server.add_sockets(bind_sockets(port, _bare(each)))
        return port

    def close(self) -> None:
        """Listen no longer; requests that have come are still answered."""
        self._server.stop()

    async def answered(self) -> None:
        """Wait, for a moment, until all requests that have come are answered."""
        if self.running:
            await asyncio.wait(set(self.running), timeout=_GOODBYE)


def _bare(host: str | None) -> str:
    """An address without the brackets that set one of IPv6 off from its port."""
    return (host or "").strip("[]")


class _Front(Router):
    """Tells what is asked of the head from pages to look at."""

    def __init__(self, operations: Application, service: Service) -> None:
        self._operations = operations
        self._service = service

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        if request.method == "POST" or self._service.pages is None:
            return self._operations.find_handler(request, **kwargs)
        return self._service.pages(request)


class _Handler(RequestHandler):
    """One request."""

    def initialize(self, operations: Mapping[str, Operation], service: Service) -> None:
        self._operations = operations
        self._service = service

    async def post(self, name: str) -> None:
        operation = self._operations.get(name)
        if operation is None:
            known = ", ".join(self._operations)
            told = f"this head knows no operation {name!r}, but {known}"
            self._fail(HPCError(told, hint="its dask-hpc is older or newer than this one"))
            return
        if (task := asyncio.current_task()) is not None:
            self._service.running.add(task)
            task.add_done_callback(self._service.running.discard)
        try:
            answer = await operation(**json.loads(self.request.body or b"{}"))
            self.finish(json.dumps({"answer": answer}))
        except HPCError as error:
            self._fail(error)
        except (TypeError, ValueError) as error:
            self._fail(HPCError(f"{name}: {error}"))
        except Exception as error:
            logger.exception("%s failed", name)
            self._fail(HPCError(f"{name} failed in the head: {error!r}", hint="see its log"))

    def _fail(self, error: HPCError) -> None:
        self.set_status(HTTPStatus.BAD_REQUEST)
        self.finish(json.dumps(to_json(error)))


def _quiet(handler: RequestHandler) -> None:
    """Log no request: a watched status is asked for again and again."""
