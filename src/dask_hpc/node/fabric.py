"""Which of a node's network interfaces to use: a snapshot and a wish in, interfaces out.

Pure: names, addresses and states only.  What the node has is read by :mod:`.interface`, who is
reached from where is asked by :mod:`.probe`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from dask_hpc.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from ipaddress import IPv4Address, IPv6Address

    Address = IPv4Address | IPv6Address

#: In place of a name: what a person who knows the machine would choose.
AUTO = "auto"
#: Longest name of an interface, ``IFNAMSIZ`` of linux/if.h less its zero.
_LONGEST = 15
_WORD = re.compile(r"[^\s/,\x00-\x1f]+")
_MAGIC = re.compile(r"[*?\[\]]")
_IPV6 = 6


class Kind(StrEnum):
    """What an interface is."""

    SLINGSHOT = "slingshot"
    INFINIBAND = "infiniband"
    OMNI_PATH = "omni-path"
    ETHERNET = "ethernet"
    TUNNEL = "tunnel"
    CONTAINER = "container bridge"
    LOOPBACK = "loopback"


#: Networks made for the traffic between nodes, the fastest first.
FABRICS = (Kind.SLINGSHOT, Kind.INFINIBAND, Kind.OMNI_PATH)
#: What reaches no other node, or none that a pattern could mean.
_INWARD = (Kind.LOOPBACK, Kind.CONTAINER, Kind.TUNNEL)

#: Hardware types of an interface (linux/if_arp.h) that tell more than its name.
_HARDWARE = {
    32: Kind.INFINIBAND,  # ARPHRD_INFINIBAND: IPoIB, whatever udev has called it
    512: Kind.TUNNEL,  # ARPHRD_PPP
    768: Kind.TUNNEL,  # ARPHRD_TUNNEL, 769: over IPv6
    769: Kind.TUNNEL,
    772: Kind.LOOPBACK,
    776: Kind.TUNNEL,  # ARPHRD_SIT
    778: Kind.TUNNEL,  # ARPHRD_IPGRE
    65534: Kind.TUNNEL,  # ARPHRD_NONE: tun, wireguard
}
#: Names, for what the hardware type calls Ethernet.  An end of a veth pair is not in it by its
#: driver: inside of a container, or of a virtual host, it is the way out and is called eth0.
_NAMES = (
    (re.compile(r"hsn\d"), Kind.SLINGSHOT),
    (re.compile(r"(opa|hfi)\d"), Kind.OMNI_PATH),
    (re.compile(r"ib(\d|[ps]\d)|ipoib|mlx\d+_ib"), Kind.INFINIBAND),
    (re.compile(r"lo$|dummy\d"), Kind.LOOPBACK),
    (
        re.compile(
            r"docker|br-[0-9a-f]{12}$|veth|virbr|vnet\d|lxc|lxd|incus|cni|cbr\d|podman|flannel|cali"
            r"|cilium|weave|kube-|nodelocaldns|nerdctl|usb\d"  # usb: the way to the board's own BMC
        ),
        Kind.CONTAINER,
    ),
    (re.compile(r"tun\d|tap\d|wg\d|ppp\d|sit\d|gre|tailscale|zt"), Kind.TUNNEL),
)


def kind_of(name: str, hardware: int) -> Kind:
    """What an interface is, by its name and its hardware type (an ``ARPHRD_`` number; 1: Ethernet).

    Sources: linux/if_arp.h; the names are those of the drivers and of container engines.
    """
    named = next((kind for pattern, kind in _NAMES if pattern.match(name)), None)
    if named in (Kind.OMNI_PATH, Kind.SLINGSHOT):  # which looks like InfiniBand to the kernel
        return named
    return _HARDWARE.get(hardware) or named or Kind.ETHERNET


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface.

    Parameters
    ----------
    name
        For example ``"ib0"``.
    kind
        What it is.
    addresses
        In the system's order, link-local ones too.
    up
        Whether it is switched on and connected.
    speed
        Mbit/s; 0 where the driver does not say.
    """

    name: str
    kind: Kind = Kind.ETHERNET
    addresses: tuple[Address, ...] = ()
    up: bool = True
    speed: int = 0

    @property
    def address(self) -> Address | None:
        """The one to listen on: the first of IPv4, else of IPv6; None if other nodes reach none."""
        good = [each for each in self.addresses if not (each.version == _IPV6 and _local(each))]
        return min(good, key=lambda each: (_local(each), each.version), default=None)

    @property
    def host(self) -> str:
        """The address as the engine writes it: IPv6 in brackets."""
        address = self.address
        assert address is not None  # noqa: S101  (only usable interfaces are asked)
        return f"[{address}]" if address.version == _IPV6 else str(address)

    @property
    def trouble(self) -> str:
        """Why nobody can listen there; empty if one can."""
        if self.address is None:
            return "has only link-local addresses" if self.addresses else "has no address"
        return "" if self.up else "is down"

    def __str__(self) -> str:
        about = [str(self.kind)]
        if self.speed > 0:
            about.append(f"{self.speed / 1000:g} Gbit/s")
        if not self.up:
            about.append("down")
        about.append(", ".join(map(str, self.addresses)) or "no address")
        return f"{self.name} ({', '.join(about)})"


