"""One node's part of a parallel launch: imports the engine once, then forks all that it runs.

Started by the leading rank of a node as a program of its own (``python -m``): no MPI library,
thread or import of the user's is in it, and its hash seed is the cluster's.  What to do comes on
standard input; where ranks come from is not known here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.cluster.mpi.launch import say
from dask_hpc.errors import ConfigurationError, HPCError, NodeError
from dask_hpc.launch.rendezvous import Rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import forked, limits, shares, spawn
from dask_hpc.node.crew import Hand
from dask_hpc.node.options import WorkerOptions

if TYPE_CHECKING:
    from dask_hpc.node.ending import Ending

#: Exit code when the scheduler has gone without closing its workers.
_LOST = 1
_SIGNALLED = 128
_LISTS = ("preload", "preload_nanny", "fork_preload")


def main() -> None:
    """Run one node: ``python -m dask_hpc.cluster.mpi.node PARENT``."""
    forked.die_with(int(sys.argv[1]))
    spawn.prepare()  # while the leader still reads its command line and meets its ranks
    text = sys.stdin.read()
    if not text:  # the leader has changed its mind
        os._exit(0)
    orders = json.loads(text)
    sys.path[:] = orders["path"] or sys.path
    code = _run(orders)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to take apart, and taking apart costs as much as a worker


def _run(orders: dict[str, Any]) -> int:
    try:
        if orders["scheduler"] is None:
            return _crew(orders, _told_head(orders))
        from dask_hpc.cluster.mpi import scheduler

        return scheduler.run(orders, lambda found: _crew(orders, found))
    except HPCError as error:
        say(str(error))
        return 78 if isinstance(error, ConfigurationError | NodeError) else 1
    except OSError as error:
        say(f"the scheduler cannot start: {error}")
        return 1


def _told_head(orders: dict[str, Any]) -> Rendezvous | None:
    if orders["address"] is None:
        return None
    tls = orders["tls"]
    return Rendezvous(orders["address"], tls=TLSFiles(*tls) if tls else None)


# --- workers -------------------------------------------------------------------------------------


def _crew(orders: dict[str, Any], found: Rendezvous | None) -> int:
    """Run the workers of this node; an exit code."""
    from dask_hpc.node.supervisor import run_crew

    given = dict(orders["workers"])
    for name in _LISTS:
        given[name] = tuple(given.get(name, ()))
    if given.get("scheduler_file"):
        given["scheduler_file"] = Path(given["scheduler_file"])
    if given.get("tls"):
        given["tls"] = TLSFiles(*given["tls"])
    if found is not None:
        given |= {"scheduler": found.address, "scheduler_file": None}
    wanted = WorkerOptions(**given, head_starts_with_us=found is not None, quiet=True, drains=False)
    end = run_crew(wanted, lambda: hands(orders, wanted), found)
    return _code(end, mates=len(orders["ranks"]))


def _code(end: Ending, mates: int) -> int:
    if end.lost:
        say(f"{end.reason}: the {mates} workers of {socket.gethostname()} end")
        return _LOST
    if 0 < end.code < _SIGNALLED:
        say(f"{socket.gethostname()}: {end.reason}")
    return end.code


def hands(orders: Mapping[str, Any], wanted: WorkerOptions) -> list[Hand]:
    """Describe the workers that the ranks of this node stand for."""
    ranks = orders["ranks"]
    snapshot = limits.look()
    cpus = [frozenset(each) for each in orders["cpus"]]  # of all ranks, those without worker too
    with contextlib.suppress(OSError):  # the leader may be bound to its own rank's
        os.sched_setaffinity(0, frozenset().union(*cpus))
    threads = dict(
        zip(
            orders["here"],
            shares.threads(cpus, snapshot.environ, snapshot.cpu_quota),
            strict=True,
        ),
    )
    memory, notes = shares.memory(wanted.memory_limit, len(orders["here"]), len(ranks), snapshot)
    for note in notes:
        say(f"warning: {socket.gethostname()}: {note}")
    whole = frozenset().union(*cpus)
    return [
        Hand(
            name=each["name"],
            threads=wanted.nthreads or threads[each["rank"]],
            memory=memory,
            cpus=own if (own := frozenset(each["cpus"])) != whole else None,
            environ=each["environ"],
        )
        for each in ranks
    ]


if __name__ == "__main__":
    main()
