"""Which network interface is chosen, by name, pattern or ``auto``, and how that is refused."""

from __future__ import annotations

import itertools
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.node import fabric, interface, listening, probe
from dask_hpc.node.fabric import Interface, Kind


def make(
    name: str, *addresses: str, hardware: int = 1, up: bool = True, speed: int = 0
) -> Interface:
    return Interface(
        name=name,
        kind=fabric.kind_of(name, hardware),
        addresses=tuple(map(ip_address, addresses)),
        up=up,
        speed=speed,
    )


LO = make("lo", "127.0.0.1", "::1", hardware=772)
ETH = make("eth0", "10.0.0.2", "fe80::1", speed=10_000)
IB = make("ib0", "10.1.0.2", hardware=32, speed=200_000)
HSN = make("hsn0", "10.2.0.2", speed=200_000)
DOCKER = make("docker0", "172.17.0.1")
TUN = make("tun0", "10.9.0.2", hardware=65534)
ADMIN = make("eno1", "192.168.0.2", speed=1_000)


def names(wish: str, *interfaces: Interface, routed: str | None = "10.0.0.2") -> list[str]:
    return [each.name for each in fabric.usable(wish, interfaces, routed=routed)]


@pytest.mark.parametrize(
    ("name", "hardware", "kind"),
    [
        ("hsn3", 1, Kind.SLINGSHOT),
        ("ib0", 32, Kind.INFINIBAND),
        ("ibp65s0", 32, Kind.INFINIBAND),
        ("net1", 32, Kind.INFINIBAND),
        ("ib0", 1, Kind.INFINIBAND),
        ("opa0", 32, Kind.OMNI_PATH),
        ("hfi1_0", 32, Kind.OMNI_PATH),
        ("eth0", 1, Kind.ETHERNET),
        ("eno1np0", 1, Kind.ETHERNET),
        ("bond0", 1, Kind.ETHERNET),
        ("br0", 1, Kind.ETHERNET),
        ("ibridge", 1, Kind.ETHERNET),
        ("lo", 772, Kind.LOOPBACK),
        ("dummy0", 1, Kind.LOOPBACK),
        ("docker0", 1, Kind.CONTAINER),
        ("br-0a1b2c3d4e5f", 1, Kind.CONTAINER),
        ("virbr0", 1, Kind.CONTAINER),
        ("veth1a2b", 1, Kind.CONTAINER),
        ("cni0", 1, Kind.CONTAINER),
        ("flannel.1", 1, Kind.CONTAINER),
        ("tun0", 65534, Kind.TUNNEL),
        ("vpn", 65534, Kind.TUNNEL),
        ("wg0", 65534, Kind.TUNNEL),
    ],
)
def test_an_interface_is_known_by_its_hardware_type_and_its_name(
    name: str, hardware: int, kind: Kind
) -> None:
    """udev may call InfiniBand anything; Slingshot looks like Ethernet."""
    assert fabric.kind_of(name, hardware) is kind


def test_the_first_candidate_that_the_node_has_is_taken() -> None:
    """One text serves nodes that differ."""
    wish = "hsn0,ib0,eth0"
    assert names(wish, LO, ETH, IB, HSN)[0] == "hsn0"
    assert names(wish, LO, ETH, IB)[0] == "ib0"
    assert names(wish, LO, ETH)[0] == "eth0"


def test_a_candidate_that_is_down_or_without_address_is_passed_over() -> None:
    """An interface that exists is not one that works."""
    down, bare = make("hsn0", "10.2.0.2", up=False), make("ib0", hardware=32)
    assert names("hsn0,ib0,eth0", down, bare, ETH) == ["eth0"]
    assert names("auto", down, bare, ETH) == ["eth0"]
    assert names("*", down, bare, ETH) == ["eth0"]


def test_a_pattern_takes_them_in_the_order_of_their_numbers() -> None:
    """Of many rails, the first."""
    rails = [make(f"ib{n}", f"10.1.{n}.2") for n in (10, 2, 1)]
    assert names("ib*", *rails, ETH) == ["ib1", "ib2", "ib10"]
    assert names("ib[12]", *rails, ETH) == ["ib1", "ib2"]
    assert names("ib?,eth0", *rails, ETH) == ["ib1", "ib2", "eth0"]


def test_a_pattern_never_means_what_leads_to_no_other_node() -> None:
    """Loopback, container bridges, tunnels, addresses of a network that has none."""
    lost = make("eth1", "169.254.7.7")
    assert names("*", LO, DOCKER, TUN, lost, ETH) == ["eth0"]


def test_what_is_named_is_taken_whatever_it_is() -> None:
    """A user's word goes first."""
    assert names("lo", LO, ETH) == ["lo"]
    assert names("docker0", DOCKER, ETH) == ["docker0"]
    assert names("eth1", make("eth1", "169.254.7.7")) == ["eth1"]


def test_auto_takes_fabrics_then_the_way_out_then_the_fastest() -> None:
    """Slingshot before InfiniBand before Omni-Path."""
    opa = make("opa0", "10.3.0.2")
    fast = make("eth5", "10.4.0.2", speed=100_000)
    every = (LO, DOCKER, TUN, ADMIN, fast, ETH, opa, IB, HSN)
    assert names("auto", *every) == ["hsn0", "ib0", "opa0", "eth0", "eth5", "eno1"]


def test_auto_takes_a_container_bridge_or_tunnel_only_where_it_is_the_way_out() -> None:
    """In a container it may be all there is."""
    assert names("auto", LO, TUN, routed="10.9.0.2") == ["tun0"]
    with pytest.raises(NodeError):
        names("auto", LO, TUN, DOCKER, routed=None)


