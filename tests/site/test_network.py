"""Interfaces in real network namespaces: which is chosen, what it carries, what is said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site.netns import Hosts
from tests.site.slurm import wait_until

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.root,
    pytest.mark.slurm,  # needs none, and once is enough
]
SIZE = 20 << 20
BOTH = "eth0 ib0"


def hosts_of(addresses: list[str]) -> list[str]:
    return sorted(address.partition("://")[2].rpartition(":")[0] for address in addresses)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def three(home: Path) -> Iterator[Hosts]:
    with Hosts(home, a=BOTH, b=BOTH, c=BOTH) as hosts:
        yield hosts


@pytest.mark.parametrize("wish", ["ib0", "hsn0,ib*,eth0", "auto"])
def test_all_traffic_is_on_the_fabric(three: Hosts, wish: str) -> None:
    """Between workers, scheduler and client, however the interface was wished for."""
    asked = ("--interface", wish)
    with three.scheduler("a", *asked), three.worker("b", *asked), three.worker("c", *asked):
        assert hosts_of(three.ask("a", 2)["workers"]) == ["10.82.0.2", "10.82.0.3"]
        before = three.traffic()
        told = three.ask("b", 2, SIZE)
        after = three.traffic()
    assert told["moved"] == 3 * SIZE
    assert hosts_of([told["scheduler"]]) == ["10.82.0.1"]
    moved = {name: after[name] - before[name] for name in after}
    print(f"\n{wish}: bytes on the hosts' interfaces: {moved}")
    assert moved["ib0"] > 4 * SIZE  # what leaves one host arrives at another
    assert moved["eth0"] < SIZE / 1000


BROKEN = {
    "down": ("link", "set", "ib0", "down"),
    "has no address": ("addr", "flush", "dev", "ib0"),
    "there is no ib0": ("link", "del", "ib0"),
}


# The reasons are told apart in unit tests too; one of them runs always.
@pytest.mark.parametrize(
    "why", ["down", *(pytest.param(why, marks=pytest.mark.long) for why in list(BROKEN)[1:])]
)
def test_a_host_without_the_first_candidate_takes_the_next_and_names_what_it_has(
    three: Hosts, why: str
) -> None:
    """The head is reached by its second address; without a second candidate there is an error."""
    three.set("b", *BROKEN[why])
    with three.scheduler("a", "--interface", "ib0,eth0") as found:
        assert hosts_of([found.address, *found.others]) == ["10.81.0.1", "10.82.0.1"]
        assert "10.82.0.1" in found.address
        asked = ("--interface", "ib0,eth0")
        with three.worker("b", *asked) as log, three.worker("c", *asked):
            workers = three.ask("a", 2)["workers"]
            assert "listening on eth0 (ethernet" in log.read_text()
        assert hosts_of(workers) == ["10.81.0.2", "10.82.0.3"]
        code, line = three.ended_worker("b", "--interface", "ib0")
        assert code == 78
        assert why in line
        assert "it has eth0 (ethernet, 10 Gbit/s, 10.81.0.2" in line
    code, line = scheduler_error(three, "b", "ib0")
    assert code != 0
    assert "the scheduler cannot listen" in line
    assert why in line
    assert "10.81.0.2" in line


def scheduler_error(hosts: Hosts, host: str, wish: str) -> tuple[int, str]:
    words = ("scheduler", "--scheduler-file", hosts.home / "other.json", "--interface", wish)
    done = hosts.done(host, sys.executable, "-m", "dask_hpc", *words)
    return done.returncode, done.stderr


def test_workers_leave_a_fabric_that_the_head_is_not_on(home: Path) -> None:
    """`auto` means the fabric, and the head could never come back to it."""
    with Hosts(home, a="eth0", b=BOTH) as hosts:
        with hosts.scheduler("a"), hosts.worker("b", "--interface", "auto") as log:
            assert hosts_of(hosts.ask("a", 1)["workers"]) == ["10.81.0.2"]
        assert "the head is not reached from ib0 (10.82.0.2): no answer in 2 s" in log.read_text()
        assert "listening on eth0" in log.read_text()


def test_workers_that_the_head_cannot_reach_end_and_say_so(home: Path) -> None:
    """They have joined, and no result could ever leave them; the engine alone would say nothing."""
    with Hosts(home, a="eth0", b=BOTH) as hosts, hosts.scheduler("a"):
        code, line = hosts.ended_worker("b", "--interface", "ib0")
    assert code == 78
    assert "cannot connect to this node's workers at 10.82.0.2 (ib0)" in line


def test_a_worker_goes_to_the_address_of_the_head_that_answers(three: Hosts) -> None:
    """The head's first address is dead for this host, and says nothing."""
    three.set("b", "link", "set", "ib0", "down")
    with three.scheduler("a", "--interface", "auto"), three.worker("b") as log:
        assert hosts_of(three.ask("a", 1)["workers"]) == ["10.81.0.2"]
    assert "joined tls://10.81.0.1:" in log.read_text()


