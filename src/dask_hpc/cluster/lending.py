"""Lending a head the batch system's commands, where its node may not run them: both ends.

A head in a job at such a site has its commands run by whoever is connected to it from a machine
that may, over the control channel: both sides show the identity of the cluster's owner.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from dask_hpc.batch.errands import LOOK, command_of
from dask_hpc.batch.runner import run
from dask_hpc.cluster.head_client import HeadClient
from dask_hpc.drivers.registry import driver
from dask_hpc.errors import HeadUnreachable, HPCError, to_json

if TYPE_CHECKING:
    from dask_hpc.batch.errands import Errands
    from dask_hpc.cluster.known import Known

#: Seconds until a head that did not answer is asked again.
_RETRY = 5.0
#: Seconds beyond those of a look.
_ROUND_TRIP = 10.0


def operations(errands: Errands | None) -> dict[str, Callable[..., Awaitable[Any]]]:
    """What the control channel of a head offers to those who would lend it commands.

    Parameters
    ----------
    errands
        The commands; None if it runs them itself.
    """

    async def wants() -> bool:
        return errands is not None

    async def look(seconds: float) -> dict[str, Any] | None:
        return await errands.look(seconds) if errands else None

    async def claim(number: int) -> bool:
        return errands is not None and errands.claim(number)

    async def bring(number: int, told: Mapping[str, Any]) -> None:
        if errands is not None:
            errands.bring(number, told)

    return {
        "errands_wanted": wants,
        "errands": look,
        "claim_errand": claim,
        "errand_done": bring,
    }


class Lending:
    """Lends a head the commands of this machine until it is closed, if the head has none.

    Parameters
    ----------
    known
        Which cluster.

    Raises
    ------
    HeadUnreachable
        If its head does not answer.
    RendezvousError
        If its scheduler file cannot be used.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self._turn = threading.Lock()
        self._over = threading.Event()
        if known.head != "job":
            return
        self._head = HeadClient(known)
        if self._wanted() and asyncio.run(_may_submit(known.batch)):
            threading.Thread(target=self._live, name="dask-hpc lending", daemon=True).start()

    def _wanted(self) -> bool:
        try:
            return bool(self._head.call("errands_wanted"))
        except HeadUnreachable:
            raise
        except HPCError:  # an older head, which runs its commands itself
            return False

    def close(self) -> None:
        """Lend no longer; what runs is waited for, as nobody else could tell how it ended."""
        with self._turn:
            self._over.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> None:
        while not self._over.is_set():
            try:
                found = self._head.call("errands", LOOK + _ROUND_TRIP, seconds=LOOK)
                if found is None:
                    return
                for number, words in found.items():
                    self._run(int(number), words)
            except HPCError:  # the network is away, or the head has ended
                if not self._known.scheduler_file.exists():
                    return
                self._over.wait(_RETRY)

    def _run(self, number: int, words: Mapping[str, Any]) -> None:
        with self._turn:
            if not self._over.is_set() and self._head.call("claim_errand", number=number):
                self._head.call("errand_done", number=number, told=asyncio.run(_ran(words)))


async def _ran(words: Mapping[str, Any]) -> dict[str, Any]:
    """Run a command of the head; what became of it, as JSON."""
    try:
        output = await run(command_of(words))
    except HPCError as error:
        return dict(to_json(error))
    return {"returncode": output.returncode, "stdout": output.stdout, "stderr": output.stderr}


async def _may_submit(batch: str) -> bool:
    """Whether jobs may be submitted from this machine: others might be connected as well."""
    system = driver(batch)
    try:
        return system.welcomed(await run(system.knock()))
    except HPCError:
        return False
