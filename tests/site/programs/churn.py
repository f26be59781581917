"""A computation whose result is known, on a cluster whose jobs come and go.

Usage: churn.py OPTIONS, a JSON object with the fields of :class:`Options`.

Prints a line when all workers are there, and one at the end with what happened: whether the results
are right, how often each task ran and where, what the scheduler lost when which worker left, and
the workers of every second.  How often a task ran is counted by the tasks themselves, in a file,
whatever the engine says of it.  It runs for the cluster of either side, ours or dask-jobqueue's.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin

#: Leaves whose results one further task puts together.
GROUP = 16
#: Tasks in flight for each thread that is wanted.
DEPTH = 3
#: Pieces of data that are scattered, and tasks whose results are persisted at the start.
PIECES, KEPT = 32, 32


@dataclass(frozen=True)
class Options:
    """What to run: jobs of so many workers of one thread, tasks of so many seconds, for a while."""

    name: str
    batch: str = "slurm"
    side: str = "ours"
    jobs: int = 4
    workers: int = 2
    walltime: str = "00:01:00"
    seconds: float = 100.0
    task: float = 1.5
    patience: float = 60.0  # seconds for what is in flight at the end
    adapt: bool = False  # of the peer: how its documentation keeps a number of jobs
    cluster: dict[str, Any] = field(default_factory=dict)


# ---- the tasks -----------------------------------------------------------------------------------


def digest(*parts: object) -> bytes:
    """A KiB that follows from its parts."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else str(part).encode())
    return whole.digest() * 32


def leaf(key: str, seconds: float, record: str) -> bytes:
    note(record, "began", key)
    time.sleep(seconds)
    note(record, "done", key)
    return digest(key)


def branch(key: str, parts: list[bytes], record: str) -> bytes:
    note(record, "began", key)
    value = digest(*parts)
    note(record, "done", key)
    return value


def note(record: str, event: str, key: str) -> None:
    """Append one line, whole: other hosts write to the same file."""
    line = f"{event} {key} {get_worker().name} {time.time():.3f}\n"
    handle = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def executions(record: Path) -> dict[str, Any]:
    """Tasks that ran, and those that ran more often than once: on which workers, from when."""
    began, done = defaultdict(list), Counter[str]()
    for line in record.read_text().splitlines() if record.exists() else ():
        event, key, worker, when = line.split(" ")
        if event == "began":
            began[key].append((worker, float(when)))
        else:
            done[key] += 1
    return {
        "tasks": len(began),
        "executions": sum(map(len, began.values())),
        "rerun": {key: where for key, where in began.items() if len(where) > 1},
        "recomputed": sorted(key for key, times in done.items() if times > 1),
    }


# ---- what the scheduler sees ---------------------------------------------------------------------


class Recorder(SchedulerPlugin):
    """Who came, and what was lost when who left: the engine's own event."""

    name = "churn-recorder"

    def __init__(self, scheduler: Any) -> None:
        self.names = {address: str(ws.name) for address, ws in scheduler.workers.items()}
        self.lost: list[dict[str, Any]] = []

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self.names[worker] = str(scheduler.workers[worker].name)

    def log_event(self, topic: str, msg: Any) -> None:
        if topic != "all" or not isinstance(msg, dict) or msg.get("action") != "remove-worker":
            return
        told = {
            "worker": self.names.get(msg["worker"], msg["worker"]),
            "time": time.time(),
            "running": len(msg["processing-tasks"]),
            "computed": sorted(map(str, msg["lost-computed-tasks"])),
            "scattered": sorted(map(str, msg["lost-scattered-tasks"])),
        }
        if told["computed"] or told["scattered"] or told["running"]:
            self.lost.append(told)


# ---- the computation -----------------------------------------------------------------------------


