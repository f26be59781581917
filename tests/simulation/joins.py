"""A real scheduler with TLS, and as many stubs as wanted that join it as workers would.

A stub is a worker with its nanny, less the processes: it opens their connections and says on them
what the engine's would, heartbeats included.  Before, each node's worth of stubs knocks and waits
for its turn, with the code that a supervisor runs.  To be looked at: what that costs the head.

    python -m tests.simulation.joins [--workers 2000] [--per-node 8] [--at-once]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed.comm import Comm, connect
from distributed.versions import get_versions

from dask_hpc.cluster.joining import HeadScheduler
from dask_hpc.cluster.security import engine_security
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import head
from dask_hpc.node.options import WorkerOptions

#: Processes that the stubs share.
PROCESSES = 2
#: Seconds in which a stub must have joined.
PATIENCE = 120.0


# --- the stubs -----------------------------------------------------------------------------------


@dataclass
class Stubs:
    """Those of one process."""

    file: Path
    first: int
    count: int
    per_node: int
    in_turn: bool
    joined: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Join with all, say so, and stay until standard input ends."""
        found = rendezvous.read(self.file)
        last = self.first + self.count
        nodes = [
            range(first, min(first + self.per_node, last))
            for first in range(self.first, last, self.per_node)
        ]
        stays = [asyncio.create_task(self._node(numbers, found)) for numbers in nodes]
        end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while len(self.joined) + len(self.lost) < self.count:
            await asyncio.sleep(0.1)
        told = {"joined": self.joined, "waits": self.waits, "lost": self.lost}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        await end
        for stay in stays:
            stay.cancel()

    async def _node(self, numbers: range, found: rendezvous.Rendezvous) -> None:
        if self.in_turn:
            options = WorkerOptions(
                scheduler_file=self.file,
                position=numbers[0] // self.per_node,
                death_timeout=PATIENCE,
            )
            reached = await head.reach(options, found, len(numbers))
            await asyncio.sleep(reached.turn)
        await asyncio.gather(*(self._one(number, found) for number in numbers))

    async def _one(self, number: int, found: rendezvous.Rendezvous) -> None:
        try:
            await self._join_and_stay(number, found)
        except (OSError, ValueError, TimeoutError) as error:
            self.lost.append(f"{number}: {error!r}")

    async def _join_and_stay(self, number: int, found: rendezvous.Rendezvous) -> None:
        security = head.security_for(found.tls, insecure=False)
        arguments = security.get_connection_args("worker")
        began = time.time()
        nanny = await connect(found.address, **arguments)
        address = f"tls://10.{number >> 8 & 255}.{number & 255}.1:1"
        await nanny.write({"op": "register_nanny", "address": f"{address}1"})
        await nanny.read()
        stream = await connect(found.address, **arguments)
        await stream.write(_registration(number, address), serializers=["msgpack"])
        answer = await stream.read(deserializers=["msgpack"])
        if answer["status"] != "OK":
            raise ValueError(answer)
        self.joined.append(time.time())
        self.waits.append(time.time() - began)
        beat = await connect(found.address, **arguments)
        await _heartbeats(beat, address, answer["heartbeat-interval"])


