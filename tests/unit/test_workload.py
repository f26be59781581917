"""How work is divided among pools: tasks in, workers of each pool out."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dask_hpc.cluster.workload import (
    NOTHING,
    Load,
    Needs,
    Portion,
    Room,
    loads,
    needed,
    share,
    told,
)
from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool

GPU: Needs = frozenset({("GPU", 1.0)})
TWO_GPUS: Needs = frozenset({("GPU", 2.0)})
CHEAP: Needs = frozenset({("pool-cheap", 1.0)})
ANY: Needs = frozenset({("CPU", 1.0)})
SPEC = JobSpec(command=("true",), cores=4, log_directory=Path("/l"))


def room(name: str, most: int | None = None, *, threads: int = 4, **resources: float) -> Room:
    layout = Layout(1, threads, None)
    return Room(Pool(name, SPEC, layout, {f"pool-{name}": math.inf, **resources}), most, 5.0)


def workers(work: dict[Needs, Load], *rooms: Room) -> dict[str, int]:
    return needed(state(), share(work, rooms)).workers


# -- share ----------------------------------------------------------------------------------------


def test_tasks_that_ask_for_nothing_count_for_the_clusters_own_pool_alone() -> None:
    """However many there are: no GPU is wanted for them."""
    rooms = room("default", 2), room("gpu", GPU=1)
    assert workers({NOTHING: Load(100, 1000)}, *rooms) == {"default": 2, "gpu": 0}
    assert workers({NOTHING: Load(100, 1000)}, room("default"), room("gpu")) == {
        "default": 25,  # 100 tasks, four at a time
        "gpu": 0,
    }


@pytest.mark.parametrize(
    ("load", "count"),
    [
        (Load(0, 0), 0),
        (Load(1, 0.001), 1),
        (Load(8, 40), 2),  # 8 threads for 5 seconds
        (Load(9, 1000), 3),  # no more threads than tasks
        (Load(1000, 41), 3),
    ],
)
def test_work_is_worth_the_threads_that_do_it_in_time(load: Load, count: int) -> None:
    """Within the duration, and not more threads than there are tasks; whole workers."""
    assert workers({NOTHING: load}, room("default")) == {"default": count}


def test_a_resource_bounds_how_many_run_at_a_time() -> None:
    """Four threads and one GPU run one such task; a worker with half of it runs none."""
    work = {GPU: Load(8, 80)}
    assert workers(work, room("default"), room("gpu", GPU=1)) == {"default": 0, "gpu": 8}
    assert workers(work, room("default"), room("gpu", GPU=2)) == {"default": 0, "gpu": 4}
    assert workers(work, room("default"), room("gpu", GPU=0.5)) == {"default": 0, "gpu": 0}
    assert workers({TWO_GPUS: Load(8, 80)}, room("default"), room("gpu", GPU=2))["gpu"] == 8


def test_a_label_bounds_nothing_but_the_threads() -> None:
    """pool-NAME is a word, not an amount."""
    assert workers({CHEAP: Load(8, 80)}, room("default"), room("cheap"))["cheap"] == 2


def test_what_can_run_in_several_pools_goes_to_the_first_and_on_when_it_is_full() -> None:
    """What only one can run has its place there first."""
    rooms = room("default", 3, CPU=4), room("cheap", 4, CPU=4), room("more", CPU=4)
    assert workers({ANY: Load(8, 80)}, *rooms) == {"default": 2, "cheap": 0, "more": 0}
    assert workers({ANY: Load(40, 800)}, *rooms) == {"default": 3, "cheap": 4, "more": 3}
    work = {ANY: Load(40, 800), CHEAP: Load(8, 80)}
    assert workers(work, *rooms) == {"default": 3, "cheap": 4, "more": 5}
    assert workers({ANY: Load(8, 80)}, room("default", 0, CPU=4), rooms[1]) == {
        "default": 0,
        "cheap": 2,
    }


def test_what_nobody_can_run_is_nobodys() -> None:
    """It does not count for a pool that could not run it."""
    assert workers({GPU: Load(8, 80)}, room("default"), room("big")) == {"default": 0, "big": 0}


# -- needed ---------------------------------------------------------------------------------------


def task(**resources: float) -> Any:
    prefix = SimpleNamespace(duration_average=2.0, max_exec_time=-1)
    return SimpleHashable(
        resource_restrictions=resources or None, loose_restrictions=False, prefix=prefix
    )


class SimpleHashable(SimpleNamespace):
    """By identity, as the engine's states are."""

    __hash__ = object.__hash__


