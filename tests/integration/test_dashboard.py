"""The dashboard of a real scheduler: open to its owner, closed to everybody else."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import warnings

import psutil
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from dask_hpc.cluster import dashboard
from dask_hpc.cluster.dashboard import GuardedScheduler

pytest.importorskip("bokeh")

URL = "http://127.0.0.1:8790/status?token=x"
PATHS = (
    *("/", "/status", "/sitemap.json", "/metrics", "/health", "/json/counts.json"),
    *("/info/main/workers.html", "/individual-task-stream", "/individual-plots.json"),
    *("/status/autoload.js?bokeh-autoload-element=1", "/static/js/bokeh.min.js"),
    *("/statics/css/base.css", "/favicon.ico", "/proxy/8787/127.0.0.1/status", "/no/such/page"),
)


@pytest.fixture
async def scheduler():
    """A real scheduler, dashboard and all, on free ports."""
    async with GuardedScheduler(
        host="127.0.0.1", port=0, dashboard_address=":0", dashboard=True
    ) as started:
        yield started


def link(scheduler: GuardedScheduler, path: str) -> str:
    return f"http://127.0.0.1:{scheduler.http_server.port}{path}"


def cookie(scheduler: GuardedScheduler, token: str | None = None) -> dict[str, str]:
    port = scheduler.http_server.port
    return {"Cookie": f"dask-hpc-{port}={token or scheduler.dashboard_token}"}


async def ask(scheduler, path, *, method="GET", headers=None, body=None):
    """Send one request, follow nothing, return the answer whatever its status."""
    request = HTTPRequest(
        link(scheduler, path),
        method=method,
        headers=headers or {},
        body=body,
        follow_redirects=False,
        allow_nonstandard_methods=True,
    )
    return await AsyncHTTPClient().fetch(request, raise_error=False)


async def open_socket(scheduler, headers):
    """Open the websocket of the status page as bokeh's page does, return the first message."""
    from bokeh.util.token import generate_jwt_token, generate_session_id

    token = generate_jwt_token(generate_session_id())
    url = link(scheduler, "/status/ws").replace("http:", "ws:")
    connection = await websocket_connect(
        HTTPRequest(url, headers=headers), subprotocols=["bokeh", token]
    )
    try:
        return await asyncio.wait_for(connection.read_message(), 10)
    finally:
        connection.close()


class TestClosed:
    @pytest.mark.parametrize("path", PATHS)
    async def test_no_page_is_shown_without_the_token(self, scheduler, path):
        """Every page, file and unknown path answers 403 alike, and says where the link is."""
        answer = await ask(scheduler, path)
        assert answer.code == 403
        assert b"?token=" in answer.body
        assert scheduler.dashboard_token.encode() not in answer.body

    @pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
    async def test_no_method_passes_without_the_token(self, scheduler, method):
        """The door is before the method."""
        body = None if method in ("HEAD", "OPTIONS", "DELETE") else "x"
        assert (await ask(scheduler, "/health", method=method, body=body)).code == 403

    @pytest.mark.parametrize("path", ["/status?token=wrong", "/status?token=", "/status?token=%ff"])
    async def test_a_wrong_token_is_refused(self, scheduler, path):
        """A wrong token sets no cookie."""
        answer = await ask(scheduler, path)
        assert (answer.code, answer.headers.get("Set-Cookie")) == (403, None)

    @pytest.mark.parametrize(
        "header", ["wrong", "Bearer wrong", "Bearer", "Bearer é", "Basic eDp5"]
    )
    async def test_a_wrong_header_is_refused(self, scheduler, header):
        """Anything but the token is refused without an error."""
        headers = {"Authorization": header.encode().decode("latin-1")}
        assert (await ask(scheduler, "/health", headers=headers)).code == 403

    async def test_a_wrong_cookie_is_refused(self, scheduler):
        """The cookie's value is compared, not its name."""
        assert (await ask(scheduler, "/status", headers=cookie(scheduler, "x"))).code == 403

    async def test_another_clusters_cookie_is_refused(self, scheduler):
        """The token of one cluster opens no other."""
        async with GuardedScheduler(host="127.0.0.1", port=0, dashboard_address=":0") as other:
            headers = cookie(scheduler, other.dashboard_token)
            assert (await ask(scheduler, "/status", headers=headers)).code == 403

    async def test_no_websocket_opens_without_the_token(self, scheduler):
        """Bokeh's websocket, which carries all the data, is behind the same door."""
        with pytest.raises(HTTPClientError, match="403"):
            await open_socket(scheduler, {})

    async def test_the_token_in_the_link_opens_no_websocket(self, scheduler):
        """A link opens pages; a websocket needs the cookie."""
        answer = await ask(
            scheduler,
            f"/status/ws?token={scheduler.dashboard_token}",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )
        assert answer.code == 403

    async def test_a_large_body_is_not_read(self, scheduler):
        """A stranger cannot fill the head's memory."""
        answer = await ask(scheduler, "/health", method="POST", body="x" * (2**20 + 1))
        assert answer.code in (400, 413, 599)