async def _heartbeats(comm: Comm, address: str, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        message = {"op": "heartbeat_worker", "address": address, "now": time.time()}
        await comm.write({**message, "metrics": _METRICS, "executing": {}, "extensions": {}})
        interval = (await comm.read())["heartbeat-interval"]


#: What a worker tells of itself (distributed.worker.Worker.get_metrics).
_METRICS: dict[str, Any] = {
    "task_counts": {},
    "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {},
    "managed_bytes": 0,
    "spilled_bytes": {"memory": 0, "disk": 0},
    "transfer": {
        f"{way}_{what}": 0
        for way in ("incoming", "outgoing")
        for what in ("bytes", "count", "count_total")
    },
    "event_loop_interval": 0.02,
    "cpu": 0.0,
    "memory": 100_000_000,
    "time": 0.0,
    "host_net_io": {"read_bps": 0, "write_bps": 0},
    "host_disk_io": {"read_bps": 0, "write_bps": 0},
    "num_fds": 20,
}


def _registration(number: int, address: str) -> dict[str, Any]:
    return {
        "op": "register-worker",
        "reply": False,
        "address": address,
        "status": "running",
        "nthreads": 1,
        "name": f"stub-{number}",
        "now": time.time(),
        "resources": {},
        "memory_limit": 1 << 30,
        "local_directory": "",
        "services": {},
        "nanny": f"{address}1",
        "pid": os.getpid(),
        "versions": get_versions(),
        "metrics": _METRICS,
        "extra": {},
        "stimulus_id": f"stub-{number}",
        "server_id": f"stub-{number}",
    }


# --- the head ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What so many workers cost their head.

    Parameters
    ----------
    joined
        Workers at the end.
    seconds
        Until the last had joined.
    per_worker
        Seconds of the head's processor for each of them.
    deaf
        Longest time in seconds for which the head did nothing else.
    usual
        The same, of 99 looks in 100.
    registration
        Longest time in seconds that one worker took, its turn not counted.
    files
        Open files of the head.
    idle
        Share of a processor that it then needs.
    lost
        What went wrong for a stub.
    """

    joined: int
    seconds: float
    per_worker: float
    deaf: float
    usual: float
    registration: float
    files: int
    idle: float
    lost: Sequence[str]


async def measure(
    workers: int, tls: TLSFiles, directory: Path, *, per_node: int = 8, in_turn: bool = True
) -> Load:
    """Have so many stubs join a scheduler in this process."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    file = directory / "scheduler.json"
    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": ":0"}
    async with HeadScheduler(protocol="tls", security=engine_security(tls), **options) as scheduler:
        rendezvous.write(file, scheduler.identity(), cluster="joins", owner="o", tls=tls)
        lags: list[float] = []
        watching = asyncio.create_task(_watch(lags))
        async with _stubs(file, workers, per_node, in_turn=in_turn) as processes:
            began, cpu = time.time(), time.process_time()
            told = [await _told(process) for process in processes]
            cpu = time.process_time() - cpu
            busy = sorted(lags)
            idle = await _idle()
            files = len(list(Path("/proc/self/fd").iterdir()))
            joined = len(scheduler.workers)
        watching.cancel()
    return Load(
        joined=joined,
        seconds=max(max(each["joined"]) for each in told) - began,
        per_worker=cpu / workers,
        deaf=busy[-1],
        usual=busy[int(len(busy) * 0.99)],
        registration=max(max(each["waits"]) for each in told),
        files=files,
        idle=idle,
        lost=[line for each in told for line in each["lost"]],
    )


async def _watch(lags: list[float], step: float = 0.01) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(step)
        lags.append(time.monotonic() - before - step)


async def _idle(seconds: float = 5.0) -> float:
    cpu, began = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - began)


@asynccontextmanager
async def _stubs(
    file: Path, workers: int, per_node: int, *, in_turn: bool
) -> AsyncIterator[list[Process]]:
    share = -(-workers // PROCESSES // per_node) * per_node
    processes = []
    for first in range(0, workers, share):
        count = min(share, workers - first)
        words = (str(file), str(first), str(count), str(per_node), str(int(in_turn)))
        command = (sys.executable, "-m", __spec__.name, "--stubs", *words)
        processes.append(
            await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, limit=1 << 24, cwd=Path(__file__).parents[2]
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _told(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE + 60):
        told: dict[str, Any] = json.loads(await process.stdout.readline())
    return told


def main() -> None:
    """Be the stubs of one process, or measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=2000)
    parser.add_argument("--per-node", type=int, default=8)
    parser.add_argument("--at-once", action="store_true", help="without turns")
    parser.add_argument("--stubs", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stubs:
        file, *numbers = given.stubs
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        first, count, per_node, in_turn = map(int, numbers)
        asyncio.run(Stubs(Path(file), first, count, per_node, bool(in_turn)).run())
        return
    from dask_hpc.cluster.security import ensure_identity

    with tempfile.TemporaryDirectory() as directory:
        load = asyncio.run(
            measure(
                given.workers,
                ensure_identity(),
                Path(directory),
                per_node=given.per_node,
                in_turn=not given.at_once,
            )
        )
    sys.stdout.write(f"{load}\n")


if __name__ == "__main__":
    main()