def worker(pool: str, *tasks: Any, nbytes: int = 0) -> Any:
    return SimpleHashable(
        name=f"{pool}-{id(tasks)}",
        address=object(),
        resources={f"pool-{pool}": math.inf},
        processing=set(tasks),
        long_running=set(),
        occupancy=2.0 * len(tasks),
        nbytes=nbytes,
        memory_limit=100,
    )


def state(*there: Any, queued: Any = (), unrunnable: Any = (), closable: Any = None) -> Any:
    idle = [ws for ws in there if not ws.processing] if closable is None else closable
    return SimpleNamespace(
        workers={ws.address: ws for ws in there},
        queued=set(queued),
        unrunnable=dict.fromkeys(unrunnable, 0.0),
        workers_to_close=lambda: [ws.address for ws in idle],
        UNKNOWN_TASK_DURATION=0.5,
    )


def test_workers_that_hold_what_the_engine_wants_kept_stay() -> None:
    """Idle ones go when the engine says so, pool by pool."""
    idle, full, gpu = worker("default"), worker("default", nbytes=50), worker("gpu")
    scheduler = state(idle, full, gpu, closable=[idle, gpu])
    dealt = {"default": Portion(), "gpu": Portion()}
    assert needed(scheduler, dealt).workers == {"default": 1, "gpu": 0}


def test_a_pool_whose_memory_runs_full_is_doubled() -> None:
    """That pool, and no other."""
    there = [worker("default", nbytes=61), worker("default", nbytes=61), worker("gpu")]
    dealt = {"default": Portion(1.0, {NOTHING}), "gpu": Portion()}
    assert needed(state(*there), dealt).workers == {"default": 4, "gpu": 0}


def test_workers_that_work_for_another_pool_are_lent_once_that_one_is_complete() -> None:
    """Until then they are needed: their tasks would have no place."""
    gpu, cpu = worker("gpu", task(), task()), worker("default", task())
    dealt = {"default": Portion(1.0, {NOTHING}), "gpu": Portion()}
    found = needed(state(gpu, cpu), dealt)
    assert (found.workers, found.lent) == ({"default": 1, "gpu": 0}, {gpu.name})
    found = needed(state(gpu), dealt)
    assert (found.workers, found.lent) == ({"default": 1, "gpu": 1}, set())
    own = worker("gpu", task(), task(GPU=1))
    dealt["gpu"] = Portion(0.0, {GPU})
    found = needed(state(own, cpu), dealt)
    assert (found.workers, found.lent) == ({"default": 1, "gpu": 1}, set())


# -- loads ----------------------------------------------------------------------------------------


def test_tasks_are_counted_by_what_they_ask_for_wherever_they_are() -> None:
    """Running, queued, and without a worker; those that no worker can run now are stuck."""
    loose = task(GPU=1)
    loose.loose_restrictions = True
    scheduler = state(
        worker("default", task(), task(GPU=1), loose),
        queued=[task() for _ in range(3)],
        unrunnable=[task(GPU=1.0), *[task() for _ in range(2)]],
    )
    found = loads(scheduler)
    assert found.keys() == {NOTHING, GPU}
    assert (found[NOTHING].tasks, found[NOTHING].seconds, found[NOTHING].stuck) == (7, 14, 2)
    assert (found[GPU].tasks, found[GPU].seconds, found[GPU].stuck) == (2, 4, 1)
    assert loads(state(queued=[task()]))[NOTHING].stuck == 1


def test_of_many_tasks_a_sample_is_looked_at_and_every_kind_is_found() -> None:
    """The one task for another pool may be the last of ten thousand."""
    many = [task() for _ in range(10_000)]
    found = loads(state(worker("default", *many), unrunnable=[*many, task(GPU=1)]))
    assert found[NOTHING].tasks == pytest.approx(20_000)
    assert found[NOTHING].seconds == pytest.approx(40_000)
    assert found[GPU].tasks == 1


def test_a_task_that_was_never_seen_takes_what_the_engine_supposes() -> None:
    """Unless one of its kind runs: then at least twice as long as that."""
    unknown, long = task(), task()
    unknown.prefix = SimpleNamespace(duration_average=-1, max_exec_time=-1)
    long.prefix = SimpleNamespace(duration_average=-1, max_exec_time=30)
    assert loads(state(unrunnable=[unknown]))[NOTHING].seconds == 0.5
    assert loads(state(unrunnable=[long]))[NOTHING].seconds == 60


def test_what_tasks_ask_for_is_told_in_the_engines_words() -> None:
    """For the log."""
    assert told(frozenset({("MEM", 2e9), ("GPU", 1.0)})) == "GPU=1 MEM=2e+09"