def _local(address: Address) -> bool:
    return address.is_link_local


def listing(interfaces: Iterable[Interface]) -> str:
    """Say what there is, for an error: names alone do not tell which network they are."""
    return "; ".join(map(str, sorted(interfaces, key=lambda each: _natural(each.name)))) or "none"


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort ``ib2`` before ``ib10``."""
    return [(int(part or 0), word) for word, part in re.findall(r"(\D*)(\d*)", name)]


def candidates(text: str) -> tuple[str, ...]:
    """Read a wish: a name, a pattern such as ``"ib*"``, ``"auto"``, or several, split by commas.

    Parameters
    ----------
    text
        As the user wrote it.

    Raises
    ------
    ConfigurationError
        If there is no name in it, or one that no interface can have.
    """
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        magic = _MAGIC.search(word)
        bad = not _WORD.fullmatch(word) or (not magic and len(word) > _LONGEST)
        if bad or word.count("[") != word.count("]"):
            raise ConfigurationError(
                f"interface {text!r}: {word!r} is neither a name nor a pattern of names",
                hint='write a name (ib0), candidates in order (hsn0,ib0,eth0), a pattern ("ib*"),'
                f" or {AUTO}",
            )
    return words


def plain(text: str) -> bool:
    """Whether a wish is one name: then nothing is chosen."""
    return text != AUTO and "," not in text and not _MAGIC.search(text)


def usable(text: str, interfaces: Sequence[Interface], *, routed: str | None) -> list[Interface]:
    """Find the interfaces that a wish means and that one can listen on, the best first.

    Parameters
    ----------
    text
        The wish.  What is named is taken whatever it is; a pattern and ``auto`` leave out
        loopback, container bridges and tunnels.
    interfaces
        Of this node.
    routed
        Address of this node from which the other side (else: the world) is reached, or None.

    Returns
    -------
    list of Interface
        Each is up and has an address; each stands there once.  Not empty.

    Raises
    ------
    ConfigurationError
        If the wish cannot be read.
    NodeError
        If there is none: it lists what there is.
    """
    found: dict[str, Interface] = {}
    for word in candidates(text):
        for each in _meant(word, interfaces, routed):
            if not each.trouble:
                found.setdefault(each.name, each)
    if not found:
        raise NodeError(
            f"this node has no network interface for {text!r}: {_why_not(text, interfaces)};"
            f" it has {listing(interfaces)}",
            hint="choose one of them, several in order (ib0,eth0), a pattern (ib*), or auto",
        )
    return list(found.values())


def _meant(word: str, interfaces: Sequence[Interface], routed: str | None) -> Iterator[Interface]:
    ordered = sorted(interfaces, key=lambda each: _natural(each.name))
    if word == AUTO:
        yield from sorted(
            (each for each in ordered if _outward(each) or _has(each, routed)),
            key=lambda each: _preference(each, routed),
        )
    elif _MAGIC.search(word):
        yield from (each for each in ordered if fnmatchcase(each.name, word) and _outward(each))
    else:
        yield from (each for each in ordered if each.name == word)


def _outward(each: Interface) -> bool:
    """Whether a pattern may mean it; 169.254 addresses are what is left without a network."""
    address = each.address
    return each.kind not in _INWARD and not (address is not None and _local(address))


def _has(each: Interface, address: str | None) -> bool:
    return address is not None and address in map(str, each.addresses)


def _preference(each: Interface, routed: str | None) -> tuple[int, bool, int]:
    """Fabrics first, then the way to the other side, then what is fastest."""
    fabric = FABRICS.index(each.kind) if each.kind in FABRICS else len(FABRICS)
    return fabric, not _has(each, routed), -each.speed


def _why_not(text: str, interfaces: Sequence[Interface]) -> str:
    reasons = []
    for word in candidates(text):
        meant = [each for each in _meant(word, interfaces, None) if each.trouble]
        reasons += [f"{each.name} {each.trouble}" for each in meant]
        if not meant:
            magic = word == AUTO or _MAGIC.search(word)
            reasons.append(f"{word} finds none" if magic else f"there is no {word}")
    return ", ".join(dict.fromkeys(reasons))
