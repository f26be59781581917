"""Open what ``connect`` arranged: start, connect, wait, hand out a client.

What is started here is closed with the client, and nothing else is.  What a place asks for is the
business of :mod:`.arrange`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributed import Client, Security
from distributed.deploy.cluster import Cluster

from dask_hpc.cluster.allocation import AllocationCluster
from dask_hpc.cluster.hpc_cluster import HPCCluster
from dask_hpc.cluster.place import Place
from dask_hpc.cluster.sizes import jobs_wanted
from dask_hpc.errors import HeadUnreachable, WorkersTimeout


class ConnectedClient(Client):
    """The engine's client; closing it closes what was started for it.

    Parameters
    ----------
    target
        A cluster that runs, or an address.
    place
        Where it is.
    owned
        The cluster that was started for it, or None.
    options
        Of the engine's client.
    """

    def __init__(
        self, target: Any, *, place: Place, owned: Cluster | None = None, **options: Any
    ) -> None:
        self.place = place
        self._owned = owned
        super().__init__(target, **options)

    async def _close(self, fast: bool = False) -> None:  # noqa: FBT001, FBT002  (the engine's)
        await super()._close(fast=fast)
        if self._owned is not None and self.asynchronous:
            await self._owned.close()

    def close(self, *args: Any, **keywords: Any) -> Any:
        """Close the client, and what was started for it.

        Parameters
        ----------
        args, keywords
            See the engine's ``Client.close``.
        """
        if self.asynchronous:
            return super().close(*args, **keywords)
        try:
            super().close(*args, **keywords)
        finally:
            if self._owned is not None:
                self._owned.close()
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is to be done in a place.

    Parameters
    ----------
    place
        The place.
    start
        Makes the cluster, ``asynchronous=`` or not; None where one runs already.
    size
        What the cluster is scaled to, if it can be.
    find
        Finds the address of a cluster that runs, and the security to connect with; it may wait.
    wait, timeout
        Workers to wait for; seconds.
    """

    place: Place
    start: Callable[..., Any] | None = None
    size: Mapping[str, int] | None = None
    find: Callable[[], tuple[str, Security]] | None = None
    wait: int = 1
    timeout: float | None = None


# -- opening and closing --------------------------------------------------------------------------


def open_now(opening: Opening) -> ConnectedClient:
    """Start what is needed, connect and wait; whatever fails or interrupts it leaves nothing."""
    if opening.start is None:
        assert opening.find is not None  # noqa: S101  (one of the two)
        address, security = opening.find()
        with _unreachable(address):
            client = ConnectedClient(address, place=opening.place, security=security)
        try:
            with _in_time(opening, client):
                _engine_wait(opening, client)
        except BaseException:
            client.close()
            raise
        return client
    cluster = opening.start(asynchronous=False)
    try:
        if opening.size:
            cluster.scale(**opening.size)
        with _explained(cluster):
            client = ConnectedClient(cluster, place=opening.place, owned=cluster)
        try:
            if count := _expected(opening, cluster):
                cluster.wait_for_workers(count, opening.timeout)
        except BaseException:
            client.close()
            raise
    except BaseException:
        cluster.close()
        raise
    return client


async def open_async(opening: Opening) -> ConnectedClient:
    """Do the same in a running event loop."""
    if opening.start is None:
        assert opening.find is not None  # noqa: S101
        address, security = await asyncio.to_thread(opening.find)
        with _unreachable(address):
            client: ConnectedClient = await ConnectedClient(
                address, place=opening.place, security=security, asynchronous=True
            )
        try:
            with _in_time(opening, client):
                await _engine_wait(opening, client)
        except BaseException:
            await client.close()
            raise
        return client
    cluster = opening.start(asynchronous=True)
    try:
        await cluster
        if opening.size:
            await cluster.scale(**opening.size)
        with _explained(cluster):
            client = await ConnectedClient(
                cluster, place=opening.place, owned=cluster, asynchronous=True
            )
        try:
            if count := _expected(opening, cluster):
                await cluster.wait_for_workers(count, opening.timeout)
        except BaseException:
            await client.close()
            raise
    except BaseException:
        await cluster.close()
        raise
    return client


class Connecting:
    """A connection to be awaited, or entered with ``async with``.

    Parameters
    ----------
    opening
        What is to be done.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._client: ConnectedClient | None = None

    def __await__(self) -> Generator[Any, None, ConnectedClient]:
        return open_async(self._opening).__await__()

    async def __aenter__(self) -> ConnectedClient:
        self._client = await open_async(self._opening)
        return await self._client.__aenter__()  # type: ignore[no-any-return]

    async def __aexit__(self, *error: object) -> None:
        if self._client is not None:
            await self._client.__aexit__(*error)


def _expected(opening: Opening, cluster: HPCCluster | AllocationCluster) -> int:
    """Workers to wait for: no more than will be started."""
    if isinstance(cluster, AllocationCluster):
        return min(opening.wait, cluster.expected)
    layout = cluster.options.job_layout
    return min(opening.wait, jobs_wanted(layout, **(opening.size or {})) * layout.workers)


def _engine_wait(opening: Opening, client: ConnectedClient) -> Any:
    """Wait for workers that are not ours; awaited where the client is."""
    if opening.wait:
        return client.wait_for_workers(opening.wait, timeout=opening.timeout)
    return client.sync(asyncio.sleep, 0)


@contextmanager
def _in_time(opening: Opening, client: ConnectedClient) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise WorkersTimeout(
            f"the cluster at {client.scheduler.address} had fewer than {opening.wait} workers"
            f" for {opening.timeout:g} s",
            hint="start workers of it (dask-worker --scheduler-file), or give wait=0",
        ) from None


@contextmanager
def _explained(cluster: HPCCluster | AllocationCluster) -> Iterator[None]:
    """Say why the scheduler is gone, if the cluster knows."""
    try:
        yield
    except OSError as error:
        problem = cluster.problem if isinstance(cluster, AllocationCluster) else None
        raise problem or error from None


@contextmanager
def _unreachable(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HeadUnreachable(
            f"the scheduler at {address} does not answer: {error}",
            hint="if it has ended, start it again; a scheduler file that is left over is stale",
        ) from error
