"""What must hold in every week: the truth of the machine beside what the controller believes.

Safety is looked at when something happens, and raises at once; liveness is the week's own to ask.
"""

from __future__ import annotations

import asyncio
from collections import deque

from dask_hpc.control import backoff
from dask_hpc.control.controller import Controller
from dask_hpc.model.job import JobState
from tests.fakes import core as c
from tests.fakes.core import Array, Job
from tests.simulation.desk import Road
from tests.simulation.machine import Machine
from tests.simulation.virtual import EPOCH

#: Seconds for which a decision may be on its way: what was wanted then still counts.
DECISION = 5.0


class Violation(AssertionError):
    """A property does not hold: its name, and what was seen."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Witness:
    """Sees what the controller does and what is true.

    Attributes
    ----------
    trace
        The last events, each with its time.
    """

    def __init__(self, machine: Machine, road: Road) -> None:
        self.machine, self.road = machine, road
        self.controller: Controller | None = None
        self.troubles = frozenset(road.weather.troubles)
        self.trace: deque[str] = deque(maxlen=400)
        self.violation: Violation | None = None
        self.given_up: set[tuple[str, int]] = set()
        self.decreases = 0
        self.submitted = 0  # jobs, as asked for, whether or not they arrived
        self.words: list[int] = []  # what the user said, one after the other
        self._wanted: deque[tuple[float, int]] = deque()
        self._loop = asyncio.get_running_loop()
        self._changed, machine.on_change = machine.on_change, self._change
        machine.on_cancel = self._cancel
        road.watch = self._command

    # -- what is told -----------------------------------------------------------------------------

    def note(self, text: str) -> None:
        if self.violation is None:
            self.trace.append(f"{self._loop.time():9.1f} {text}")

    def want(self, jobs: int, *, word: bool = True) -> None:
        """So many jobs are wanted from now on; by the user's word, or as the demand has it."""
        before = self._wanted[-1][1] if self._wanted else 0
        if word:
            self.words.append(jobs)
        if jobs == before:
            return
        self.note(f"wanted {jobs}")
        self.decreases += max(0, before - jobs)
        self._wanted.append((self._loop.time(), jobs))

    def give_up(self, name: str, index: int) -> None:
        """The controller gives a job up."""
        if self._expiring(name, index):
            return  # it is replaced
        self.given_up.add((name, index))
        if len(self.given_up) > self.decreases + self.machine.requeues:
            self.fail(
                "no job is given up that is wanted",
                f"{len(self.given_up)} given up, {self.decreases} fewer wanted, in all",
            )

    def fail(self, rule: str, what: str) -> None:
        self.note(f"VIOLATION {rule}: {what}")
        self.violation = self.violation or Violation(rule, what)
        raise self.violation

    # -- what is seen -----------------------------------------------------------------------------

    def _command(self, what: str, count: int) -> None:
        if what == "submit":
            self._submit(count)
        elif what == "query":
            self.look()

    def _submit(self, count: int) -> None:
        self.note(f"submit {count}")
        self.submitted += count
        live = sum(
            job.state != c.ENDING and not self._expiring(claim.array.name, job.index)
            for job, claim in self.machine.claims.items()
            if claim.array is not None
        )
        coming = live + sum(self.road.flying.values())
        if coming + count > (most := self._most_wanted()):
            self.fail(
                "never more jobs than wanted",
                f"{count} are submitted beside {live} that live and {coming - live} on their way; "
                f"{most} are wanted",
            )

    def _expiring(self, name: str, index: int) -> bool:
        """Whether a job is to be replaced, since its walltime is over soon: truly soon."""
        assert self.controller is not None
        tracked = self.controller.ledger.arrays.get(name)
        if tracked is None or index not in tracked.expiring:
            return False
        left = tracked.expiring[index] - EPOCH - self._loop.time()
        most = backoff.LONGEST_LEAD * (tracked.walltime or 0.0) + backoff.MAX_TOGETHER
        if left > most:
            self.fail("no job is replaced too early", f"{name}-{index} has {left:.0f} s left")
        return True

    def _most_wanted(self) -> int:
        now = self._loop.time()
        while len(self._wanted) > 1 and self._wanted[1][0] < now - self._decision():
            self._wanted.popleft()
        return max((jobs for _, jobs in self._wanted), default=0)

    def _decision(self) -> float:
        troubled = self.troubles & {"slow", "outages", "late", "lost"}
        return 300.0 if troubled else DECISION

    def look(self) -> None:
        """Whether every job that lives is known to, and none is an orphan."""
        assert self.controller is not None
        arrays = self.controller.ledger.arrays
        for job, claim in self.machine.claims.items():
            if job.state == c.ENDING or claim.array is None:
                continue
            name = claim.array.name
            if name not in arrays:
                self.fail("no job is orphaned", f"{name}-{job.index} is {job.state}, and forgotten")
            status = arrays[name].status[job.index]
            if not status.state.live:
                self.fail(
                    "no job is declared dead that lives",
                    f"{name}-{job.index} is {job.state}, and taken for {status.state}",
                )

    def _cancel(self, array: Array, job: Job) -> None:
        assert self.controller is not None
        self.note(f"cancel {array.number}_{job.index} ({job.state})")
        tracked = self.controller.ledger.arrays.get(array.name)
        if tracked is None or job.index not in tracked.leaving:
            self.fail("only what is given up is cancelled", f"{array.number}_{job.index}")
        self.give_up(array.name, job.index)

    def _change(self, array: Array, job: Job) -> None:
        where = f" on {job.node}" if job.state == c.RUNNING else ""
        self.note(f"{array.number}_{job.index} {job.state}{where}")
        self._changed(array, job)

    def up(self) -> int:
        """Jobs whose workers are known to the controller, and run."""
        assert self.controller is not None
        return sum(
            bool(tracked.workers.get(index)) and status.state is JobState.RUNNING
            for tracked in self.controller.ledger.arrays.values()
            for index, status in tracked.status.items()
        )
