"""``initialize(exit=False)``: every rank goes on, and MPI too."""

from distributed import Client
from mpi4py import MPI

from dask_hpc.mpi import initialize, send_close_signal

world = MPI.COMM_WORLD
is_client = initialize(exit=False)
if is_client:
    with Client() as client:
        client.wait_for_workers(world.size - 2, timeout=30)
        print("answer", client.submit(sum, [1, 2]).result(), flush=True)
    send_close_signal()
print("clients", world.allreduce(int(is_client)), flush=True)
