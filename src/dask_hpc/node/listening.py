"""Where this node's workers listen: the interface wished for from which the head is reached.

Which interfaces a wish means is :mod:`.fabric`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_hpc.node import fabric, interface, probe
from dask_hpc.node.head import own_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_hpc.node.fabric import Interface
    from dask_hpc.node.head import Head
    from dask_hpc.node.options import WorkerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where to listen.

    Parameters
    ----------
    host
        The address: one, and not all of the node's as the engine's worker would.
    interface
        Name, if one was wished for.
    notes
        What the job's log should say of the choice.
    """

    host: str
    interface: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.host} ({self.interface})" if self.interface else self.host


async def choose(wanted: WorkerOptions, head: Head) -> Listening:
    """Choose where the workers of this node listen.

    Parameters
    ----------
    wanted
        May name an interface or an address.
    head
        It answered.

    Raises
    ------
    ConfigurationError
        If the wish for an interface cannot be read.
    NodeError
        If this node has no such interface, or none that is up and has an address.
    """
    if not wanted.interface:
        return Listening(host=wanted.host or own_address(head.address))
    found = interface.usable(wanted.interface, towards=host_of(head.address))
    if fabric.plain(wanted.interface):
        return Listening(host=found[0].host, interface=found[0].name)
    answers: Mapping[tuple[str, str], str] = {}
    if len(found) > 1:
        answers = await probe.from_each(found, [head.address], head.security)
    return pick(wanted.interface, found, answers)


def pick(
    wish: str, found: Sequence[Interface], answers: Mapping[tuple[str, str], str]
) -> Listening:
    """Take the first that reaches the head; the first of all, with a warning, if none does.

    None need be wrong: a strict filter of reverse paths (rp_filter) drops what comes from an
    address by another interface.  Whether the head reaches us is asked again once workers run.

    Parameters
    ----------
    wish
        As the user wrote it.
    found
        Usable, in order; not empty.
    answers
        What :func:`~dask_hpc.node.probe.from_each` found; empty if nobody asked.
    """
    deaf = {name for (name, _), answer in answers.items() if answer != probe.REACHED}
    chosen = next((each for each in found if each.name not in deaf), None)
    notes = []
    if chosen is None:
        chosen = found[0]
        notes.append(f"warning: the head is reached from none: {probe.table(answers, found)}")
    elif passed := found[: found.index(chosen)]:
        missed = {pair: answer for pair, answer in answers.items() if pair[0] in _names(passed)}
        notes.append(f"the head is not reached {probe.table(missed, found)}")
    notes.append(f"listening on {chosen}, for interface {wish!r}")
    return Listening(host=chosen.host, interface=chosen.name, notes=tuple(notes))


def _names(interfaces: Sequence[Interface]) -> set[str]:
    return {each.name for each in interfaces}


def host_of(address: str) -> str | None:
    """Host of an engine's address, without brackets; None if it has none."""
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return host or None
