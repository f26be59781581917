"""A cluster that is held open: prints what a test needs to know, ends at the end of its input.

Usage: hold.py NAME JOBS WORKERS_PER_NODE [KEYWORD=VALUE ...]
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

from distributed import Client, as_completed

from dask_hpc import HPCCluster


def main() -> None:
    name, jobs, per_node, *rest = sys.argv[1:]
    options = dict(word.split("=", 1) for word in rest)
    running = int(options.pop("running", jobs)) * int(options.get("nodes", 1))
    with HPCCluster(
        name=name,
        cores=int(options.pop("cores", per_node)),
        processes=int(per_node),
        memory=f"{int(per_node) * 400} MiB",
        walltime="10 min",
        **options,
    ) as cluster:
        cluster.scale(jobs=int(jobs))
        cluster.wait_for_workers(running * int(per_node), timeout=90)
        known = {
            "pid": os.getpid(),
            "scheduler_file": cluster.scheduler_file,
            "address": cluster.scheduler_address,
            "workers": list(cluster.scheduler_info["workers"]),
            "names": names(cluster),
            "dashboard": cluster.dashboard_link,
            "help": cluster.dashboard_help,
        }
        say(known)
        for line in sys.stdin:
            word, *values = line.split()
            done: dict[str, Any] = {"done": word}
            if word == "scale":
                cluster.scale(jobs=int(values[0]))
            elif word == "wait":
                cluster.wait_for_workers(int(values[0]), timeout=120)
            elif word == "move":
                with cluster.get_client() as client:
                    done["moved"] = move(client, int(values[0]))
            elif word == "compute":
                with cluster.get_client() as client:
                    done["result"] = compute(client, int(values[0]))
            elif word == "jupyter":
                there = cluster.jupyter("socket")
                done |= {"line": str(there), "socket": there.socket, "token": there.token}
            elif word == "jupyter-job":
                there = cluster.jupyter(job={"cores": 1, "memory": "600 MiB"})
                done |= {"line": str(there), "reach": there.to_json()}
            elif word == "stop-jupyter":
                cluster.stop_jupyter()
            report = {"names": names(cluster), "report": cluster.report()}
            say({**done, **report, "repr": repr(cluster)})


def say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)


def names(cluster: HPCCluster) -> dict[str, str]:
    """Name of each worker, by its address, as the scheduler knows them now."""
    with cluster.get_client() as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    return {address: str(worker["name"]) for address, worker in workers.items()}


def move(client: Client, size: int) -> int:
    """Send so many random bytes from each worker to one on another host; how many arrived."""
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"], key=lambda each: each[::-1])
    hosts = {worker: worker.rpartition(":")[0] for worker in workers}
    made = {
        worker: client.submit(os.urandom, size, workers=[worker], pure=False) for worker in workers
    }
    seen = [
        client.submit(len, made[other], workers=[worker], pure=False)
        for worker in workers
        for other in [next(each for each in workers if hosts[each] != hosts[worker])]
    ]
    return sum(client.gather(seen))


def work(number: int) -> int:
    hashlib.pbkdf2_hmac("sha256", b"x", str(number).encode(), 100_000)
    return number * number


def compute(client: Client, count: int) -> int:
    """Sum squares, slowly; a line is printed once the first few are there."""
    futures = client.map(work, range(count), pure=False)
    arrived = as_completed(futures)
    for _ in range(8):
        next(arrived)
    say({"started": count})
    return sum(client.gather(futures))


if __name__ == "__main__":
    main()
