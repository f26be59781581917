"""A cluster that is held open: prints what a test needs to know, ends at the end of its input.

Usage: hold.py NAME JOBS WORKERS_PER_JOB [KEYWORD=VALUE ...]
"""

from __future__ import annotations

import json
import os
import sys

from dask_hpc import HPCCluster


def main() -> None:
    name, jobs, per_job, *rest = sys.argv[1:]
    options = dict(word.split("=", 1) for word in rest)
    running = int(options.pop("running", jobs))
    with HPCCluster(
        name=name,
        cores=int(options.pop("cores", per_job)),
        processes=int(per_job),
        memory=f"{int(per_job) * 400} MiB",
        walltime="10 min",
        **options,
    ) as cluster:
        cluster.scale(jobs=int(jobs))
        cluster.wait_for_workers(running * int(per_job), timeout=90)
        known = {
            "pid": os.getpid(),
            "scheduler_file": cluster.scheduler_file,
            "address": cluster.scheduler_address,
            "workers": list(cluster.scheduler_info["workers"]),
            "dashboard": cluster.dashboard_link,
            "help": cluster.dashboard_help,
        }
        print(json.dumps(known), flush=True)
        for line in sys.stdin:
            word, *values = line.split()
            if word == "scale":
                cluster.scale(jobs=int(values[0]))
            elif word == "wait":
                cluster.wait_for_workers(int(values[0]), timeout=120)
            print(json.dumps({"done": word, "repr": repr(cluster)}), flush=True)


if __name__ == "__main__":
    main()
