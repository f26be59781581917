"""The simulated machine itself: it must be as real ones are, or the weeks prove nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.fakes import core as c
from tests.fakes.core import Array, Refused, Request
from tests.simulation.machine import Machine, Site
from tests.simulation.virtual import EPOCH, Deadlock, simulate


def on(site: Site, story: Callable[[Machine], Awaitable[None]]) -> None:
    """Tell a story on a machine."""

    async def main() -> None:
        await story(Machine(site, random.Random(1)))

    simulate(main)


def submit(machine: Machine, count: int, *, cores: int = 16, walltime: int = 600) -> Array:
    request = Request()
    request.cores, request.walltime = cores, walltime
    return machine.submit("mine", range(count), request, "")


def states(array: Array) -> list[str]:
    return [job.state for job in array.jobs.values()]


def test_what_waits_first_starts_first() -> None:
    """First come, first served, as many as there are cores for."""

    async def story(machine: Machine) -> None:
        array = submit(machine, 3)
        await asyncio.sleep(5)
        assert states(array) == [c.RUNNING, c.RUNNING, c.PENDING]

    on(Site(nodes=2), story)


def test_a_short_job_slips_by_and_a_long_one_does_not() -> None:
    """EASY backfill: whoever delays the first in the queue waits behind it."""

    async def story(machine: Machine) -> None:
        machine.submit_other(1, 16, walltime=1000.0, runtime=1000.0)
        await asyncio.sleep(5)
        machine.submit_other(2, 16, walltime=1000.0, runtime=1000.0)  # needs both nodes, at 1000 s
        await asyncio.sleep(5)
        long, short = submit(machine, 1, walltime=2000), submit(machine, 1, walltime=900)
        await asyncio.sleep(5)
        assert states(long) == [c.PENDING]
        assert states(short) == [c.RUNNING]

    on(Site(nodes=2), story)


def test_the_first_in_the_queue_is_told_when_it_starts() -> None:
    """By the walltimes of those that run, which may end sooner."""

    async def story(machine: Machine) -> None:
        machine.submit_other(1, 16, walltime=1000.0, runtime=300.0)
        await asyncio.sleep(5)
        (job,) = submit(machine, 1).jobs.values()
        await asyncio.sleep(5)
        assert job.expected == pytest.approx(EPOCH + 1000.0, abs=5.0)
        await asyncio.sleep(310)
        assert job.state == c.RUNNING
        assert job.deadline == pytest.approx(EPOCH + 301.0 + 600.0, abs=5.0)

    on(Site(nodes=1), story)


def test_a_walltime_that_is_over_ends_a_job_after_a_while() -> None:
    """First the signal, then the end, at the latest after the grace."""

    async def story(machine: Machine) -> None:
        array = submit(machine, 40, cores=1, walltime=100)
        await asyncio.sleep(101.2)
        assert set(states(array)) == {c.ENDING}
        await asyncio.sleep(4)
        assert set(states(array)) == {c.ENDING, c.TIMEOUT}
        await asyncio.sleep(30)
        assert set(states(array)) == {c.TIMEOUT}
        assert set(machine.nodes.free) == {16}

    on(Site(nodes=4), story)


def test_a_requeued_job_waits_and_runs_again() -> None:
    """Under the same identity, after two minutes."""

    async def story(machine: Machine) -> None:
        array = submit(machine, 1)
        await asyncio.sleep(5)
        (claim,) = machine.mine(c.RUNNING)
        machine.requeue_claim(claim)
        await asyncio.sleep(60)
        assert states(array) == [c.PENDING]
        await asyncio.sleep(70)
        assert states(array) == [c.RUNNING]
        assert array.jobs[0].lives == 2

    on(Site(nodes=1), story)


def test_a_node_that_fails_takes_its_jobs_along_and_gets_no_new_ones() -> None:
    """Until it is mended."""

    async def story(machine: Machine) -> None:
        array = submit(machine, 3)
        await asyncio.sleep(5)
        machine.fail_node(0, requeue=False)
        await asyncio.sleep(5)
        assert states(array) == [c.NODE, c.RUNNING, c.PENDING]
        machine.mend_node(0)
        await asyncio.sleep(5)
        assert states(array) == [c.NODE, c.RUNNING, c.RUNNING]

    on(Site(nodes=2), story)


def test_limits_of_a_user_refuse_or_keep_waiting() -> None:
    """Too many at once are refused; too many that run are not started."""

    async def story(machine: Machine) -> None:
        array = submit(machine, 3, cores=1)
        with pytest.raises(Refused):
            submit(machine, 2)
        await asyncio.sleep(5)
        assert states(array) == [c.RUNNING, c.RUNNING, c.PENDING]

    on(Site(max_submit=4, max_running=2), story)


def test_excluded_nodes_are_left_alone() -> None:
    """As sbatch's --exclude has it."""

    async def story(machine: Machine) -> None:
        request = Request()
        request.cores, request.exclude = 16, frozenset({"node00"})
        array = machine.submit("mine", range(2), request, "")
        await asyncio.sleep(5)
        assert states(array) == [c.RUNNING, c.PENDING]
        assert array.jobs[0].node == "node01"

    on(Site(nodes=2), story)


def test_a_week_passes_at_once_and_a_wait_for_nothing_is_an_error() -> None:
    """The clock moves when nothing else is left to do."""

    async def week() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.gather(asyncio.sleep(7 * 86400), asyncio.to_thread(len, "x"))
        return loop.time() - begin

    assert simulate(week) == pytest.approx(7 * 86400)
    with pytest.raises(Deadlock):
        simulate(lambda: asyncio.Event().wait())
