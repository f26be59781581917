"""What goes wrong on a machine, and what other users do: drawn from a seed, switched off by name.

Each kind of trouble draws from a chance of its own, so that a week without one of them has the
others as before: that is how a failing week is made small.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from dataclasses import dataclass

from tests.fakes import core as c
from tests.simulation.machine import Machine

#: Kinds of trouble, by name.
TROUBLES = {
    "others": "jobs of other users, in the way",
    "luck": "some jobs fail at their start",
    "bad-node": "one node on which every job fails",
    "node-loss": "nodes go, and come back",
    "preemption": "running jobs give way to others",
    "requeue": "preempted jobs and those of lost nodes come back by themselves",
    "holds": "waiting jobs are held for a while",
    "kills": "an administrator cancels jobs",
    "outages": "no command is answered for minutes",
    "slow": "commands take long",
    "lost": "commands arrive, their answers do not",
    "late": "submissions arrive after their command was given up",
    "lag": "the listing is some seconds old",
    "forgetful": "ended jobs leave the listing at once, and nothing else records them",
    "limits": "a user may not run many jobs at once",
    "stuck": "workers whose data has nowhere to go, jobs that do not end when told",
}

#: Seconds after which a command is given up, as in the package, and as Slurm's own give up.
TIMEOUT, OWN_TIMEOUT = 60.0, 9.0


@dataclass(frozen=True)
class Trip:
    """How one command fares: seconds to the server and back; whether it arrives at all."""

    there: float = 0.05
    back: float = 0.05
    arrives: bool = True


@dataclass(frozen=True)
class Start:
    """What becomes of a job that starts: its workers join after some seconds, or it fails."""

    after: float
    fails: bool = False


class Weather:
    """The troubles of one week.

    Parameters
    ----------
    seed
        Of the week.
    troubles
        Their names.
    """

    def __init__(self, seed: int, troubles: Collection[str]) -> None:
        self.troubles = set(troubles)
        self._chance = {name: random.Random(f"{seed} {name}") for name in (*TROUBLES, "starts")}
        self.down_until = 0.0
        self.hangs = False
        self.bad_nodes: set[int] = set()
        self.broken = False  # every job fails at its start
        draw = self._chance["lag"]
        self.lag = draw.uniform(1.0, 8.0) if "lag" in self.troubles else 0.0

    def __contains__(self, trouble: str) -> bool:
        return trouble in self.troubles

    def calm(self) -> None:
        """Nothing goes wrong from now on."""
        self.troubles.clear()
        self.down_until = self.lag = 0.0
        self.bad_nodes.clear()
        self.broken = False

    # -- what is asked of it ----------------------------------------------------------------------

    def trip(self, submits: bool, now: float) -> Trip:
        """How a command fares that begins now."""
        if now < self.down_until:
            return Trip(TIMEOUT if self.hangs else OWN_TIMEOUT, 0.0, arrives=False)
        there, back = 0.05, 0.05
        if "slow" in self and (draw := self._chance["slow"]).random() < 0.2:
            there, back = draw.uniform(0.0, 12.0), draw.uniform(0.0, 25.0)
        if submits and "late" in self and (draw := self._chance["late"]).random() < 0.3:
            return Trip(TIMEOUT + draw.uniform(0.0, 20.0), 0.0)
        if "lost" in self and (draw := self._chance["lost"]).random() < 0.1:
            return Trip(there, TIMEOUT)
        return Trip(there, back)

    def start(self, nodes: Collection[int]) -> Start:
        """What becomes of a job that starts on these nodes."""
        draw = self._chance["starts"]
        quick, slow = draw.uniform(0.5, 4.0), min(60.0, draw.lognormvariate(1.8, 0.6))
        fails = self.broken or bool(self.bad_nodes & set(nodes))
        if "luck" in self and self._chance["luck"].random() < 0.08:
            fails = True
        return Start(quick, fails=True) if fails else Start(slow)

    def one_in(self, number: int, trouble: str) -> bool:
        """Whether a trouble happens, once in a number of times."""
        return trouble in self and self._chance[trouble].randrange(number) == 0

    # -- what happens by itself -------------------------------------------------------------------

    async def blow(self, machine: Machine) -> None:
        """Let it happen until cancelled."""
        async with asyncio.TaskGroup() as group:
            for what in (self._others, self._nodes, self._jobs, self._outages):
                group.create_task(what(machine))

    async def _others(self, machine: Machine) -> None:
        draw = self._chance["others"]
        site = machine.site
        # Work for three quarters of the machine, in fits and starts: queues come and go.
        sizes = (1, 1, 1, 1, min(2, site.nodes), max(1, site.nodes // 2))
        work = 750.0 * sum(sizes) / len(sizes) * 6.2
        every = work / (0.75 * site.nodes * site.cores)
        while "others" in self:
            await asyncio.sleep(draw.expovariate(1.0 / every))
            runtime = min(draw.lognormvariate(6.0, 1.2), 7200.0)
            walltime = runtime * draw.choice((1.1, 2.0, 5.0, 10.0))
            if draw.random() < 0.03:
                runtime = walltime  # killed at its limit
            nodes = draw.choice(sizes)
            cores = draw.choice((1, 2, 4, 8, site.cores))
            machine.submit_other(nodes, min(cores, site.cores), walltime, runtime)

    async def _nodes(self, machine: Machine) -> None:
        draw = self._chance["node-loss"]
        if "bad-node" in self:
            self.bad_nodes.add(self._chance["bad-node"].randrange(len(machine.nodes)))
        while "node-loss" in self:
            await asyncio.sleep(draw.expovariate(1.0 / 600.0))
            node = draw.randrange(len(machine.nodes))
            if "node-loss" in self and node not in machine.nodes.down:
                machine.fail_node(node, requeue="requeue" in self)
                asyncio.get_running_loop().call_later(
                    draw.uniform(60.0, 600.0), machine.mend_node, node
                )

    async def _jobs(self, machine: Machine) -> None:
        draw = self._chance["preemption"]
        while self.troubles & {"preemption", "holds", "kills"}:
            await asyncio.sleep(draw.expovariate(1.0 / 90.0))
            running, waiting = machine.mine(c.RUNNING), machine.mine(c.PENDING)
            if running and self.one_in(2, "preemption"):
                claim = draw.choice(running)
                if "requeue" in self:
                    machine.requeue_claim(claim)
                else:
                    machine.stop(claim, c.PREEMPTED, stubborn=draw.random() < 0.3)
            elif running and self.one_in(3, "kills"):
                machine.stop(draw.choice(running), c.CANCELLED)
            elif waiting and self.one_in(2, "holds"):
                claim = draw.choice(waiting)
                machine.hold_claim(claim)
                wait = draw.uniform(30.0, 400.0)
                asyncio.get_running_loop().call_later(wait, machine.release, claim)

    async def _outages(self, machine: Machine) -> None:
        draw = self._chance["outages"]
        while "outages" in self:
            await asyncio.sleep(draw.expovariate(1.0 / 900.0))
            self.hangs = draw.random() < 0.5
            if "outages" in self:
                length = draw.choice((20.0, 90.0, 400.0))
                self.down_until = asyncio.get_running_loop().time() + length
