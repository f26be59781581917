"""Where a scheduler listens: its interface or address, and what else workers may try.

The interface is chosen here, by this machine's; what its workers choose is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distributed import Scheduler

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node import fabric, interface
from dask_hpc.node.fabric import AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a scheduler listens.

    Parameters
    ----------
    host
        For the engine: an address, several of which the first is the best, or None for all.
    others
        Hosts by which it is reached too, where it listens on all addresses.
    """

    host: str | list[str] | None = None
    others: tuple[str, ...] = ()

    def other_addresses(self, scheduler: Scheduler) -> list[str]:
        """Addresses of a running scheduler besides ``scheduler.address``, the best first."""
        protocol, _, rest = scheduler.address.partition("://")
        host, _, port = rest.rpartition(":")
        more = [f"{protocol}://{each}:{port}" for each in self.others if each != host]
        return [listener.contact_address for listener in scheduler.listeners[1:]] + more


def listening(wish: str | None, host: str | None, *, local: bool = False) -> Listening:
    """Choose where a scheduler on this machine listens.

    Parameters
    ----------
    wish
        For an interface: a name, a pattern, ``auto``, or several, split by commas.
    host
        An address, which goes first.
    local
        Whether all its workers are on this machine.

    Returns
    -------
    Listening
        Several usable interfaces are all listened on: which of them the nodes reach is not known
        here.  Without any wish the engine listens on all.

    Raises
    ------
    ConfigurationError
        If this machine has no such interface, or none that is up and has an address.
    """
    if host:
        return Listening(host=host)
    if not wish:
        return Listening(host="127.0.0.1") if local else _everywhere()
    hosts = [each.host for each in usable(wish)]
    return Listening(host=hosts[0] if len(hosts) == 1 else hosts)


def _everywhere() -> Listening:
    try:
        hosts = [each.host for each in interface.usable(AUTO)]
    except NodeError:  # no network at all
        return Listening()
    if all(host.startswith("[") for host in hosts):  # the engine would look for its IPv4 address
        return Listening(host=hosts)
    return Listening(others=tuple(hosts))


def usable(wish: str) -> Sequence[fabric.Interface]:
    """Find the interfaces for a scheduler on this machine, the best first.

    Raises
    ------
    ConfigurationError
        As `listening`.
    """
    try:
        return interface.usable(wish)
    except NodeError as error:
        raise ConfigurationError(
            f"the scheduler cannot listen: {error.args[0]}",
            hint="scheduler_interface= (--interface of dask-scheduler) names one of this machine;"
            " candidates in order (ib0,eth0), a pattern (ib*) or auto serve unlike machines",
        ) from None