class TestOpen:
    async def test_the_link_leaves_a_cookie_and_leads_to_the_page(self, scheduler):
        """302 to the page less the token, with a cookie that no script and no other site uses."""
        answer = await ask(scheduler, f"/status?theme=dark&token={scheduler.dashboard_token}")
        assert answer.code == 302
        assert answer.headers["Location"] == "/status?theme=dark"
        left = answer.headers["Set-Cookie"]
        assert left.startswith(
            f"dask-hpc-{scheduler.http_server.port}={scheduler.dashboard_token};"
        )
        assert "HttpOnly" in left
        assert "SameSite=Strict" in left

    async def test_the_cookie_shows_the_real_status_page(self, scheduler):
        """Bokeh's page comes, complete."""
        answer = await ask(scheduler, "/status", headers=cookie(scheduler))
        assert answer.code == 200
        assert b"bokeh" in answer.body.lower()

    @pytest.mark.parametrize(
        "path",
        # not /sitemap.json: the engine itself fails on it beside bokeh 3.3 and later
        ["/metrics", "/health", "/json/counts.json", "/static/js/bokeh.min.js"],
    )
    async def test_the_cookie_opens_everything(self, scheduler, path):
        """One cookie for engine's and bokeh's pages and files."""
        assert (await ask(scheduler, path, headers=cookie(scheduler))).code == 200

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "token"])
    async def test_a_header_opens_it_for_programs(self, scheduler, scheme):
        """A program, Prometheus for one, shows the token in a header."""
        headers = {"Authorization": f"{scheme} {scheduler.dashboard_token}"}
        assert (await ask(scheduler, "/metrics", headers=headers)).code == 200

    async def test_an_unknown_page_is_not_found_for_the_owner(self, scheduler):
        """Behind the door the engine answers as ever."""
        assert (await ask(scheduler, "/no/such/page", headers=cookie(scheduler))).code == 404

    async def test_the_websocket_opens_with_the_cookie(self, scheduler):
        """Bokeh answers with its acknowledgement."""
        assert "ACK" in await open_socket(scheduler, cookie(scheduler))

    async def test_the_websocket_opens_for_the_page_itself(self, scheduler):
        """A browser names the page's origin, which is the host it asks."""
        headers = {**cookie(scheduler), "Origin": link(scheduler, "")}
        assert "ACK" in await open_socket(scheduler, headers)

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://["]
    )
    async def test_the_websocket_stays_closed_for_another_site(self, scheduler, origin):
        """The owner's browser, sent by another site's page, is refused in spite of the cookie."""
        with pytest.raises(HTTPClientError, match="403"):
            await open_socket(scheduler, {**cookie(scheduler), "Origin": origin})

    async def test_a_click_on_another_site_leads_in_through_a_page_of_ours(self, scheduler):
        """Browsers keep strict cookies from redirects that another site began."""
        answer = await ask(
            scheduler,
            f"/status?token={scheduler.dashboard_token}",
            headers={"Sec-Fetch-Site": "cross-site"},
        )
        assert (answer.code, answer.headers["Refresh"]) == (200, "0; url=/status")
        assert "Set-Cookie" in answer.headers
        assert scheduler.dashboard_token.encode() not in answer.body

    async def test_a_tunnel_with_another_port_has_a_cookie_of_its_own(self, scheduler):
        """The cookie is named after the browser's port, so that two tunnels do not mix."""
        headers = {"Host": "localhost:9000"}
        answer = await ask(scheduler, f"/status?token={scheduler.dashboard_token}", headers=headers)
        assert answer.headers["Set-Cookie"].startswith("dask-hpc-9000=")


class TestRules:
    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("/status?token=x", "/status"),
            ("/status?a=1&token=x&b=", "/status?a=1&b="),
            ("/?token=x", "/"),
            ("//evil.example/?token=x", "/evil.example/"),
            ("/\\evil.example/?token=x", "/evil.example/"),
            ("/\t/evil.example/?token=x", "/evil.example/"),
            ("http://evil.example/?token=x", "/http://evil.example/"),
        ],
    )
    def test_a_redirect_stays_on_this_host(self, uri, expected):
        """No crafted link leads a browser elsewhere."""
        assert dashboard.without_token(uri) == expected

    @pytest.mark.parametrize(
        ("host", "name"),
        [
            ("localhost:8787", "dask-hpc-8787"),
            ("[::1]:8787", "dask-hpc-8787"),
            ("[::1]", "dask-hpc-dashboard"),
            ("hub.example", "dask-hpc-dashboard"),
            ("", "dask-hpc-dashboard"),
        ],
    )
    def test_cookies_are_named_after_the_port(self, host, name):
        """One host, several dashboards: one cookie each."""
        assert dashboard.cookie_name(host) == name

    def test_a_request_without_host_is_from_nowhere(self):
        """An empty Origin does not equal a missing Host."""
        assert not dashboard.from_own_page({"Origin": "http://"})
        assert dashboard.from_own_page({})


