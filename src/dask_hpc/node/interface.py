"""The address of a network interface: workers must listen where the other nodes can reach them.

No engine, no socket: names and addresses only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from dask_hpc.errors import NodeError

Addresses = Mapping[str, Sequence[IPv4Address | IPv6Address]]


def address_of(name: str, interfaces: Addresses) -> str:
    """Address to listen on.

    Parameters
    ----------
    name
        Of the interface, for example ``"ib0"``.
    interfaces
        Addresses of each interface of this node.

    Returns
    -------
    str
        The first IPv4 address, else the first IPv6 address, in brackets as the engine wants it.

    Raises
    ------
    NodeError
        If this node has no such interface, or it has no address.
    """
    if name not in interfaces:
        raise NodeError(
            f"this node has no network interface {name!r}; it has {_listing(interfaces)}",
            hint="choose one of them that all nodes have: --interface NAME",
        )
    for version in (4, 6):
        for address in interfaces[name]:
            if address.version == version:
                return f"[{address}]" if version == 6 else str(address)  # noqa: PLR2004
    raise NodeError(
        f"network interface {name!r} has no address; this node has {_listing(interfaces)}",
        hint="choose one that has an address: --interface NAME",
    )


def _listing(interfaces: Addresses) -> str:
    return ", ".join(
        f"{name} ({', '.join(map(str, addresses)) or 'no address'})"
        for name, addresses in sorted(interfaces.items())
    )


def read_interfaces() -> Addresses:
    """Addresses of this node's interfaces, without those that reach no other node by themselves."""
    import psutil

    found: dict[str, list[IPv4Address | IPv6Address]] = {}
    for name, entries in psutil.net_if_addrs().items():
        addresses = found.setdefault(name, [])
        for entry in entries:
            try:
                address = ip_address(entry.address)
            except ValueError:  # a hardware address
                continue
            if not (address.version == 6 and address.is_link_local):  # noqa: PLR2004
                addresses.append(address)
    return found
