"""A machine with nodes, a queue, other users and rules: FIFO with EASY backfill.

A discrete-event model on the running event loop's clock.  It is the core that the fakes'
dialects speak for, so that a simulated machine can be asked in Slurm's own words.  What goes wrong,
and when, is :mod:`tests.simulation.weather`'s; how commands travel, :mod:`tests.simulation.desk`'s.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.simulation.nodes import Nodes


@dataclass(frozen=True)
class Site:
    """The rules of a machine; seconds, cores per node, jobs."""

    nodes: int = 8
    cores: int = 16
    walltime: float = 600.0  # of jobs that name none
    max_array: int = 1001
    max_submit: int | None = None  # of one user, refused beyond
    max_running: int | None = None  # of one user, waiting beyond
    grace: float = 30.0  # from the first signal to the kill
    requeue_wait: float = 120.0
    interval: float = 1.0  # between two looks of its scheduler
    depth: int = 100  # how far it looks down the queue


class Claim:
    """One job as the machine's scheduler sees it, of ours (with `job`) or another user's."""

    __slots__ = ("array", "eligible", "group", "job", "nodes", "runtime", "started", "timers")

    def __init__(self, group: Group, runtime: float | None = None) -> None:
        self.group = group
        self.runtime = runtime
        self.job: Job | None = None
        self.array: Array | None = None
        self.eligible = 0.0
        self.nodes: list[int] = []
        self.started = 0.0
        self.timers: list[asyncio.TimerHandle] = []


class Group:
    """Claims that ask for the same: an array, or one job of another user."""

    __slots__ = ("cores", "mine", "nodes", "waiting", "walltime", "without")

    def __init__(self, nodes: int, cores: int, walltime: float, *, mine: bool) -> None:
        self.nodes, self.cores, self.walltime, self.mine = nodes, cores, walltime, mine
        self.waiting: dict[Claim, None] = {}
        self.without: frozenset[int] = frozenset()  # nodes that it must not run on


class Machine(Core):
    """The batch system of one machine.

    Parameters
    ----------
    site
        Its rules.
    chance
        For what the model leaves open.

    Attributes
    ----------
    on_start, on_end, on_cancel, on_change
        Told of our jobs alone: it runs; its script has ended or was killed; its user cancels it;
        any change.
    """

    def __init__(self, site: Site, chance: random.Random) -> None:
        super().__init__(max_array=site.max_array)
        self.site = site
        self.nodes = Nodes(site.nodes, site.cores)
        self.queue: list[Group] = []
        self.running: dict[Claim, None] = {}
        self.claims: dict[Job, Claim] = {}  # of ours that live
        self.on_start: Callable[[Claim], None] = lambda _claim: None
        self.on_end: Callable[[Claim, str], None] = lambda _claim, _how: None
        self.on_cancel: Callable[[Array, Job], None] = lambda _array, _job: None
        self.on_change: Callable[[Array, Job], None] = lambda _array, _job: None
        self._chance = chance
        self.loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None
        self.requeues = 0
        self._my_running = 0

    # -- what users do ----------------------------------------------------------------------------

    def submit(
        self, name: str, indices: Iterable[int], request: Request, script: str, **extra: str
    ) -> Array:
        indices = list(indices)
        limit = self.site.max_submit
        if limit is not None and len(self.claims) + len(indices) > limit:
            raise Refused("limit")
        array = super().submit(name, indices, request, script, **extra)
        walltime = float(request.walltime or self.site.walltime)
        group = Group(request.nodes, request.cores, walltime, mine=True)
        group.without = frozenset(
            node for node in range(len(self.nodes)) if f"node{node:02d}" in request.exclude
        )
        for job in array.jobs.values():
            claim = Claim(group)
            claim.job, claim.array = job, array
            self.claims[job] = claim
            group.waiting[claim] = None
            self.on_change(array, job)
        self.queue.append(group)
        self.look()
        return array

    def submit_other(self, nodes: int, cores: int, walltime: float, runtime: float) -> None:
        """Add another user's job."""
        group = Group(nodes, cores, walltime, mine=False)
        group.waiting[Claim(group, runtime)] = None
        self.queue.append(group)
        self.look()

    def cancel(self, array: Array, indices: Iterable[int] | None = None) -> list[Job]:
        chosen = array.jobs if indices is None else [i for i in indices if i in array.jobs]
        live = [job for i in chosen if (job := array.jobs[i]) in self.claims]
        part = len(live) < sum(job in self.claims for job in array.jobs.values())
        for job in live:
            # Slurm 22.05 keeps no trace of elements that wait, unless the whole array is cancelled.
            job.vanished = part and job.state in (c.PENDING, c.HELD)
            self.on_cancel(array, job)
            self.stop(self.claims[job], c.CANCELLED)
        return live

    def live(self) -> int:
        return len(self.claims)

    # -- what befalls jobs ------------------------------------------------------------------------

    def stop(self, claim: Claim, how: str, *, stubborn: bool = False) -> None:
        """Signal a job, which ends soon; a stubborn one is killed after the grace."""
        job = claim.job
        if job is None or job.state == c.RUNNING:
            if job is None:
                self.finish(claim, how)
                return
            self._set(claim, c.ENDING)
            self._forget_timers(claim)
            self.on_end(claim, how)
            needs = self.site.grace if stubborn else self._chance.uniform(0.2, 3.0)
            claim.timers.append(self.loop.call_later(needs, self.finish, claim, how))
        elif job.state in (c.PENDING, c.HELD):
            claim.group.waiting.pop(claim, None)
            self.finish(claim, how)

    def fail(self, claim: Claim, how: str, code: int = 0) -> None:
        """The job's script ends, or is gone, without a signal before."""
        self.on_end(claim, how)
        self.finish(claim, how, code)

    def finish(self, claim: Claim, how: str, code: int = 0) -> None:
        """It is over: its cores are free."""
        self._forget_timers(claim)
        self._free(claim)
        if (job := claim.job) is not None and job in self.claims:
            del self.claims[job]
            job.deadline = job.expected = None
            self.end(job, how, code)
            self._tell(claim)
        self.look()

    def requeue_claim(self, claim: Claim) -> None:
        """Back into the queue under the same identity."""
        if claim.job is None or claim.job.state != c.RUNNING:
            return
        self._forget_timers(claim)
        self.on_end(claim, c.REQUEUED)
        self._free(claim)
        claim.job.deadline = None
        self.requeue(claim.job)
        self.requeues += 1
        claim.eligible = self.loop.time() + self.site.requeue_wait
        group = Group(claim.group.nodes, claim.group.cores, claim.group.walltime, mine=True)
        group.without, claim.group = claim.group.without, group
        group.waiting[claim] = None
        self.queue.append(group)
        self._tell(claim)
        claim.timers.append(self.loop.call_at(claim.eligible, self.look))

    def hold_claim(self, claim: Claim) -> None:
        if claim.job is not None and claim.job.state == c.PENDING:
            self._set(claim, c.HELD)

    def release(self, claim: Claim) -> None:
        if claim.job is not None and claim.job.state == c.HELD:
            self._set(claim, c.PENDING)
            self.look()

    def fail_node(self, node: int, *, requeue: bool) -> None:
        """A node is gone, and with it what ran there."""
        self.nodes.fail(node)
        for claim in [each for each in self.running if node in each.nodes]:
            if requeue and claim.job is not None and claim.job.state == c.RUNNING:
                self.requeue_claim(claim)
            else:
                self.fail(claim, c.NODE)

    def mend_node(self, node: int) -> None:
        self.nodes.mend(node)
        self.look()

    def mine(self, *states: str) -> list[Claim]:
        """Our jobs in some states."""
        return [each for job, each in self.claims.items() if job.state in states]

    def clear_others(self) -> None:
        """Other users go home."""
        self.queue = [group for group in self.queue if group.mine]
        for claim in [each for each in self.running if each.job is None]:
            self.finish(claim, c.COMPLETED)
        self.look()

    # -- its scheduler ----------------------------------------------------------------------------

    def look(self) -> None:
        """Look soon at what can start; many reasons to look make one look."""
        if self._next is None:
            self._next = self.loop.call_later(self.site.interval, self._look)

    def _look(self) -> None:
        self._next = None
        reserved: tuple[float, frozenset[int]] | None = None
        for group in self.queue[: self.site.depth]:
            blocked = self._start_group(group, reserved)
            if blocked is not None and reserved is None:
                reserved = self._reserve(group, blocked)
        self.queue = [group for group in self.queue if group.waiting]

    def _start_group(
        self, group: Group, reserved: tuple[float, frozenset[int]] | None
    ) -> Claim | None:
        """Start what fits; the first claim that does not."""
        now, started, blocked = self.loop.time(), [], None
        late = reserved is not None and now + group.walltime > reserved[0]
        kept = reserved[1] if reserved is not None and late else frozenset()
        without = group.without | kept
        for claim in group.waiting:
            if claim.eligible > now or (claim.job is not None and claim.job.state == c.HELD):
                continue
            if group.mine and self._at_limit():
                break  # nobody waits behind a job that its user's limit keeps
            nodes = self.nodes.find(group.nodes, group.cores, without)
            if not nodes:
                blocked = claim
                break
            started.append(claim)
            self._start(claim, nodes)
        for claim in started:
            group.waiting.pop(claim, None)
        return blocked

    def _at_limit(self) -> bool:
        return self.site.max_running is not None and self._my_running >= self.site.max_running

    def _reserve(self, group: Group, claim: Claim) -> tuple[float, frozenset[int]]:
        """When the first that waits can start at the latest, and on which nodes."""
        if len(self.queue) == 1 and len(self.running) > 1000:
            return float("inf"), frozenset()  # nobody behind it who could be let past
        ends = (
            (each.started + each.group.walltime, each.nodes, each.group.cores)
            for each in self.running
        )
        reserved = self.nodes.reserve(group.nodes, group.cores, ends)
        if claim.job is not None and reserved[0] < float("inf"):
            epoch = time.time() - self.loop.time()
            claim.job.expected = epoch + reserved[0]
            self._tell(claim)
        return reserved

    def _start(self, claim: Claim, nodes: list[int]) -> None:
        self.nodes.take(nodes, claim.group.cores)
        claim.nodes, claim.started = nodes, self.loop.time()
        self.running[claim] = None
        timer = self.loop.call_later(claim.group.walltime, self._expire, claim)
        claim.timers.append(timer)
        if claim.job is None:
            end = self.loop.call_later(claim.runtime or 0.0, self.finish, claim, c.COMPLETED)
            claim.timers.append(end)
            return
        self._my_running += 1
        self.start(claim.job, nodes[0])
        claim.job.expected = None
        claim.job.deadline = time.time() + claim.group.walltime
        self._tell(claim)
        self.on_start(claim)

    def _expire(self, claim: Claim) -> None:
        self.stop(claim, c.TIMEOUT, stubborn=self._chance.random() < 0.2)

    def _free(self, claim: Claim) -> None:
        if claim in self.running:
            del self.running[claim]
            self.nodes.give(claim.nodes, claim.group.cores)
            self._my_running -= claim.job is not None
            claim.nodes = []
            self.look()

    def _forget_timers(self, claim: Claim) -> None:
        for timer in claim.timers:
            timer.cancel()
        claim.timers.clear()

    def _set(self, claim: Claim, state: str) -> None:
        assert claim.job is not None
        claim.job.state = state
        self._tell(claim)

    def _tell(self, claim: Claim) -> None:
        if claim.job is not None and claim.array is not None:
            self.on_change(claim.array, claim.job)