class Computation:
    """Tasks that are fed for as long as wanted, all results held to the end."""

    def __init__(self, client: Client, scheduler: Any, wanted: Options) -> None:
        self.client, self.scheduler, self.wanted = client, scheduler, wanted
        self.record = Path.home() / f"churn-{wanted.name}.record"
        self.record.unlink(missing_ok=True)
        self.leaves: list[Future] = []
        self.branches: list[Future] = []
        self.open: set[Future] = set()
        self.samples: list[tuple[float, int, int]] = []
        self.start = time.monotonic()
        self.scattered = client.scatter([digest("piece", i) for i in range(PIECES)], hash=False)
        work = dask.delayed(leaf, pure=False)
        self.kept = client.persist(
            [work(f"kept{i}", 0.1, str(self.record), dask_key_name=f"kept{i}") for i in range(KEPT)]
        )

    def run(self) -> None:
        """Feed tasks, then wait for them."""
        while self.elapsed < self.wanted.seconds:
            self.feed()
            self.tick()
        limit = self.elapsed + self.wanted.patience
        while self.in_flight() and self.elapsed < limit:
            self.tick()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def in_flight(self) -> int:
        self.open = {future for future in self.open if future.status == "pending"}
        return len(self.open)

    def feed(self) -> None:
        missing = DEPTH * self.wanted.jobs * self.wanted.workers - self.in_flight()
        for _ in range(missing):
            key = f"leaf{len(self.leaves)}"
            future = self.client.submit(leaf, key, self.wanted.task, str(self.record), key=key)
            self.leaves.append(future)
            self.open.add(future)
            if len(self.leaves) % GROUP == 0:
                self._branch()

    def _branch(self) -> None:
        key, parts = f"branch{len(self.branches)}", self.leaves[-GROUP:]
        self.branches.append(
            self.client.submit(branch, key, parts, str(self.record), key=key, pure=False)
        )
        self.open.add(self.branches[-1])

    def tick(self) -> None:
        """Pass a quarter of a second; note the workers once a second."""
        time.sleep(0.25)
        if not self.samples or self.elapsed >= self.samples[-1][0] + 1:
            states = [ws.status.name for ws in list(self.scheduler.workers.values())]
            running = sum(name in ("running", "init") for name in states)
            self.samples.append((round(self.elapsed, 2), running, len(states)))

    def right(self) -> dict[str, int]:
        """Of each kind of data, how many there are and how many are as they must be."""
        expected = [digest(f"leaf{i}") for i in range(len(self.leaves))]
        groups = range(len(self.branches))
        whole = [digest(*expected[GROUP * i : GROUP * (i + 1)]) for i in groups]
        kept = self.client.compute(self.kept)
        told = {}
        for kind, futures, values in (
            ("leaves", self.leaves, expected),
            ("branches", self.branches, whole),
            ("kept", kept, [digest(f"kept{i}") for i in range(KEPT)]),
            ("scattered", self.scattered, [digest("piece", i) for i in range(PIECES)]),
        ):
            told[kind] = len(values)
            told[f"{kind} right"] = self._right(futures, values)
        return told

    def _right(self, futures: list[Future], values: list[bytes]) -> int:
        limit = time.monotonic() + self.wanted.patience / 2
        while any(f.status == "pending" for f in futures) and time.monotonic() < limit:
            time.sleep(0.1)
        there = [(f, v) for f, v in zip(futures, values, strict=True) if f.status == "finished"]
        if not there:
            return 0
        try:
            found = self.client.gather([f for f, _ in there], errors="raise")
        except Exception as error:  # noqa: BLE001  (each by itself, then)
            say({"warning": f"{type(error).__name__}: {error}"[:300]})
            found = [self._one(f) for f, _ in there]
        return sum(a == b for a, (_, b) in zip(found, there, strict=True))

    @staticmethod
    def _one(future: Future) -> bytes | None:
        try:
            value: bytes = future.result(timeout=2)
        except Exception:  # noqa: BLE001  (whatever the reason: it is not there)
            return None
        return value


# ---- the clusters --------------------------------------------------------------------------------


def make_cluster(wanted: Options) -> Any:
    request = {
        "cores": wanted.workers,
        "processes": wanted.workers,
        "memory": f"{wanted.workers * 400} MiB",
        "walltime": wanted.walltime,
        **wanted.cluster,
    }
    if wanted.side == "peer":
        warnings.simplefilter("ignore")
        from dask_jobqueue import SLURMCluster

        return SLURMCluster(job_name=wanted.name, **request)
    from dask_hpc import HPCCluster

    return HPCCluster(batch=wanted.batch, name=wanted.name, dashboard_port=0, **request)


def churn(wanted: Options) -> dict[str, Any]:
    """Run all of it; what happened."""
    with make_cluster(wanted) as cluster, Client(cluster) as client:
        if wanted.adapt:
            cluster.adapt(minimum_jobs=wanted.jobs, maximum_jobs=wanted.jobs)
        else:
            cluster.scale(jobs=wanted.jobs)
        client.wait_for_workers(wanted.jobs * wanted.workers, timeout=120)
        peer = wanted.side == "peer"
        scheduler = cluster.scheduler if peer else cluster.head.scheduler
        recorder = Recorder(scheduler)
        scheduler.add_plugin(recorder)
        say({"up": len(scheduler.workers), "pid": os.getpid()})
        computation = Computation(client, scheduler, wanted)
        computation.run()
        told = {
            "options": asdict(wanted),
            "seconds": computation.elapsed,
            "unfinished": computation.in_flight(),
            **computation.right(),
            **executions(computation.record),
            "lost": recorder.lost,
            "names": sorted(set(recorder.names.values())),
            "samples": computation.samples,
        }
        if not peer:
            told["report"] = cluster.report()
            told["repr"] = repr(cluster)
        computation.record.unlink(missing_ok=True)
    return told


def end_with_stdin() -> None:
    """Die when the end of the input comes: whoever started this is not there any more."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)  # the guardian clears up

    threading.Thread(target=wait, daemon=True).start()


def say(words: dict[str, Any]) -> None:
    print(json.dumps(words, default=str), flush=True)


if __name__ == "__main__":
    end_with_stdin()
    say({"ended": True, **churn(Options(**json.loads(sys.argv[1])))})