class TestListening:
    async def test_it_listens_on_this_machine_only(self):
        """Whatever host is asked for, the socket is bound to 127.0.0.1."""
        async with GuardedScheduler(
            host="127.0.0.1",
            port=0,
            dashboard_address="0.0.0.0:0",
        ) as scheduler:
            port = scheduler.http_server.port
            bound = {
                connection.laddr.ip
                for connection in psutil.Process().net_connections("inet")
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            }
            assert bound == {"127.0.0.1"}

    async def test_a_free_port_that_is_asked_for_is_used(self):
        """The address's port counts."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        async with GuardedScheduler(
            host="127.0.0.1", port=0, dashboard_address=f":{port}"
        ) as scheduler:
            assert scheduler.http_server.port == port

    async def test_a_taken_port_is_replaced_without_a_warning(self, caplog):
        """Port 8787 of a login node is always somebody's: no Python warning, a line in the log."""
        caplog.set_level(logging.INFO, logger=dashboard.__name__)
        with socket.create_server(("127.0.0.1", 0)) as taken, warnings.catch_warnings():
            warnings.simplefilter("error")
            port = taken.getsockname()[1]
            async with GuardedScheduler(
                host="127.0.0.1", port=0, dashboard_address=f":{port}"
            ) as scheduler:
                assert scheduler.http_server.port not in (0, port)
        assert str(port) in caplog.text

    async def test_no_address_means_the_usual_port_or_a_free_one(self):
        """The engine starts its server without an address as well."""
        async with GuardedScheduler(host="127.0.0.1", port=0) as scheduler:
            assert scheduler.http_server.address == "127.0.0.1"
            assert (await ask(scheduler, "/health")).code == 403

    async def test_every_scheduler_has_a_token_of_its_own(self, scheduler):
        """256 bits, never the same."""
        async with GuardedScheduler(host="127.0.0.1", port=0, dashboard_address=":0") as other:
            assert other.dashboard_token != scheduler.dashboard_token
            assert len(other.dashboard_token) == 43

    async def test_the_scheduler_works_without_bokeh(self, monkeypatch):
        """Bokeh is optional: the door and the plain pages stay."""
        monkeypatch.delitem(sys.modules, "distributed.dashboard.scheduler", raising=False)
        monkeypatch.setitem(sys.modules, "distributed.dashboard.core", None)
        async with GuardedScheduler(
            host="127.0.0.1", port=0, dashboard_address=":0", dashboard=True
        ) as scheduler:
            assert (await ask(scheduler, "/status")).code == 403
            answer = await ask(scheduler, "/status", headers=cookie(scheduler))
            assert b"bokeh" in answer.body
            assert (await ask(scheduler, "/health", headers=cookie(scheduler))).code == 200


class TestLink:
    async def test_the_link_with_the_token_opens_it(self, scheduler):
        """One link is for the owner, the other may be shown to anybody."""
        port = scheduler.http_server.port
        plain = f"http://127.0.0.1:{port}/status"
        assert scheduler.dashboard_url(token=False) == plain
        secret = scheduler.dashboard_url(token=True)
        assert secret == f"{plain}?token={scheduler.dashboard_token}"
        request = HTTPRequest(secret, follow_redirects=False)
        assert (await AsyncHTTPClient().fetch(request, raise_error=False)).code == 302

    def test_here_the_link_is_enough(self, monkeypatch):
        """No tunnel on the user's own machine."""
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        assert dashboard.tunnel_line(URL) == URL

    def test_from_afar_a_tunnel_leads_to_it(self, monkeypatch):
        """In an ssh session the line holds the command and the link."""
        monkeypatch.setenv("SSH_CONNECTION", "10.0.0.9 1 10.0.0.1 22")
        assert dashboard.tunnel_line(URL, host="login1", user="ada") == (
            f"ssh -N -L 8790:127.0.0.1:8790 ada@login1   and then open   {URL}"
        )

    def test_the_tunnel_leads_to_this_machine_unless_named(self, monkeypatch):
        """Host and user are this process's own by default."""
        monkeypatch.setenv("LOGNAME", "ada")
        account = f" ada@{socket.gethostname()} "
        assert account in dashboard.tunnel_line(URL, remote=True)

    def test_the_caller_may_know_better(self, monkeypatch):
        """A head in a batch job has no ssh session, and is remote all the same."""
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        line = dashboard.tunnel_line(URL, host="n1", user="DOM\\ada", remote=True)
        assert line.startswith("ssh -N -L 8790:127.0.0.1:8790 'DOM\\ada@n1'")
        assert "\n" not in line
        monkeypatch.setenv("SSH_CONNECTION", "10.0.0.9 1 10.0.0.1 22")
        assert dashboard.tunnel_line(URL, remote=False) == URL
