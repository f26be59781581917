"""What may be asked of a running head, in a user's words.

:mod:`.elsewhere` asks the same of a head in another process.
Understands sizes and options; what they lead to is the head's business.  Mistakes are found before
anything happens: the methods that change something check at once, and give back what is to be
awaited.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from dask.utils import parse_timedelta

from dask_hpc.cluster import lending
from dask_hpc.cluster.adaptive import Following
from dask_hpc.cluster.dashboard import tunnel_line
from dask_hpc.cluster.joining import check_room
from dask_hpc.cluster.lab_job import lab_spec
from dask_hpc.cluster.pools import POOL
from dask_hpc.cluster.report import Report, report
from dask_hpc.cluster.sizes import jobs_between, jobs_wanted
from dask_hpc.cluster.view import view
from dask_hpc.control.backoff import DEMAND_INTERVAL
from dask_hpc.control.demand import Demand
from dask_hpc.errors import ConfigurationError, HPCError, JupyterError
from dask_hpc.units import parse_walltime

if TYPE_CHECKING:
    from datetime import timedelta

    from dask_hpc.cluster.directory import ClusterDirectory
    from dask_hpc.cluster.head import Head
    from dask_hpc.cluster.options import ClusterOptions
    from dask_hpc.cluster.request import Request
    from dask_hpc.cluster.view import View
    from dask_hpc.jupyter.reach import Reach, Waiting
    from dask_hpc.model.layout import Layout


#: What follows ``minimum`` and ``maximum`` in the words of adapt(), by the size that is meant.
_SIZES = {"n": "", "jobs": "_jobs", "cores": "_cores", "memory": "_memory"}


class Here:
    """A head in this process.

    Parameters
    ----------
    head
        That runs.
    request
        What the cluster was asked for.
    pools
        Options of each pool, by its name.
    """

    def __init__(self, head: Head, request: Request, pools: dict[str, ClusterOptions]) -> None:
        self.head = head
        self._request = request
        self._pools = pools

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools, the cluster's own one first."""
        return tuple(self._pools)

    def scale(
        self,
        n: int | Mapping[str, int] | None = None,
        *,
        jobs: int | None = None,
        cores: int | None = None,
        memory: str | int | None = None,
        pool: str | None = None,
    ) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.scale`."""
        if isinstance(n, Mapping):
            if any(each is not None for each in (jobs, cores, memory, pool)):
                raise ConfigurationError("scale() by pool takes workers of each pool alone")
            wanted = {each: jobs_wanted(self._layout(each), n=size) for each, size in n.items()}
        else:
            size = jobs_wanted(self._layout(pool), n=n, jobs=jobs, cores=cores, memory=memory)
            wanted = {pool or POOL: size}
        self._check_room(wanted)
        return self.head.scale(wanted)

    def adapt(
        self,
        *,
        pool: str | None = None,
        interval: float | str = DEMAND_INTERVAL,
        target_duration: float | str | None = None,
        patience: float | str | None = None,
        wait_count: int | None = None,
        **sizes: Any,
    ) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.adapt`, which names the sizes."""
        least = {size: sizes.pop(f"minimum{word}", None) for size, word in _SIZES.items()}
        most = {size: sizes.pop(f"maximum{word}", None) for size, word in _SIZES.items()}
        if sizes:
            raise ConfigurationError(f"adapt() knows no {', '.join(sizes)}")
        least["n"] = least["n"] or None  # zero is what is meant without a word, too
        bounds = jobs_between(self._layout(pool), least=least, most=most)
        self._check_room({self.known(pool): max(bounds.minimum, bounds.maximum or 0)})
        every = parse_timedelta(interval)
        waits = None if wait_count is None else wait_count * every
        following = Following(
            Demand(bounds, waits if patience is None else parse_timedelta(patience)),
            every,
            None if target_duration is None else parse_timedelta(target_duration),
        )
        return self._adapt(self.known(pool), following)

    async def _adapt(self, pool: str, following: Following) -> None:
        self.head.adapt(pool, following)

    def add_pool(self, name: str, options: Mapping[str, Any]) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.add_pool`."""
        asked = self._request.pool(name, options, self._pools)
        self._pools[name] = asked
        return self._add_pool(name, asked, json.loads(json.dumps(options, default=str)))

    async def _add_pool(self, name: str, options: ClusterOptions, given: dict[str, Any]) -> None:
        try:
            await self.head.add_pool(name, options, given)
        except BaseException:
            del self._pools[name]
            raise

    def renew(self, walltime: str | float | timedelta) -> Awaitable[None]:
        """See :meth:`dask_hpc.HPCCluster.renew`."""
        return self.head.deadline.renew(parse_walltime(walltime))

    def view(self, *, jobs: bool = False) -> View:
        """What there is to see."""
        return view(self.head, jobs=jobs)

    @property
    def last(self) -> View:
        """The last that was seen; here that is now."""
        return self.view()

    @property
    def changes(self) -> int:
        """How often anything has changed so far."""
        return self.head.controller.changed.count

    def report(self) -> Report:
        """What it has cost and done."""
        return report(self.head)

    def script(self, pool: str | None = None) -> str:
        """The script that each job of a pool runs."""
        return self.head.pools.script(self.known(pool))

    def dashboard(self, *, token: bool) -> str:
        """Link of the dashboard on the head's machine."""
        return self.head.scheduler.dashboard_url(token=token)

    def dashboard_help(self) -> str:
        """One line that says how to see it in a browser; it holds the token."""
        return tunnel_line(self.dashboard(token=True))

    @property
    def host(self) -> str:
        """Name of the machine where it runs."""
        return socket.gethostname()

    async def jupyter(
        self, *, job: Mapping[str, Any] | None = None, **words: Any
    ) -> Reach | Waiting:
        """Open its JupyterLab, or look how the one does that waits for its job.

        Parameters
        ----------
        job
            What a job of its own asks for; None: it needs none.
        **words
            Of :meth:`dask_hpc.cluster.lab.Lab.open`.
        """
        spec = None if job is None else lab_spec(self._request, job, self.directory)
        return await self.head.lab.open(spec=spec, **words)

    async def stop_jupyter(self) -> None:
        """End its JupyterLab, if there is one."""
        if left := await self.head.lab.close():
            raise JupyterError(
                f"the job of JupyterLab, {', '.join(left)}, is not known to have ended",
                hint="ask again; with the cluster it ends in any case",
            )

    @property
    def directory(self) -> ClusterDirectory:
        """Where its files are."""
        return self.head.directory

    def known(self, pool: str | None) -> str:
        """Name of a pool that there is; None is the cluster's own."""
        return known_pool(self.head.name, self.pools, pool)

    def workers(self, pool: str | None = None) -> int:
        """Workers (of one pool) that take tasks."""
        return self.head.running_workers(pool)

    @property
    def problem(self) -> HPCError | None:
        """Why nothing more is submitted."""
        return self.head.controller.problem

    async def change(self) -> None:
        """Return when something may have changed."""
        self.head.controller.changed.clear()
        await self.head.controller.changed.wait()

    def _layout(self, pool: str | None) -> Layout:
        return self._pools[self.known(pool)].job_layout

    def _check_room(self, jobs: Mapping[str, int]) -> None:
        """See that one scheduler can hold the workers of all pools, with these jobs of some."""
        wanted = {**self.head.controller.wanted, **jobs}
        check_room(sum(count * self._layout(each).workers for each, count in wanted.items()))


