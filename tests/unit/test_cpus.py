"""To which CPUs workers are bound."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.layout import Layout
from dask_hpc.node.cpus import Topology, look, parse_list, places
from dask_hpc.node.crew import bound
from dask_hpc.node.limits import Snapshot
from dask_hpc.node.options import Bind, WorkerOptions, parse_bind


def machine(domains: int, cores: int, threads: int = 1) -> Topology:
    """Numbered as Linux does: the second threads of all cores come after all first ones."""
    total = domains * cores
    return Topology(
        tuple(frozenset(core + total * k for k in range(threads)) for core in range(total)),
        tuple(
            frozenset(
                core + total * k
                for k in range(threads)
                for core in range(domain * cores, (domain + 1) * cores)
            )
            for domain in range(domains)
        ),
    )


def within_one(place: frozenset[int], topology: Topology) -> bool:
    return any(place <= domain for domain in topology.domains)


MACHINES = st.builds(machine, st.integers(1, 8), st.integers(1, 16), st.integers(1, 2))


@given(MACHINES, st.integers(1, 32), st.data())
def test_bound_workers_share_no_core_and_have_a_cpu_for_each_thread(
    topology: Topology, workers: int, data: st.DataObject
) -> None:
    """Wherever threads fit, and each within one domain if they fit there."""
    cpus = len(topology.all)
    most = max(1, cpus // workers)
    threads = data.draw(st.integers(1, most))
    found = places(topology, workers=workers, threads=threads, bind=Bind.CORE)
    if workers > cpus:
        assert found is None
        return
    assert found is not None
    assert len(found) == workers
    assert all(place <= topology.all for place in found)
    assert not any(one & other for one, other in combinations(found, 2))
    whole_cores = workers <= len(topology.cores)
    if whole_cores:
        assert all(core <= place or not core & place for place in found for core in topology.cores)
    unit = len(topology.cores[0]) if whole_cores else 1
    units = len(topology.cores) if whole_cores else cpus
    assert all(len(place) >= min(threads, units // workers * unit) for place in found)


@given(MACHINES, st.integers(1, 32), st.integers(1, 16))
def test_workers_of_a_domain_have_all_of_it(topology: Topology, workers: int, threads: int) -> None:
    """Unless they have more threads than it has CPUs; no domain stays empty beside a full one."""
    found = places(topology, workers=workers, threads=threads, bind=Bind.NUMA)
    assert found is not None
    if threads <= len(topology.domains[0]):
        assert all(place in topology.domains for place in found)
        loads = [found.count(domain) for domain in topology.domains]
        assert max(loads) - min(loads) <= 1
    else:
        assert set(found) == {topology.all}


@pytest.mark.parametrize(
    ("workers", "threads", "expected"),
    [
        (2, 4, [{0, 1, 2, 3}, {4, 5, 6, 7}]),
        (4, 2, [{0, 1}, {2, 3}, {4, 5}, {6, 7}]),
        (1, 8, [set(range(8))]),
        (3, 2, [{0, 1}, {2, 3}, {4, 5}]),
        (3, 1, [{0, 1}, {2, 3}, {4, 5}]),
    ],
)
def test_eight_cores_in_two_domains(workers: int, threads: int, expected: list[set[int]]) -> None:
    """Read them: nobody spans the domains who need not."""
    found = places(machine(2, 4), workers=workers, threads=threads, bind=Bind.CORE)
    assert found == expected


def test_a_worker_that_needs_more_than_a_domain_spans_two() -> None:
    """Five threads each on two domains of eight cores: the third takes what is left of both."""
    topology = machine(2, 8)
    found = places(topology, workers=3, threads=5, bind=Bind.CORE)
    assert found is not None
    assert [within_one(place, topology) for place in found] == [True, True, False]
    assert [len(place) for place in found] == [5, 5, 5]


def test_nothing_is_bound_unless_asked() -> None:
    """The kernel does well on a node that is ours alone."""
    assert places(machine(2, 4), workers=2, threads=4, bind=Bind.NONE) is None
    with pytest.raises(ConfigurationError, match="one of none, core, numa"):
        parse_bind("socket")


@pytest.mark.parametrize(("machine_has", "bound_here"), [(64, True), (2, False)])
def test_a_job_that_is_confined_to_some_cpus_may_bind_to_them(
    machine_has: int, bound_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm gives both threads of a core and counts one; else others may be on the same CPUs."""
    monkeypatch.setattr(os, "cpu_count", lambda: machine_has)
    environ = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"}
    snapshot = Snapshot(environ=environ, affinity=2, host_memory=1)
    wanted = WorkerOptions(scheduler="tls://h:1", bind=Bind.CORE)
    found, note = bound(wanted, Layout(1, 1, None), snapshot)
    assert (found is not None, not note) == (bound_here, bound_here)


def test_the_kernels_lists_of_cpus_are_read() -> None:
    """As in /sys/devices/system/node/node0/cpulist; memory-only nodes have none."""
    assert parse_list("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert parse_list("\n") == frozenset()


def test_only_cpus_that_the_job_may_use_count(tmp_path: Path) -> None:
    """Of a core with two threads perhaps one; a domain without any is none of ours."""
    for cpu in range(8):
        directory = tmp_path / f"cpu/cpu{cpu}/topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    for node, text in enumerate(("0-1,4-5", "2-3,6-7", "")):
        (tmp_path / f"node/node{node}").mkdir(parents=True)
        (tmp_path / f"node/node{node}/cpulist").write_text(f"{text}\n")
    assert look({0, 1, 4}, str(tmp_path)) == Topology(
        (frozenset({0, 4}), frozenset({1})), (frozenset({0, 1, 4}),)
    )


def test_this_machine_is_read() -> None:
    """Whatever it is: each CPU in one core and one domain."""
    topology = look()
    assert topology.all == os.sched_getaffinity(0)
    assert sum(map(len, topology.cores)) == sum(map(len, topology.domains)) == len(topology.all)
