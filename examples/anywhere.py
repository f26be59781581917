"""How late do flights arrive?  One script for every place, unchanged.

    python examples/anywhere.py                             # a laptop; a login node: by the queue
    sbatch --ntasks=4 --wrap "python examples/anywhere.py"  # in a job: on the job's own nodes
    mpirun -np 6 python examples/anywhere.py                # in an MPI launch: on its ranks
    DASK_HPC_SCHEDULER_FILE=F python examples/anywhere.py   # beside a cluster that runs

``dask_hpc.connect`` says in one line which of them it found; docs/anywhere.md tells how it looks.
"""

import dask_hpc
from dask_hpc.demo.flights import analyse


def main() -> None:
    """Connect to workers, analyse, print."""
    with dask_hpc.connect(
        cores=4, processes=4, memory="2 GiB", walltime="10 min", jobs=2, dashboard_port=0
    ) as client:
        answer = analyse(client)

    print(f"{answer.arrived:,} flights arrived, {answer.mean:.2f} minutes late on average")
    for one in answer.estimates:
        print(f"{one.kind:8} {one.name:30} {one.mean:6.1f}  [{one.low:6.1f}, {one.high:6.1f}]")


if __name__ == "__main__":
    main()
