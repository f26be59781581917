"""``initialize()`` in a script: what a user writes."""

import os
import sys

from distributed import Client

from dask_hpc.mpi import initialize

initialize(client_rank=int(os.environ.get("CLIENT_RANK", "1")))
how = os.environ.get("HOW", "")
with Client() as client:
    client.wait_for_workers(int(os.environ["WORKERS"]), timeout=30)
    answer = client.submit(sum, [1, 2]).result()
    print(f"answer {answer} over {client.scheduler.address[:6]}", flush=True)
    if how == "raise":
        raise ValueError("boom")
    if how == "exit":
        sys.exit(7)
    if how == "wait":
        client.submit(__import__("time").sleep, 600).result()