def known_pool(cluster: str, pools: tuple[str, ...], pool: str | None) -> str:
    """Name of a pool that there is.

    Raises
    ------
    ConfigurationError
        If there is none of this name.
    """
    if pool is not None and pool not in pools:
        raise ConfigurationError(
            f"cluster {cluster} has no pool {pool!r}",
            hint=f"there are: {', '.join(pools)}; add_pool() makes another",
        )
    return POOL if pool is None else pool


#: Seconds for which a head lets somebody wait for news at most.
LONGEST_WAIT = 30.0


def operations(
    here: Here, end: Callable[[], Awaitable[None]]
) -> dict[str, Callable[..., Awaitable[Any]]]:
    """What the control channel of a head offers.

    Parameters
    ----------
    here
        The head.
    end
        Ends the cluster.

    Returns
    -------
    dict
        By name; each takes JSON values by name, and gives one.
    """

    async def look(*, jobs: bool = True) -> View:
        return here.view(jobs=jobs)

    async def wait(changes: int, seconds: float, *, jobs: bool = True) -> View:
        deadline = asyncio.get_running_loop().time() + min(seconds, LONGEST_WAIT)
        try:
            async with asyncio.timeout_at(deadline):
                while here.head.controller.changed.count <= changes:
                    await here.change()
        except TimeoutError:
            pass
        return here.view(jobs=jobs)

    def seen(change: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[View]]:
        async def changed(**words: Any) -> View:
            await change(**words)
            return here.view(jobs=False)

        return changed

    async def shutdown() -> None:
        await end()

    async def logs(pool: str | None = None) -> dict[str, str]:
        which = None if pool is None else here.known(pool)
        read = here.head.directory.read_logs
        return await asyncio.to_thread(read, here.head.name, which)

    async def plain(what: Callable[..., Any], **words: Any) -> Any:
        return what(**words)

    return {
        **lending.operations(here.head.errands),
        "view": look,
        "wait": wait,
        "scale": seen(here.scale),
        "adapt": seen(here.adapt),
        "add_pool": seen(here.add_pool),
        "renew": seen(here.renew),
        "report": lambda: plain(here.report),
        "script": lambda pool=None: plain(here.script, pool=pool),
        "dashboard": lambda: plain(here.dashboard, token=True),
        "logs": logs,
        "jupyter": _as_json(here.jupyter),
        "jupyter_told": lambda **words: plain(here.head.lab.told, **words),
        "stop_jupyter": here.stop_jupyter,
        "shutdown": shutdown,
    }


def _as_json(
    opening: Callable[..., Awaitable[Reach | Waiting]],
) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def opened(**words: Any) -> dict[str, Any]:
        return (await opening(**words)).to_json()

    return opened