def test_an_address_is_ipv4_else_ipv6_in_brackets() -> None:
    """As the engine wants it; link-local IPv6 needs a scope that no other node has."""
    assert make("ib0", "fd00::1", "10.1.0.1").host == "10.1.0.1"
    assert make("ib1", "fe80::2", "fd00::2").host == "[fd00::2]"
    assert make("ib2", "fe80::2").trouble == "has only link-local addresses"


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("eth9", "there is no eth9"),
        ("ib0", "ib0 is down"),
        ("ib1", "ib1 has no address"),
        ("ib2", "ib2 has only link-local addresses"),
        ("hsn*,ib0", "hsn\\* finds none, ib0 is down"),
    ],
)
def test_a_wish_without_an_interface_says_why_and_lists_what_there_is(
    wish: str, reason: str
) -> None:
    """With addresses and speeds: names alone do not tell which network they are."""
    there = (LO, ETH, make("ib0", "10.1.0.2", up=False, speed=200_000), make("ib1"))
    with pytest.raises(NodeError, match=reason) as caught:
        names(wish, *there, make("ib2", "fe80::2%ib2"))
    text = str(caught.value)
    assert "eth0 (ethernet, 10 Gbit/s, 10.0.0.2, fe80::1)" in text
    assert "ib0 (infiniband, 200 Gbit/s, down, 10.1.0.2)" in text
    assert "ib1 (infiniband, no address)" in text


@pytest.mark.parametrize("wish", ["", ",", "ib0,", "ib 0", "a/b", "ib[0", "x" * 16, "ib\n0"])
def test_what_is_no_wish_is_refused_before_anything_starts(wish: str) -> None:
    """With all that can be written."""
    with pytest.raises(ConfigurationError, match="hsn0,ib0,eth0"):
        fabric.candidates(wish)


INTERFACES = st.lists(
    st.builds(
        make,
        st.sampled_from(["lo", "eth0", "eth1", "ib0", "ib1", "hsn0", "docker0", "tun0"]),
        st.sampled_from(["10.0.0.2", "169.254.1.1", "fd00::1", "fe80::1"]),
        up=st.booleans(),
        speed=st.sampled_from([0, 1_000, 100_000]),
    ),
    unique_by=lambda each: each.name,
)


@given(INTERFACES, st.sampled_from(["auto", "*", "ib*,auto", "ib0,eth0", "lo"]), st.booleans())
def test_what_is_chosen_can_always_be_listened_on(
    there: list[Interface], wish: str, routed: bool
) -> None:
    """Up, with an address, each once, in the same order however the system lists them."""
    way = "10.0.0.2" if routed else None
    try:
        found = fabric.usable(wish, there, routed=way)
    except NodeError:
        inward = (Kind.LOOPBACK, Kind.CONTAINER, Kind.TUNNEL)
        good = [e for e in there if not e.trouble and e.kind not in inward]
        assert wish not in ("auto", "*") or all(str(e.address)[:4] == "169." for e in good)
        return
    assert found
    assert not any(each.trouble for each in found)
    assert len({each.name for each in found}) == len(found)
    for other in itertools.islice(itertools.permutations(there), 6):
        again = fabric.usable(wish, other, routed=way)
        assert [each.name for each in again] == [each.name for each in found]


def test_this_machine_has_a_loopback() -> None:
    """The edge reads real interfaces, and asks the kernel what they are."""
    [found] = [each for each in interface.read() if each.name == "lo"]
    assert found.kind is Kind.LOOPBACK
    assert found.up
    assert found.host == "127.0.0.1"
    assert interface.routed("127.0.0.1") == "127.0.0.1"
    assert interface.routed("::1") in {"::1", None}


# --- the one from which the head is reached -------------------------------------------------------

HEAD = "tls://10.0.0.1:1"


def answers(**of: str) -> dict[tuple[str, str], str]:
    return {(name, HEAD): answer for name, answer in of.items()}


def test_the_first_from_which_the_head_is_reached_is_taken() -> None:
    """A fast network that the head is not on would cut the workers off."""
    chosen = listening.pick("auto", [IB, ETH], answers(ib0="no route", eth0=probe.REACHED))
    assert (chosen.host, chosen.interface) == ("10.0.0.2", "eth0")
    assert "the head is not reached from ib0 (10.1.0.2): no route" in chosen.notes[0]
    assert "listening on eth0" in chosen.notes[1]


def test_where_none_reaches_the_head_the_first_is_taken_with_a_warning() -> None:
    """A filter of reverse paths may drop the probe and nothing else."""
    chosen = listening.pick("auto", [IB, ETH], answers(ib0="no route", eth0="refused"))
    assert chosen.interface == "ib0"
    assert chosen.notes[0].startswith("warning: the head is reached from none: from ib0")


def test_where_all_reach_the_head_nothing_else_is_said() -> None:
    """One line: what was chosen, and for which wish."""
    every = answers(ib0=probe.REACHED, eth0=probe.REACHED)
    [note] = listening.pick("auto", [IB, ETH], every).notes
    assert note == "listening on ib0 (infiniband, 200 Gbit/s, 10.1.0.2), for interface 'auto'"


@pytest.mark.parametrize(
    ("address", "host"),
    [("tls://10.0.0.1:80", "10.0.0.1"), ("tls://[fd00::1]:80", "fd00::1"), ("inproc://", None)],
)
def test_the_host_of_an_address_has_no_brackets(address: str, host: str | None) -> None:
    """For the kernel, which has no ports in it."""
    assert listening.host_of(address) == host
