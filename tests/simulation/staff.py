"""The scheduler's side of a simulated week: workers that join, leave, and are sent away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping

from dask_hpc.control.controller import Controller
from tests.fakes import core as c
from tests.simulation.machine import Claim, Machine
from tests.simulation.weather import Weather
from tests.simulation.witness import Witness

#: Workers of each job.
PER_JOB = 2


class Staff:
    """Every worker of the week."""

    def __init__(
        self, machine: Machine, weather: Weather, witness: Witness, chance: random.Random
    ) -> None:
        self.controller: Controller | None = None
        self.working: set[str] = set()  # names of workers that compute
        self.ends: dict[str, float] = {}  # deadline of each worker, as told
        self._machine, self._weather, self._witness = machine, weather, witness
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._there: dict[Claim, list[str]] = {}
        self._going: dict[str, asyncio.TimerHandle] = {}
        machine.on_start, machine.on_end = self._start, self._end

    # -- what befalls jobs ------------------------------------------------------------------------

    def _start(self, claim: Claim) -> None:
        start = self._weather.start(claim.nodes)
        if start.fails:
            timer = self._loop.call_later(start.after, self._machine.fail, claim, c.FAILED, 1)
        else:
            timer = self._loop.call_later(start.after, self._join, claim)
        claim.timers.append(timer)

    def _join(self, claim: Claim) -> None:
        assert claim.array is not None
        assert claim.job is not None
        assert self.controller is not None
        names = [f"{claim.array.name}-{claim.job.index}-{k}" for k in range(PER_JOB)]
        for name in names:
            if (timer := self._going.pop(name, None)) is not None:
                timer.cancel()  # of the job's life before: the engine parts with it first
                self.controller.worker_left(name)
            self.controller.worker_joined(name)
        self._there[claim] = names

    def _end(self, claim: Claim, how: str) -> None:
        """Workers that go are missed at once, those of a dead node after a while."""
        for name in self._there.pop(claim, []):
            after = self._chance.uniform(20.0, 60.0) if how == c.NODE else 0.5
            self._going[name] = self._loop.call_later(after, self._leave, name)

    def _leave(self, name: str) -> None:
        assert self.controller is not None
        self._going.pop(name, None)
        self.controller.worker_left(name)

    # -- what the controller asks -----------------------------------------------------------------

    def names(self) -> set[str]:
        """Every worker there is."""
        return {name for names in self._there.values() for name in names}

    def load(self) -> Mapping[str, float]:
        return {name: float(len(name)) for names in self._there.values() for name in names}

    def busy(self) -> Collection[str]:
        return self.working

    def longest_task(self) -> float:
        return 0.0

    def deadlines(self, deadlines: Mapping[str, float]) -> None:
        self.ends = dict(deadlines)

    async def retire(
        self, names: Collection[str], *, force: bool, deadline: float | None = None
    ) -> set[str]:
        """Workers leave, and their jobs end by themselves; some do not."""
        finish = 0.0 if force else self._chance.choice((0.0, 2.0, 20.0))  # what they compute
        await asyncio.sleep(finish + self._chance.uniform(0.3, 3.0))
        left: set[str] = set()
        for claim, its in list(self._there.items()):
            assert claim.array is not None
            assert claim.job is not None
            if not set(its) & set(names):
                continue
            if not force and self._weather.one_in(4, "stuck"):
                continue
            left |= set(its)
            self._witness.note(f"retire {claim.array.number}_{claim.job.index}")
            self._witness.give_up(claim.array.name, claim.job.index)
            for name in self._there.pop(claim):
                self._leave(name)
            if not self._weather.one_in(4, "stuck"):
                after = self._chance.uniform(0.5, 4.0)
                timer = self._loop.call_later(after, self._machine.fail, claim, c.COMPLETED)
                claim.timers.append(timer)
        return left | (set(names) - {name for its in self._there.values() for name in its})
