"""The Jobs page of a real cluster, through its guarded dashboard and bokeh's own websocket."""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dask_hpc import HPCCluster
from dask_hpc.cluster.dashboard import GuardedScheduler
from tests.integration.account import Account

pytest.importorskip("bokeh")

#: Seconds for a job of the embedded batch system to come, and for the page to say so.
_SOON = 20


class Tab:
    """A browser's tab, as far as the server can tell."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        from bokeh.protocol import Protocol
        from bokeh.protocol.receiver import Receiver

        self._connection = connection
        self._protocol = Protocol()
        self._receiver = Receiver(self._protocol)

    @classmethod
    async def open(cls, scheduler: GuardedScheduler) -> Tab:
        from bokeh.util.token import generate_jwt_token, generate_session_id

        port = scheduler.http_server.port
        headers = {"Cookie": f"dask-hpc-{port}={scheduler.dashboard_token}"}
        request = HTTPRequest(f"ws://127.0.0.1:{port}/jobs/ws", headers=headers)
        token = generate_jwt_token(generate_session_id())
        tab = cls(await websocket_connect(request, subprotocols=["bokeh", token]))
        await tab.message("ACK")
        return tab

    async def message(self, kind: str) -> Any:
        """The next message of a kind; its content."""
        while True:
            part = await self._connection.read_message()
            assert part is not None, "the server hung up"
            message = await self._receiver.consume(part)
            if message is not None and message.header["msgtype"] == kind:
                return message.content

    async def close(self) -> None:
        """Leave, and wait until the server has let go."""
        self._connection.close()
        while await self._connection.read_message() is not None:
            pass

    async def document(self) -> str:
        """The whole page, as text."""
        request = self._protocol.create("PULL-DOC-REQ")
        for part in (request.header_json, request.metadata_json, request.content_json):
            await self._connection.write_message(part)
        return json.dumps(await self.message("PULL-DOC-REPLY"))

    async def until(self, words: str) -> None:
        """Read what changes on the page until it says something."""
        async with asyncio.timeout(_SOON):
            while words not in json.dumps(await self.message("PATCH-DOC"), default=str):
                pass


async def get(scheduler: GuardedScheduler, path: str, token: str | None) -> Any:
    port = scheduler.http_server.port
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = HTTPRequest(f"http://127.0.0.1:{port}{path}", headers=headers)
    return await AsyncHTTPClient().fetch(request, raise_error=False)


@pytest.fixture
async def cluster(account: Account) -> Any:
    async with HPCCluster(
        batch="local",
        name="pages",
        cores=1,
        memory="500 MiB",
        walltime="10 min",
        dashboard_port=0,
        asynchronous=True,
    ) as started:
        yield started
    await asyncio.to_thread(account.wait_until_nothing_is_left)


async def test_the_page_is_the_owners_and_stands_beside_the_engines(cluster: HPCCluster) -> None:
    """In the engine's dress, linked from its pages, and not shown without the token."""
    scheduler = cluster.head.scheduler
    assert (await get(scheduler, "/jobs", None)).code == HTTPStatus.FORBIDDEN
    page = await get(scheduler, "/jobs", scheduler.dashboard_token)
    assert page.code == HTTPStatus.OK
    assert b'href="workers"' in page.body
    for path in ("/jobs", "/status"):
        shown = await get(scheduler, path, scheduler.dashboard_token)
        assert shown.code == HTTPStatus.OK
        assert b"jobs" in [link.split(b'"')[0] for link in _links(shown.body)], path


def _links(page: bytes) -> list[bytes]:
    return page.split(b'href="')[1:]


async def test_the_page_moves_as_jobs_come_and_go(cluster: HPCCluster) -> None:
    """Counts, deadlines and the figure follow, without the page being loaded again."""
    tab = await Tab.open(cluster.head.scheduler)
    page = await tab.document()
    assert "No job waits." in page
    await cluster.scale(1)
    await tab.until(f"{cluster.name}-")
    await cluster.wait_for_workers(1, timeout=_SOON)
    await cluster.scale(0)
    await tab.until("No running job has a deadline")
    await tab.close()


async def test_a_scheduler_without_jobs_has_no_page_of_them() -> None:
    """Of an MPI launch, say: no link leads there."""
    async with GuardedScheduler(
        host="127.0.0.1", port=0, dashboard_address=":0", dashboard=True
    ) as scheduler:
        page = await get(scheduler, "/status", scheduler.dashboard_token)
        assert page.code == HTTPStatus.OK
        assert b"jobs" not in _links(page.body)


async def test_the_engines_pages_come_without_ours(
    cluster: HPCCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Should the engine move what the page is made with."""
    monkeypatch.setitem(sys.modules, "dask_hpc.cluster.jobs_page", None)
    scheduler = cluster.head.scheduler
    page = await get(scheduler, "/status", scheduler.dashboard_token)
    assert page.code == HTTPStatus.OK
    assert b"jobs" not in _links(page.body)
    assert "no page of the jobs" in caplog.text
