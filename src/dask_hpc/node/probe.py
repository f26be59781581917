"""Who is reached from where: an interface that is up may still lead to a network of its own.

A probe is a connection with everything up to TLS and nothing after it, all at the same time.  What
is to be probed, and what follows from it, is the caller's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from distributed import Security

    from dask_hpc.node.fabric import Interface

#: Seconds of a probe: a round trip through a busy network and a busy head.
PROBE = 2.0
REACHED = "reached"
#: Mean seconds after which the way back is asked for: a thousand nodes must not ask at once.
SPREAD = 3.0
#: Seconds in which the head must have come back, while it answers everything else.  Two attempts
#: are over before a job counts as useful, so that its end counts as a failure.
BACK = 8.0
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
_PROBED = ("tls://", "tcp://")


async def from_each(
    interfaces: Sequence[Interface],
    addresses: Iterable[str],
    security: Security,
    seconds: float = PROBE,
) -> dict[tuple[str, str], str]:
    """Try to reach addresses from each interface, all at once.

    That it answers also shows that it can reach the interface's own address.

    Parameters
    ----------
    interfaces
        Each with an address.
    addresses
        Of schedulers, as the engine writes them; what is neither tls nor tcp is left out.
    security
        To connect with.
    seconds
        For each.

    Returns
    -------
    dict of (name of the interface, address) to str
        :data:`REACHED`, or in a few words why not.
    """
    pairs = [(each, to) for to in addresses if to.startswith(_PROBED) for each in interfaces]
    tried = (_connect(each.host, to, security, seconds) for each, to in pairs)
    answers = await asyncio.gather(*tried)
    return {(each.name, to): why for (each, to), why in zip(pairs, answers, strict=True)}


async def first(addresses: Sequence[str], security: Security, seconds: float = PROBE) -> str:
    """Try a scheduler's addresses, all at once: the first that answers, or else the first."""
    probed = [each for each in addresses if each.startswith(_PROBED)]
    tried = (_connect(None, each, security, seconds) for each in probed)
    answers = await asyncio.gather(*tried)
    reached = (each for each, why in zip(probed, answers, strict=True) if why == REACHED)
    return next(reached, addresses[0])


async def _connect(own: str | None, address: str, security: Security, seconds: float) -> str:
    host, _, port = address.partition("://")[2].rpartition(":")
    if own and (":" in host) != (":" in own):
        return "no route (IPv4 to IPv6)"
    context = security.get_connection_args("worker").get("ssl_context")
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(
                host.strip("[]"),
                int(port),
                local_addr=(own.strip("[]"), 0) if own else None,
                ssl=context if address.startswith("tls://") else None,
            )
    except TimeoutError:
        return f"no answer in {seconds:g} s"
    except (OSError, ValueError) as error:
        return _in_words(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return REACHED


def _in_words(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"answered, but refused our identity ({error.reason or error})"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, OSError) and error.errno in _NO_ROUTE:
        return "no route"
    return str(error)


def table(answers: Mapping[tuple[str, str], str], interfaces: Sequence[Interface]) -> str:
    """Say in one line what was reached from where."""
    hosts = {each.name: each.host for each in interfaces}
    several = len({address for _, address in answers}) > 1
    return "; ".join(
        f"from {name} ({hosts[name]}){f' to {address}' if several else ''}: {why}"
        for (name, address), why in answers.items()
    )


# --- the way back --------------------------------------------------------------------------------


async def way_back(scheduler: str, nanny: str, security: Security) -> bool | None:
    """Have the scheduler connect to a nanny of this node, as it will to its worker.

    Who joined has only shown that it reaches the scheduler.  The nanny answers for its node: the
    user's code may keep a worker from answering for minutes.

    Parameters
    ----------
    scheduler, nanny
        Addresses.
    security
        To ask with.

    Returns
    -------
    bool or None
        False if the scheduler says that it could not; None if it did not say in time: it is busy,
        or still trying.  True if it could, and if nothing is known, as when it is closing.
    """
    from distributed.core import rpc

    arguments = security.get_connection_args("worker")
    try:
        async with asyncio.timeout(BACK), rpc(scheduler, connection_args=arguments) as asked:
            answers = await asked.broadcast(
                msg={"op": "echo", "data": "dask-hpc"}, workers=[nanny], on_error="ignore"
            )
    except TimeoutError:
        return None
    except Exception:  # noqa: BLE001  (of whatever kind: it tells nothing of the way back)
        return True
    return isinstance(answers, dict) and nanny in answers


async def pause() -> None:
    """Wait a moment, each node another one."""
    await asyncio.sleep(SPREAD * random.uniform(0.5, 1.5))  # noqa: S311  (spreads load, no secret)
