"""Finding the head: its address, its security, and whether anybody answers there.

Workers are not known here.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_hpc.errors import (
    ConfigurationError,
    HeadUnreachable,
    RendezvousError,
    SchedulerFileMissing,
)
from dask_hpc.launch import rendezvous
from dask_hpc.launch.rendezvous import Rendezvous
from dask_hpc.model.joining import TURN, knock_delay
from dask_hpc.node import interface, probe, protocol
from dask_hpc.node.fabric import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Security

    from dask_hpc.model.tls import TLSFiles
    from dask_hpc.node.options import WorkerOptions

#: Seconds of one attempt; between two the scheduler file is read again: a new head may have come.
ATTEMPT = 5.0
#: Mean seconds between two attempts: a thousand jobs must not knock at once.
PAUSE = 1.0
#: Seconds of being refused after which a head counts as dead, whatever the death timeout: it
#: writes its file only once it listens, so a host that answers "nobody listens" tells of its end.
#: Jobs that start after their head has died must not hold nodes for minutes.
REFUSED = 10.0
#: Looks at the scheduler file after which the head that was lost is tried once more.
KNOCK_EVERY = 5


@dataclass(frozen=True, slots=True)
class Head:
    """A scheduler that answered.

    Parameters
    ----------
    address, security
        To connect with.
    turn
        Seconds after which it wants our workers to join.
    ours
        Whether it may know our words, not only the engine's.
    named
        What named it; None if that is of no interest.
    """

    address: str
    security: Security
    turn: float = 0.0
    ours: bool = True
    named: Rendezvous | None = None

    async def answers(self, timeout: float) -> bool:
        """Whether somebody answers at the address, in so many seconds."""
        return isinstance(await _knock(self.address, self.security, timeout), float)


def find(options: WorkerOptions) -> Rendezvous:
    """Say where the head should be, waiting for its file if need be.

    Parameters
    ----------
    options
        Name the file or the address.

    Returns
    -------
    Rendezvous
        Of the file, or made up from the address.

    Raises
    ------
    RendezvousError
        If there is no usable file in time.
    ConfigurationError
        If the address has no TLS and nobody said that it may, or its protocol is not installed.
    """
    if options.scheduler_file is not None:
        found = rendezvous.wait(options.scheduler_file, options.death_timeout)
    else:
        found = Rendezvous(_with_protocol(options))
    if not (options.insecure or found.address.startswith(("tls://", "wss://"))):
        raise ConfigurationError(
            f"the head at {found.address} has no TLS: who reaches it runs code as you",
            hint="start it with TLS, or say --insecure here as well",
        )
    protocol.check_installed(found.address.partition("://")[0])
    return found


def _with_protocol(options: WorkerOptions) -> str:
    address = options.scheduler or ""
    scheme = options.protocol or ("tcp" if options.insecure else "tls")
    return address if "://" in address else f"{scheme}://{address}"


def own_address(address: str) -> str:
    """Address of this node from which the head is reached, in brackets if IPv6."""
    from distributed.comm import get_address_host
    from distributed.comm.addressing import unparse_host_port
    from distributed.utils import get_ip

    return str(unparse_host_port(get_ip(get_address_host(address))))


def security_for(tls: TLSFiles | None, *, insecure: bool) -> Security:
    """Build the engine's security.

    Parameters
    ----------
    tls
        The identity, in all roles; None takes the one of the dask configuration.
    insecure
        Whether connections without TLS are accepted.

    Returns
    -------
    distributed.Security
        Requires encryption unless insecure.

    Raises
    ------
    ConfigurationError
        If the files of the identity cannot be read.
    """
    from distributed import Security

    files: dict[str, Any] = {} if tls is None else {"tls_ca_file": tls.ca_file}
    if tls is not None:
        for role in ("client", "scheduler", "worker"):
            files |= {f"tls_{role}_cert": tls.cert, f"tls_{role}_key": tls.key}
    security = Security(require_encryption=not insecure, **files)
    try:
        context = security.get_connection_args("worker")["ssl_context"]
    except OSError as error:
        raise ConfigurationError(
            f"the TLS identity cannot be used: {error}",
            hint="it must be readable on the nodes: keep it on a file system that they share",
        ) from error
    if context is None and not insecure:
        raise ConfigurationError(
            "there is no TLS identity to connect with",
            hint="use the --scheduler-file of the cluster, or give --tls-ca-file, --tls-cert and"
            " --tls-key",
        )
    return security


async def reach(options: WorkerOptions, found: Rendezvous, workers: int) -> Head:
    """Connect to the head once, trying until the death timeout.

    Parameters
    ----------
    options
        Their scheduler file is read again between attempts.
    found
        Where the head should be; its other addresses are tried where the first does not answer.
    workers
        That are to join it.

    Returns
    -------
    Head
        It answered.

    Raises
    ------
    HeadUnreachable
        If nobody answered in time.
    """
    await asyncio.sleep(knock_delay(options.position))
    began = time.monotonic()
    patience = max(options.death_timeout, options.await_head)
    deadline = began + patience
    refused_since: float | None = None
    refusal: OSError | None = None  # tells more than a last attempt that ran out of time
    while True:
        security = security_for(found.tls or options.tls, insecure=options.insecure)
        left = deadline - time.monotonic()
        ask = workers if found.cluster or options.head_starts_with_us else 0
        attempt = max(0.5, min(ATTEMPT, left))
        answer = await _knock(found.address, security, attempt, ask)
        if isinstance(answer, float):
            return Head(found.address, security, answer, bool(found.cluster), found)
        if other := await _other(found, security, attempt, ask):
            return other
        now = time.monotonic()
        if options.head_starts_with_us:
            pass  # it has a whole file system to read before it listens, as we had
        elif options.await_head and not closed(options.scheduler_file):
            pass  # it died, and the next one is on its way
        elif (no := await refused(found.address)) is not None:
            refused_since, refusal = refused_since or now, no
            deadline = min(deadline, refused_since + REFUSED)
        if now + PAUSE > deadline:
            seen = "" if refusal else await _seen_from_here(found, security)
            raise _unreachable(options, found, refusal or answer, now - began, seen=seen)
        await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  (spreads load)
        again = _read_again(options.scheduler_file, found)
        if again != found:  # a new head has come
            refused_since, refusal, deadline = None, None, now + patience
        found = again


async def _knock(
    address: str, security: Security, timeout: float, workers: int = 0
) -> OSError | float:
    """Connect as the engine does, TLS and all: a bare TCP probe would be logged by the head.

    Seconds until so many workers may join, if any: a head of ours is asked.
    """
    from distributed.comm import connect

    turn = 0.0
    try:
        async with asyncio.timeout(timeout + 1):  # the engine's timeout ends before its handshake
            comm = await connect(address, timeout=timeout, **security.get_connection_args("worker"))
            if workers:
                await comm.write({"op": TURN, "workers": workers})
                told = await comm.read()
                turn = told if isinstance(told, float) else 0.0  # an older head answers otherwise
            await comm.close()
    except OSError as error:  # timeouts and the engine's CommClosedError are such
        return error
    return turn


async def _other(found: Rendezvous, security: Security, timeout: float, ask: int) -> Head | None:
    """Find the first of the head's other addresses that answers; all are tried at once."""
    answers = await asyncio.gather(*(_knock(each, security, timeout) for each in found.others))
    for each, answer in zip(found.others, answers, strict=True):
        if isinstance(answer, float):
            turn = await _knock(each, security, timeout, ask)
            turn = turn if isinstance(turn, float) else 0.0
            return Head(each, security, turn, bool(found.cluster), found)
    return None


