"""Clusters of this user as other tools find and hold them: dask-ctl, and `lab` for JupyterLab.

To such tools, closing a cluster means to end it; what that does is the cluster's own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from dask_hpc.cluster.attached import AttachedCluster
from dask_hpc.cluster.elsewhere import Elsewhere
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.cluster.hpc_cluster import HPCCluster
from dask_hpc.cluster.known import Known, clusters
from dask_hpc.errors import HPCError

#: Seconds in which a head must answer to be listed: dask-ctl waits for five, for all of them.
_ANSWER = 4.0


def living() -> list[Known]:
    """Clusters of this user whose heads answer, the oldest first.

    Returns
    -------
    list of Known
        A head that was killed leaves its directory behind; it is passed over.
    """
    found = [each for each in clusters() if each.alive is not False and not each.pending]
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        return [
            each for each, answers in zip(found, pool.map(_answers, found), strict=True) if answers
        ]


def _answers(known: Known) -> bool:
    try:
        HeadClient(known, _ANSWER).view(jobs=False)
    except (HPCError, OSError):
        return False
    return True


async def discover() -> AsyncIterator[tuple[str, type[DiscoveredCluster]]]:
    """Tell dask-ctl of the clusters (entry point ``dask_cluster_discovery``).

    Yields
    ------
    tuple
        Name, and the class whose ``from_name`` takes it.
    """
    for known in await asyncio.to_thread(living):
        yield known.name, DiscoveredCluster


@dataclass(frozen=True, slots=True)
class Adapting:
    """What the engine's ``adapt`` returns: the bounds, and something to wait for.

    Parameters
    ----------
    minimum, maximum
        As asked for.
    begun
        What :meth:`dask_hpc.HPCCluster.adapt` returned.
    """

    minimum: int
    maximum: float | None
    begun: Any

    def __await__(self) -> Generator[Any, None, None]:
        if self.begun is not None:
            yield from self.begun.__await__()


class ManagedCluster(HPCCluster):
    """An :class:`HPCCluster` in the hands of a tool: ``close()`` ends it wherever its head runs.

    ``with``, and the end of the process, only leave it, as they do any cluster with ``head=``.
    """

    #: Whether it is being ended from here.
    ending_it = False

    def close(self, timeout: float | None = None) -> Any:
        """End the cluster: its jobs and its head.

        Parameters
        ----------
        timeout
            See :meth:`HPCCluster.close`, for a head in this process.
        """
        if self._ending is not None or not isinstance(self._steering, Elsewhere):
            return super().close(timeout)
        self.ending_it = True
        ending = self.shutdown()
        if ending is None:
            return super().close(timeout)
        return asyncio.ensure_future(self._ended_it(ending))

    async def _ended_it(self, ending: Awaitable[None]) -> None:
        try:
            await ending
        except BaseException:  # whatever came of it, the cluster may be there still
            self.ending_it = False
            raise

    def __exit__(self, *exc_info: object) -> None:
        super().close()

    def adapt(self, minimum: int = 0, maximum: float | None = None, **options: Any) -> Any:
        """See :meth:`HPCCluster.adapt`.

        Returns
        -------
        Adapting
            The extension shows its `minimum` and `maximum`.
        """
        return Adapting(minimum, maximum, super().adapt(minimum, maximum, **options))


class DiscoveredCluster(ManagedCluster, AttachedCluster):
    """A cluster that runs already, as a tool holds it."""

    @classmethod
    def from_name(cls, name: str, *, loop: Any = None, asynchronous: bool = False) -> Self:
        """Attach to a cluster by its name.

        Parameters
        ----------
        name
            As `discover` tells it.
        loop, asynchronous
            See :class:`HPCCluster`.

        Raises
        ------
        UnknownCluster
            If there is none.
        """
        return cls(name, loop=loop, asynchronous=asynchronous)

    def get_snippet(self) -> str:
        """Code that a user can paste to use the cluster: ``dask cluster snippet NAME``."""
        return (
            "from dask_hpc import HPCCluster\n\n"
            f"cluster = HPCCluster.attach({self.name!r})\n"
            "client = cluster.get_client()\n"
        )
