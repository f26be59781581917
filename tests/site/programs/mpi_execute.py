"""``execute()`` in a script that uses MPI itself, before and after."""

import os
import sys

from mpi4py import MPI

from dask_hpc.mpi import execute


def compute(start: int, *, stop: int) -> None:
    from distributed import Client

    with Client() as client:
        client.wait_for_workers(int(os.environ["WORKERS"]), timeout=30)
        print("answer", client.submit(sum, range(start, stop)).result(), flush=True)
        if os.environ.get("HOW") == "raise":
            raise ValueError("boom")
        if os.environ.get("HOW") == "exit":
            sys.exit(7)


rank = int(os.environ.get("CLIENT_RANK", "1"))
execute(compute, (1,), {"stop": 4}, client_rank=rank, worker_name="w")
MPI.COMM_WORLD.Barrier()
print(f"after {MPI.COMM_WORLD.rank}", flush=True)
