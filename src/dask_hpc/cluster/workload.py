"""How many workers of each pool the scheduler's tasks could use.

The engine's own figure, ``Scheduler.adaptive_target()``, takes all tasks and all workers for alike.
Here its inputs, which are public, are taken apart by what tasks ask of a worker, and its rules are
followed for each pool.  How many jobs that is worth is :mod:`~dask_hpc.control.demand`'s business.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from dask_hpc.cluster.pools import POOL, pool_of

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState, WorkerState

    from dask_hpc.model.pool import Pool

#: What a task asks of a worker: amounts of resources by name.
Needs = frozenset[tuple[str, float]]
NOTHING: Needs = frozenset()

#: Tasks of each worker and of each kind that are looked at; the engine looks at as many.
_SAMPLE = 100
#: Part of its memory that a pool may fill before it should have more workers, as in the engine.
_FULL = 0.6


@dataclass(slots=True)
class Load:
    """Tasks of one kind that could be run.

    Parameters
    ----------
    tasks
        Their number.
    seconds
        That they will take in all.
    stuck
        How many of them no worker can run that is there.
    """

    tasks: float = 0.0
    seconds: float = 0.0
    stuck: int = 0

    def slots(self, duration: float) -> int:
        """Threads that would do the work within a duration, but no more than it has tasks."""
        return min(math.ceil(self.tasks), math.ceil(self.seconds / duration))


@dataclass(frozen=True, slots=True)
class Room:
    """What a pool could take on.

    Parameters
    ----------
    pool
        Which.
    most
        Workers that it may come to have; None for no bound.
    duration
        Seconds in which its work should be done.
    """

    pool: Pool
    most: int | None
    duration: float

    def at_a_time(self, needs: Needs) -> int:
        """Tasks of a kind that one worker runs at a time; 0 if they do not count for this pool.

        Tasks that ask for nothing count for the cluster's own pool alone: the engine sends them
        anywhere, but nobody wants more GPUs for them.
        """
        if not needs and self.pool.name != POOL:
            return 0
        bounds = [float(self.pool.layout.threads)]
        bounds += [self.pool.resources.get(name, 0.0) / amount for name, amount in needs if amount]
        return math.floor(min(bounds))


def loads(scheduler: Scheduler) -> dict[Needs, Load]:
    """Tasks that are ready or run, by what they ask for."""
    found: defaultdict[Needs, Load] = defaultdict(Load)
    for worker in scheduler.workers.values():
        sample = list(islice(worker.processing, _SAMPLE))
        each = [0.0 if ts in worker.long_running else _seconds(ts, scheduler) for ts in sample]
        stretch = worker.occupancy / sum(each) if any(each) else 0.0  # transfers count as well
        for ts, seconds in zip(sample, each, strict=True):
            load = found[_needs(ts)]
            load.tasks += len(worker.processing) / len(sample)
            load.seconds += seconds * stretch
    _add(found[NOTHING], len(scheduler.queued), scheduler.queued, scheduler)  # they ask for nothing
    found[NOTHING].stuck = 0 if scheduler.workers else len(scheduler.queued)
    stuck: defaultdict[Needs, list[TaskState]] = defaultdict(list)
    count: Counter[Needs] = Counter()
    for ts in scheduler.unrunnable:  # all: the one task for another pool may be the last
        needs = _needs(ts)
        count[needs] += 1
        if count[needs] <= _SAMPLE:
            stuck[needs].append(ts)
    for needs, some in stuck.items():
        _add(found[needs], count[needs], some, scheduler)
        found[needs].stuck += count[needs]
    return {needs: load for needs, load in found.items() if load.tasks}


def _add(load: Load, count: int, tasks: Iterable[TaskState], scheduler: Scheduler) -> None:
    sample = [_seconds(ts, scheduler) for ts in islice(tasks, _SAMPLE)]
    if sample:
        load.tasks += count
        load.seconds += sum(sample) / len(sample) * count


def _needs(ts: TaskState) -> Needs:
    if not ts.resource_restrictions or ts.loose_restrictions:
        return NOTHING
    return frozenset(ts.resource_restrictions.items())


def _seconds(ts: TaskState, scheduler: Scheduler) -> float:
    """How long a task may take, as the engine estimates it from others of its kind."""
    prefix = ts.prefix
    if prefix.duration_average >= 0:
        return float(prefix.duration_average)
    if prefix.max_exec_time > 0:
        return 2.0 * float(prefix.max_exec_time)
    return float(scheduler.UNKNOWN_TASK_DURATION)


@dataclass(slots=True)
class Portion:
    """What a pool has to do.

    Parameters
    ----------
    workers
        That it takes, in parts of one.
    kinds
        What its tasks ask for.
    """

    workers: float = 0.0
    kinds: set[Needs] = field(default_factory=set)


def share(work: Mapping[Needs, Load], rooms: Sequence[Room]) -> dict[str, Portion]:
    """Divide work among pools.

    Parameters
    ----------
    work
        Tasks by what they ask for.
    rooms
        The pools, in the order in which they are filled: what can run in several goes to the
        first, and on to the next where that is full.  What fewer pools can run is dealt out first.

    Returns
    -------
    dict
        The portion of each pool, by its name.
    """
    dealt = {room.pool.name: Portion() for room in rooms}
    fitting = {needs: [room for room in rooms if room.at_a_time(needs)] for needs in work}
    for needs in sorted(work, key=lambda needs: len(fitting[needs])):
        rest = 1.0
        for room in fitting[needs]:
            portion = dealt[room.pool.name]
            wanted = rest * work[needs].slots(room.duration) / room.at_a_time(needs)
            free = math.inf if room.most is None else max(0.0, room.most - portion.workers)
            if not wanted:
                break
            if free:
                portion.workers += min(wanted, free)
                portion.kinds.add(needs)
                rest *= 1 - min(wanted, free) / wanted
    return dealt


@dataclass(slots=True)
class Needed:
    """What the pools should have.

    Parameters
    ----------
    workers
        By the pool's name.
    lent
        Names of workers that their pool needs no more: they work for others alone.
    """

    workers: dict[str, int] = field(default_factory=dict)
    lent: set[str] = field(default_factory=set)


def needed(scheduler: Scheduler, dealt: Mapping[str, Portion]) -> Needed:
    """Workers of each pool, for its tasks and for the results that it holds.

    A pool whose memory runs full is doubled.  One that should have fewer workers gives up those
    only that the engine says can be closed, and those that work for other pools alone, once these
    have all the workers that they need.
    """
    there: defaultdict[str | None, list[WorkerState]] = defaultdict(list)
    for worker in scheduler.workers.values():
        there[pool_of(worker.resources)].append(worker)
    found = Needed({pool: _target(portion, there[pool]) for pool, portion in dealt.items()})
    complete = {pool for pool, target in found.workers.items() if len(there[pool]) >= target}
    closable = set(scheduler.workers_to_close()) if scheduler.workers else set()
    for pool, target in found.workers.items():
        if target >= len(there[pool]):
            continue
        others = _hands(dealt, complete - {pool}) - _hands(dealt, dealt.keys() - complete | {pool})
        lent = {ws for ws in there[pool] if _all_among(others, ws)}
        held = [ws for ws in there[pool] if ws.address not in closable and ws not in lent]
        found.workers[pool] = max(target, len(held))
        found.lent |= {str(ws.name) for ws in lent}
    return found


def _target(portion: Portion, workers: Sequence[WorkerState]) -> int:
    target = math.ceil(round(portion.workers, 6))
    used, limit = sum(ws.nbytes for ws in workers), sum(ws.memory_limit for ws in workers)
    return max(target, 2 * len(workers)) if limit and used > _FULL * limit else target


def _hands(dealt: Mapping[str, Portion], pools: Iterable[str]) -> set[Needs]:
    """Kinds of tasks that some pools have to do."""
    return {needs for pool in pools for needs in dealt[pool].kinds}


def _all_among(kinds: set[Needs], worker: WorkerState) -> bool:
    sample = [_needs(ts) in kinds for ts in islice(worker.processing, _SAMPLE)]
    return bool(sample) and all(sample)


def told(needs: Needs) -> str:
    """Say what tasks ask for: ``GPU=1``."""
    return " ".join(f"{name}={amount:g}" for name, amount in sorted(needs))
