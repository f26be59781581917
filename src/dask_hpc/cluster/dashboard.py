"""The scheduler's dashboard, reachable by the cluster's owner only.

The engine serves it in plain HTTP, without a password, to the whole network.  Here it listens on
this machine alone and asks for a token.  What the pages show is the engine's business; how the link
reaches the user (terminal, notebook, status file) is the caller's.
"""

from __future__ import annotations

import getpass
import hmac
import logging
import os
import re
import secrets
import shlex
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from distributed import Scheduler
from distributed.http import get_handlers
from distributed.http.routing import RoutingApplication
from distributed.utils import clean_dashboard_address
from tornado.httpserver import HTTPServer
from tornado.web import RequestHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tornado.httputil import HTTPServerRequest

    from dask_hpc.cluster.jobs_seen import JobsSeen

logger = logging.getLogger(__name__)

#: By number: "localhost" may lead to [::1] first, where another user of the machine may listen.
LOOPBACK = "127.0.0.1"
#: Bytes.  A refused request's body is read as well, and no page of the dashboard sends a large one.
_LARGEST_BODY = 2**20

_REFUSED = """\
403: this dashboard is shown to the cluster's owner only.
Open it with its complete link, the one that ends in ?token=...
The link is printed where the cluster was started, and by its owner's cluster object.
"""
_ANOTHER_SITE = """\
403: this request comes from a page of another site.
Open the dashboard with its own link, in a window of its own.
"""


# --- who may enter -------------------------------------------------------------------------------


class GuardedApplication(RoutingApplication):
    """The dashboard's routes and applications behind one door.

    Every request of the server comes through `find_handler`, whatever serves it afterwards: the
    engine's pages, bokeh's, their websockets and static files.

    Parameters
    ----------
    routes
        As the engine makes them.
    token
        What a request must show: ``?token=`` once, afterwards the cookie that it left; or
        ``Authorization: Bearer``.
    prepare
        Called before each request that may pass.
    """

    def __init__(
        self, routes: list[Any], *, token: str, prepare: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(routes)
        self._token = token
        self._prepare = prepare

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return the engine's handler for a request that may pass, otherwise one that refuses."""
        if not from_own_page(request.headers):
            return self.get_handler_delegate(request, _Refuse, {"why": _ANOTHER_SITE})
        cookie = cookie_name(request.headers.get("Host", ""))
        if _may_set_cookie(request) and self._is_token(_in_query(request)):
            welcome = {"cookie": cookie, "token": self._token}
            return self.get_handler_delegate(request, _Welcome, welcome)
        if self._is_token(_in_header(request)) or self._is_token(_in_cookie(request, cookie)):
            self._prepare()
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, _Refuse, {"why": _REFUSED})

    def find_page(self, request: HTTPServerRequest) -> Any:
        """Return the handler for a request of somebody who has shown the owner's identity."""
        if not from_own_page(request.headers):
            return self.get_handler_delegate(request, _Refuse, {"why": _ANOTHER_SITE})
        self._prepare()
        return super().find_handler(request)

    def _is_token(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(errors="replace"), self._token.encode())


def from_own_page(headers: Mapping[str, str]) -> bool:
    """Whether no page of another site sent this request.

    A cookie proves the browser, not the page: browsers open websockets to any site, and to them all
    ports of one host are one site.  They name the page's origin where it matters.

    Parameters
    ----------
    headers
        Of the request.

    Returns
    -------
    bool
        True if there is no Origin, or its host and port are those of Host.
    """
    origin = headers.get("Origin")
    if origin is None:
        return True
    host = headers.get("Host", "").lower()
    return host != "" and origin.lower() in (f"http://{host}", f"https://{host}")


def cookie_name(host: str) -> str:
    """Name the cookie after the port, because browsers share cookies between ports of one host.

    Parameters
    ----------
    host
        Host header: the port is the one the browser knows, at its end of a tunnel.

    Returns
    -------
    str
        For example ``"dask-hpc-8787"``.
    """
    port = re.search(r":(\d+)$", host)
    return f"dask-hpc-{port[1] if port else 'dashboard'}"


def _may_set_cookie(request: HTTPServerRequest) -> bool:
    return request.method in ("GET", "HEAD") and "Upgrade" not in request.headers


def _in_query(request: HTTPServerRequest) -> str:
    return dict(parse_qsl(str(request.query))).get("token", "")


def _in_header(request: HTTPServerRequest) -> str:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return str(shown).strip() if scheme.lower() in ("bearer", "token") else ""


def _in_cookie(request: HTTPServerRequest, name: str) -> str:
    return str(request.cookies[name].value) if name in request.cookies else ""


class _Refuse(RequestHandler):
    """Answer any method with 403 and the way in."""

    def initialize(self, why: str) -> None:
        self.why = why

    def prepare(self) -> None:
        self.set_status(HTTPStatus.FORBIDDEN)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(self.why)


class _Welcome(RequestHandler):
    """Leave the token in a cookie and send the browser to the same page without it."""

    def initialize(self, cookie: str, token: str) -> None:
        self.cookie = cookie
        self.token = token

    def prepare(self) -> None:
        self.set_cookie(self.cookie, self.token, httponly=True, samesite="Strict")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        page = without_token(self.request.uri)
        if self.request.headers.get("Sec-Fetch-Site") == "cross-site":
            # A click on another site, such as a JupyterHub: a browser follows a redirect of that
            # without strict cookies, but not a page of ours that sends it on.
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.set_header("Refresh", f"0; url={page}")
            self.finish("Opening the dashboard.\n")
        else:
            self.redirect(page)