async def _seen_from_here(found: Rendezvous, security: Security) -> str:
    """Say from which interface of this node the head answers: all are tried at once."""
    ways = [each for each in interface.read() if each.kind is not Kind.LOOPBACK]
    ways = [each for each in ways if not each.trouble]
    answers = await probe.from_each(ways, (found.address, *found.others), security)
    return f"; {probe.table(answers, ways)}" if answers else ""


async def refused(address: str) -> ConnectionRefusedError | None:
    """Tell whether nobody listens there: the engine keeps only the last of its many attempts."""
    from distributed.comm import get_address_host_port

    host, port = get_address_host_port(address)
    try:
        async with asyncio.timeout(PAUSE):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except ConnectionRefusedError as error:
        return error
    except OSError:  # a timeout is one: no answer is no refusal
        return None
    return None


def _read_again(path: Path | None, found: Rendezvous) -> Rendezvous:
    if path is None:
        return found
    try:
        return rendezvous.read(path)
    except RendezvousError:  # being written, or removed with the head: what we know is all we have
        return found


def closed(path: Path | None) -> bool:
    """Whether the cluster has ended: its head, or who clears away after it, removes the file."""
    if path is None:
        return False
    try:
        rendezvous.read(path)
    except SchedulerFileMissing:
        return True
    except RendezvousError:
        return False
    return False


async def another(options: WorkerOptions, lost: Head) -> Rendezvous | None:
    """Wait until there is a head again, after one was lost.

    Parameters
    ----------
    options
        Name the scheduler file, and for how long it is read again and again.
    lost
        The head; it may come back itself, if only the network was gone.

    Returns
    -------
    Rendezvous or None
        Where the head is; None if none came in time, or the cluster has ended.
    """
    assert options.scheduler_file is not None  # noqa: S101  (by WorkerOptions)
    before = lost.named or Rendezvous(lost.address)
    deadline = time.monotonic() + options.await_head
    looks = missing = 0
    while time.monotonic() < deadline:
        await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  (spreads load)
        missing = missing + 1 if await asyncio.to_thread(closed, options.scheduler_file) else 0
        if missing > 1:  # a shared file system may show neither the old file nor the new for once
            return None
        named = await asyncio.to_thread(_read_again, options.scheduler_file, before)
        if named != before:
            return named
        looks += 1
        if looks % KNOCK_EVERY == 0 and await lost.answers(PAUSE):
            return named
    return None


def root_cause(error: BaseException) -> BaseException:
    """What first went wrong: the engine wraps errors, and its wrapping tells a user nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _unreachable(
    options: WorkerOptions, found: Rendezvous, error: OSError, seconds: float, *, seen: str
) -> HeadUnreachable:
    cause = root_cause(error)
    where = found.address
    hint = "check that this node can reach it: --interface of the head, firewall"
    if options.scheduler_file is not None:
        where += f", named in {options.scheduler_file}, {found.writer}"
        if isinstance(cause, ConnectionRefusedError):
            where += " (stale: nothing listens there any more)"
            hint = "the head has ended: start it again, or remove the file"
    return HeadUnreachable(
        f"{where} did not answer in {seconds:.0f} s: {str(cause) or type(cause).__name__}{seen}",
        hint=hint,
    )
