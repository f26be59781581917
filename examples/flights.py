"""How late do flights arrive?  The analysis of ``dask-hpc demo``, as a script of your own.

    python examples/flights.py

It runs where you are: on a login node its workers come through the queue; on a laptop, through the
embedded ``local`` batch system.
"""

from dask_hpc import HPCCluster
from dask_hpc.demo.flights import analyse


def main() -> None:
    """Bring up 8 workers in 2 jobs, analyse, print."""
    with HPCCluster(
        name="flights", cores=4, processes=4, memory="2 GiB", walltime="10 min"
    ) as cluster:
        print(cluster.dashboard_help)
        cluster.scale(jobs=2)
        with cluster.get_client() as client:
            answer = analyse(client)

    print(f"{answer.arrived:,} flights arrived, {answer.mean:.2f} minutes late on average")
    for one in answer.estimates:
        print(f"{one.kind:8} {one.name:30} {one.mean:6.1f}  [{one.low:6.1f}, {one.high:6.1f}]")


if __name__ == "__main__":
    main()