def without_token(uri: str) -> str:
    """Return path and query of a request less the token, safe to redirect to.

    Parameters
    ----------
    uri
        As the request line has it.

    Returns
    -------
    str
        One slash at the beginning: two would name another host.
    """
    path, _, query = uri.partition("?")
    kept = urlencode([pair for pair in parse_qsl(query, True) if pair[0] != "token"])
    return "/" + path.lstrip("/\\\t ") + ("?" + kept if kept else "")


# --- the scheduler -------------------------------------------------------------------------------


class GuardedScheduler(Scheduler):
    """The engine's scheduler with a dashboard that only the cluster's owner can open.

    It listens on 127.0.0.1 alone, whatever host `dashboard_address` names, and asks for
    `dashboard_token`.  It speaks plain HTTP: an ssh tunnel encrypts what leaves the machine, so
    the engine's ``distributed.scheduler.dashboard.tls`` is not used.

    Parameters
    ----------
    dashboard
        Whether to show the engine's pages.
    options
        Of the engine's Scheduler.

    Attributes
    ----------
    dashboard_token
        Secret, new with every scheduler.
    jobs_seen
        What the Jobs page shows; without it there is no such page.
    """

    dashboard_token: str
    jobs_seen: JobsSeen | None = None

    def __init__(self, *, dashboard: bool = True, **options: Any) -> None:
        self._pages_wanted = dashboard
        super().__init__(dashboard=False, **options)

    def start_http_server(
        self,
        routes: list[Any],
        dashboard_address: Any,
        default_port: int = 0,
        ssl_options: Any = None,
    ) -> None:
        """Start the dashboard's server: called by the engine, once.

        Parameters
        ----------
        routes
            As the engine makes them.
        dashboard_address
            Port, or address with a port, or None.  A port that is taken is replaced by a free one.
        default_port
            Where no address is given.
        ssl_options
            Passed on.

        Raises
        ------
        OSError
            If this machine lets us listen nowhere.
        """
        self.dashboard_token = secrets.token_urlsafe(32)
        self.http_application = GuardedApplication(
            routes, token=self.dashboard_token, prepare=self._connect_pages
        )
        self.http_server = HTTPServer(
            self.http_application, ssl_options=ssl_options, max_body_size=_LARGEST_BODY
        )
        port = clean_dashboard_address(dashboard_address or default_port)[0]["port"]
        bound = _bind(port)
        self.http_server.add_sockets([bound])
        self.http_server.address, self.http_server.port = bound.getsockname()
        self.services["dashboard"] = self.http_server

    def _connect_pages(self) -> None:
        """Load the engine's pages when somebody first looks.

        They bring bokeh, as long to import as the rest of the engine: a cluster that nobody watches
        starts without it.
        """
        if not self._pages_wanted:
            return
        self._pages_wanted = False
        try:
            from distributed.dashboard.scheduler import connect
        except ImportError:  # no bokeh: the engine has a page that says so
            routes = get_handlers(self, ["distributed.http.scheduler.missing_bokeh"], prefix="/")
            self.http_application.add_handlers(".*$", routes)
        else:
            if self.jobs_seen is not None:
                self._add_jobs_page()
            connect(self.http_application, self.http_server, self, prefix="/")

    def _add_jobs_page(self) -> None:
        try:
            from dask_hpc.cluster.jobs_page import add_page

            add_page(self)
        except (ImportError, LookupError) as error:  # the engine moves, and its pages matter more
            logger.warning("the dashboard has no page of the jobs: %s", error)

    def dashboard_url(self, *, token: bool) -> str:
        """Return the dashboard's link on this machine.

        Parameters
        ----------
        token
            Whether the link opens it; without, it asks for the cookie and may be shown to others.

        Returns
        -------
        str
            For example ``"http://127.0.0.1:8787/status?token=…"``.
        """
        query = f"?token={self.dashboard_token}" if token else ""
        return f"http://{LOOPBACK}:{self.http_server.port}/status{query}"


def _bind(port: int) -> socket.socket:
    try:
        bound = socket.create_server((LOOPBACK, port))
    except OSError as error:
        if port == 0:
            raise
        # No Python warning as the engine's: on a login node port 8787 is always somebody's.
        logger.info("port %d cannot be had (%s): dashboard takes a free one", port, error.strerror)
        bound = socket.create_server((LOOPBACK, 0))
    bound.setblocking(False)
    return bound


# --- how to get there ----------------------------------------------------------------------------


def tunnel_line(
    url: str, *, host: str | None = None, user: str | None = None, remote: bool | None = None
) -> str:
    """Return one line that tells a person how to see the dashboard.

    Parameters
    ----------
    url
        The dashboard's link on the machine that serves it.
    host, user
        What the person would give to ssh; None: this machine, this user.
    remote
        Whether the person's browser is on another machine; None: if this is an ssh session.

    Returns
    -------
    str
        The link, behind the tunnel's command if one is needed.  The tunnel has the same port at
        its near end, so that the link holds there.
    """
    if remote is None:
        remote = "SSH_CONNECTION" in os.environ
    if not remote:
        return url
    port = urlsplit(url).port
    account = shlex.quote(f"{user or getpass.getuser()}@{host or socket.gethostname()}")
    return f"ssh -N -L {port}:{LOOPBACK}:{port} {account}   and then open   {url}"