def test_a_client_goes_to_the_address_of_the_head_that_answers(three: Hosts) -> None:
    """A login node that is not on the fabric, beside a cluster that is."""
    three.set("c", "link", "set", "ib0", "down")
    asked = ("--interface", "auto")
    with three.scheduler("a", *asked), three.worker("b", *asked):
        told = three.ask("c", 1)
    assert hosts_of([told["scheduler"]]) == ["10.81.0.1"]
    assert hosts_of(told["workers"]) == ["10.82.0.2"]


def test_a_worker_that_gives_up_says_what_it_tried(three: Hosts) -> None:
    """From each of its interfaces, all at once."""
    with three.scheduler("a", "--interface", "ib0"):
        three.set("a", "link", "set", "ib0", "down")
        three.set("c", "link", "set", "ib0", "down")
        code, line = three.ended_worker("b", "--death-timeout", "3")
        other, alone = three.ended_worker("c", "--death-timeout", "3")
    assert (code, other) == (75, 75)
    assert "from ib0 (10.82.0.2): no " in line
    assert "from eth0 (10.81.0.2): no " in line
    assert "from eth0 (10.81.0.3): no " in alone
    assert "from ib0" not in alone


def test_an_interface_with_ipv6_alone_carries_a_cluster(home: Path) -> None:
    """Its addresses are in brackets, wherever the engine takes one."""
    with Hosts(home, a="eth0 ib1", b="eth0 ib1", c="eth0 ib1") as hosts:
        asked = ("--interface", "ib1")
        with hosts.scheduler("a", *asked), hosts.worker("b", *asked), hosts.worker("c"):
            told = hosts.ask("a", 2, SIZE)
            moved = hosts.traffic()
    assert hosts_of([told["scheduler"], *told["workers"]]) == [f"[fd00:82::{n}]" for n in (1, 2, 3)]
    assert told["moved"] == 3 * SIZE
    assert moved["ib1"] > 4 * SIZE
    assert moved["eth0"] < SIZE / 1000


def test_hosts_without_ipv4_need_no_word(home: Path) -> None:
    """The engine alone would look for an IPv4 address."""
    with Hosts(home, a="ib1", b="ib1") as hosts, hosts.scheduler("a") as found, hosts.worker("b"):
        assert found.address.startswith("tls://[fd00:82::1]:")  # not a name that others lack
        told = hosts.ask("b", 1, SIZE)
    assert hosts_of([told["scheduler"], *told["workers"]]) == ["[fd00:82::1]", "[fd00:82::2]"]


def test_a_firewall_before_the_workers_is_named(three: Hosts) -> None:
    """Nodes often let connections out and none in."""
    chain = "chain c { type filter hook input priority 0; ct state new tcp dport != 22 drop; }"
    rules = f"table inet t {{ {chain}; }}"
    assert three.done("b", "nft", rules).returncode == 0
    with three.scheduler("a"):
        code, line = three.ended_worker("b")
    assert code == 78
    assert "cannot connect to this node's workers at 10.81.0.2" in line
    wait_until(lambda: not three.file.exists(), 10, "the scheduler has ended")
