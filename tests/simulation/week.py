"""One seeded week in miniature: a user, a machine with its troubles, and the real controller.

Hours stand for days: jobs last minutes and trouble comes every minute.  After the troubles comes a
calm, in which what is wanted must be reached, and a close, after which nothing may be left.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from dask_hpc.batch.client import BatchClient
from dask_hpc.control import backoff
from dask_hpc.control.controller import Controller
from dask_hpc.control.demand import Bounds, Demand
from dask_hpc.control.ports import Place
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import HPCError
from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool
from tests.fakes import core as c
from tests.simulation.desk import Desk, Road, SlurmDesk
from tests.simulation.machine import Machine, Site
from tests.simulation.staff import Staff
from tests.simulation.virtual import EPOCH, Unseen, simulate
from tests.simulation.weather import TROUBLES, Weather
from tests.simulation.witness import Violation, Witness
from tests.simulation.world import MemoryJournal

POOL = "default"
#: Seconds after the last trouble in which what was under way settles: late submissions, requeued
#: and held jobs, the longest pause after failures, doubts.
SETTLE = 400.0
#: Seconds in which, from then on, all that is wanted must be there at once.
REACH = 300.0


@dataclass(frozen=True)
class Plan:
    """All that makes a week.

    Parameters
    ----------
    seed
        Of everything.
    troubles
        What goes wrong (:data:`~tests.simulation.weather.TROUBLES`).
    words
        What the user says, and when: seconds, jobs.
    length
        Seconds until the calm.
    site
        The machine.
    cores, walltime
        Of each job; seconds.
    broken
        Whether no job ever starts well before the calm.
    closes
        Seconds after which the user closes the cluster, trouble or not; None closes in the calm.
    text
        Whether the machine speaks Slurm's text, or straight values.
    sample
        Seconds between two looks at how many jobs there are, until the calm; None takes none.
    """

    seed: int
    troubles: frozenset[str] = frozenset()
    words: tuple[tuple[float, int], ...] = ((0.0, 8),)
    length: float = 3600.0
    site: Site = field(default_factory=Site)
    cores: int = 4
    walltime: int = 600
    broken: bool = False
    closes: float | None = None
    text: bool = False
    sample: float | None = None


def draw(seed: int) -> Plan:
    """The week of a seed."""
    chance = random.Random(f"{seed} plan")
    troubles = frozenset(name for name in TROUBLES if chance.random() < 0.35)
    most = chance.choice((3, 8, 20))
    words = [(0.0, chance.randint(1, most))]
    while words[-1][0] < 3000.0:
        later = words[-1][0] + chance.choice((5.0, 60.0, 400.0, 1200.0)) * chance.uniform(0.5, 1.5)
        words.append((later, chance.choice((0, *range(most + 1)))))
    broken = chance.random() < 0.05
    if broken:  # what else ends jobs is no failure of theirs
        troubles -= {"preemption", "node-loss", "kills"}
    site = Site(nodes=chance.choice((2, 8, 16)), max_array=chance.choice((4, 1001)))
    if "limits" in troubles:
        site = replace(site, max_running=chance.randint(1, most))
    return Plan(
        seed,
        troubles,
        tuple(words),
        site=site,
        cores=chance.choice((1, 4, 16)),
        walltime=chance.choice((300, 900, 3600)),
        broken=broken,
        closes=chance.uniform(100.0, 3000.0) if chance.random() < 0.2 else None,
        text=chance.random() < 0.15,
    )


@dataclass
class Outcome:
    """What came of a week.

    Parameters
    ----------
    violation
        The first rule that was broken; None where all held.
    trace
        The last events.
    submitted, commands, rounds
        Jobs; commands by kind; rounds of the controller.
    samples
        Seconds, jobs that live, jobs that are at work.
    """

    violation: Violation | None = None
    trace: tuple[str, ...] = ()
    submitted: int = 0
    commands: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 0
    samples: tuple[tuple[float, int, int], ...] = ()


def play(plan: Plan, load: Callable[[float], int] | None = None) -> Outcome:
    """Live through a week.

    Parameters
    ----------
    plan
        Of the week.
    load
        Jobs that the tasks could use at a time; in place of the user's words.
    """
    weeks: list[Week] = []

    async def main() -> None:
        weeks.append(Week(plan))
        await weeks[0].live(load)

    logger = logging.getLogger("dask_hpc")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        simulate(main, seed=plan.seed)
    except BaseExceptionGroup as group:
        if not weeks or weeks[0].witness.violation is None:
            raise AssertionError(f"week {plan.seed} broke down") from group
    except Violation:
        pass
    except Unseen as error:
        witness = weeks[0].witness
        witness.violation = Violation("nothing breaks unseen", repr(error.__cause__ or error))
    finally:
        logger.setLevel(level)
    return weeks[0].outcome()


class Week:
    """A week under way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.weather = Weather(plan.seed, plan.troubles)
        self.weather.broken = plan.broken
        self.machine = Machine(plan.site, random.Random(f"{plan.seed} machine"))
        road = Road(self.weather)
        client = self._client(road)
        self.witness = Witness(self.machine, road)
        chance = random.Random(f"{plan.seed} staff")
        self.staff = Staff(self.machine, self.weather, self.witness, chance)
        self._samples: list[tuple[float, int, int]] = []
        self._road, self._loop = road, asyncio.get_running_loop()
        spec = _spec(plan.cores, plan.walltime)
        self.controller = Controller(
            name="sim",
            pools={POOL: Pool(POOL, spec, Layout(1, 1, None))},
            client=client,
            journal=MemoryJournal(),  # type: ignore[arg-type]
            place=Place({POOL: _script(plan.cores, plan.walltime)}, Path("/nonexistent")),
            workers=self.staff,
            clock=self._loop.time,
            wall=lambda: EPOCH + self._loop.time(),
        )
        self.witness.controller = self.staff.controller = self.controller

    def _client(self, road: Road) -> BatchClient:
        if not self.plan.text:
            return Desk(self.machine, road)
        self.machine.forget = "forgetful" in self.weather
        self.machine.accounting = not self.machine.forget
        return BatchClient(driver("slurm"), SlurmDesk(self.machine, road).run)

    def outcome(self) -> Outcome:
        return Outcome(
            self.witness.violation,
            tuple(self.witness.trace),
            self.witness.submitted,
            dict(self._road.commands),
            self.controller.rounds,
            tuple(self._samples),
        )

    # -- a week -----------------------------------------------------------------------------------

    async def live(self, load: Callable[[float], int] | None) -> None:
        """From the first word of the user to the end of the last job."""
        async with asyncio.TaskGroup() as group:
            run = group.create_task(self.controller.run())
            blow = group.create_task(self.weather.blow(self.machine))
            user = group.create_task(self._user() if load is None else self._follow(load))
            look = group.create_task(self._sample())
            end = self.plan.length if self.plan.closes is None else self.plan.closes
            await asyncio.sleep(end)
            user.cancel()
            look.cancel()
            if self.plan.broken:
                self._submissions_are_bounded()
            if self.plan.closes is None:
                blow.cancel()
                await self._calm()
            run.cancel()
            await self._close()
            blow.cancel()

    async def _user(self) -> None:
        for moment, jobs in self.plan.words:
            await asyncio.sleep(max(0.0, moment - self._loop.time()))
            await self._scale(jobs)

    async def _scale(self, jobs: int) -> None:
        self.witness.want(jobs)
        try:
            await self.controller.scale({POOL: jobs})
        except HPCError as error:
            self.witness.note(f"scale: {type(error).__name__}")

    async def _follow(self, load: Callable[[float], int]) -> None:
        """As the cluster's adaptive task does, with the demand that is told."""
        demand = Demand(Bounds())
        while True:
            now = self._loop.time()
            self.staff.working = self.staff.names() if load(now) else set()
            jobs = demand.want(load(now), now, self.controller.ledger.arrivals.get("default", ()))
            self.witness.want(jobs, word=False)
            self.controller.want({POOL: jobs})
            await asyncio.sleep(backoff.DEMAND_INTERVAL)

    async def _sample(self) -> None:
        while self.plan.sample is not None:
            await asyncio.sleep(self.plan.sample)
            self._samples.append((self._loop.time(), self.machine.live(), self.witness.up()))

    # -- what must come true ----------------------------------------------------------------------

    async def _calm(self) -> None:
        self.witness.note("calm")
        self.weather.calm()
        self.machine.clear_others()
        for node in sorted(self.machine.nodes.down):
            self.machine.mend_node(node)
        for claim in self.machine.mine(c.HELD):
            self.machine.release(claim)
        self.machine.site = replace(self.machine.site, max_running=None, max_submit=None)
        wanted = min(self.controller.wanted[POOL], self._room())
        if wanted < self.controller.wanted[POOL]:
            await self._scale(wanted)
        await asyncio.sleep(SETTLE)
        if self.controller.problem is not None:
            await self._scale(wanted)
        deadline = self._loop.time() + REACH
        while self.witness.up() < wanted:
            if self._loop.time() > deadline:
                self.witness.fail(
                    "what is wanted is reached",
                    f"{self.witness.up()} of {wanted} jobs are at work, {self.machine.live()} live",
                )
            await asyncio.sleep(1.0)
        self.witness.note("reached")

    def _room(self) -> int:
        """Jobs that the machine holds, with as many that replace them."""
        return self.plan.site.nodes * (self.plan.site.cores // self.plan.cores) // 2

    def _submissions_are_bounded(self) -> None:
        words = self.witness.words
        tries = self.plan.length // backoff.FIRST_REST
        most = sum(words) + len(words) * backoff.MAX_START_FAILURES + tries
        came = sum(count for _, count in self.machine.submits)
        if came > most:
            self.witness.fail(
                "failures are not repeated without end",
                f"{came} jobs were submitted, and none started well",
            )

    async def _close(self) -> None:
        """Whatever is not gone is told; in the calm nothing is left."""
        self.witness.note("close")
        self.witness.decreases += self.controller.ledger.live_jobs()
        left = await self.controller.close(600.0)
        told = {(key.name, key.index) for key in left}
        submitted = self.witness.submitted
        await asyncio.sleep(300.0)
        for job, claim in self.machine.claims.items():
            assert claim.array is not None
            if job.state != c.ENDING and (claim.array.name, job.index) not in told:
                self.witness.fail("no orphan after close", f"{claim.array.number}_{job.index}")
        if self.plan.closes is None and (left or self.machine.live()):
            self.witness.fail("after close all is gone", f"{self.machine.live()} live, {left}")
        if self.witness.submitted != submitted:
            self.witness.fail("nothing is submitted after close", "")


def _spec(cores: int, walltime: int) -> JobSpec:
    logs = Path("/nonexistent")
    return JobSpec(command=("true",), cores=cores, walltime=walltime, log_directory=logs)


@cache
def _script(cores: int, walltime: int) -> Path:
    """A script that the system would read, once for all weeks."""
    path = Path(tempfile.mkdtemp(prefix="weeks-")) / "job.sh"
    path.write_text(job_script(_spec(cores, walltime), driver("slurm")), encoding="utf-8")
    return path
