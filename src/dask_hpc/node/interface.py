"""Network interfaces of this node: read here, chosen in :mod:`.fabric`.

Sockets are opened to ask the kernel only: nothing is sent.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from ipaddress import ip_address

from dask_hpc.node import fabric
from dask_hpc.node.fabric import Interface

#: ioctl(2) numbers of netdevice(7).  Asked of the kernel and not of /sys/class/net: in a container,
#: that often shows the machine's interfaces, not ours.
_SIOCGIFHWADDR = 0x8927
_ETHERNET = 1
_WITH_ADDRESS = (socket.AF_INET, socket.AF_INET6)  # and not that of the hardware
#: Where the world is, to learn which way leads there; documentation addresses would have no route.
_WORLD = ("8.8.8.8", "2001:4860:4860::8888")


def read() -> tuple[Interface, ...]:
    """Look at this node's interfaces."""
    import psutil

    states = psutil.net_if_stats()
    found = []
    for name, entries in psutil.net_if_addrs().items():
        addresses = [ip_address(each.address) for each in entries if each.family in _WITH_ADDRESS]
        state = states.get(name) or states.get(name.partition(":")[0])  # eth0:1 is one of eth0's
        found.append(
            Interface(
                name=name,
                kind=fabric.kind_of(name, _hardware(name)),
                addresses=tuple(addresses),
                up=state is None or state.isup,
                speed=0 if state is None else state.speed,
            )
        )
    return tuple(found)


def _hardware(name: str) -> int:
    """Hardware type of an interface, an ``ARPHRD_`` number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(asked, _SIOCGIFHWADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:  # it has gone this moment
            return _ETHERNET
    return int.from_bytes(answer[16:18], sys.byteorder)


def routed(towards: str | None = None) -> str | None:
    """Address of this node from which a host is reached.

    Parameters
    ----------
    towards
        Address of the host, without brackets; None is the world.

    Returns
    -------
    str or None
        None where there is no way.
    """
    for host in _WORLD if towards is None else (towards,):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as asked:
                asked.connect((host, 80))  # of a datagram socket: sends nothing
                return str(asked.getsockname()[0])
        except OSError:
            continue
    return None


def usable(wanted: str, *, towards: str | None = None) -> list[Interface]:
    """Find the interfaces of this node that a wish means, the best first.

    Parameters
    ----------
    wanted
        A name, a pattern, ``auto``, or several, split by commas.
    towards
        Address of the other side, if it is known.

    Raises
    ------
    ConfigurationError
        If the wish cannot be read.
    NodeError
        If this node has no such interface, or none that is up and has an address.
    """
    way = None if fabric.plain(wanted) else routed(towards)
    return fabric.usable(wanted, read(), routed=way)
