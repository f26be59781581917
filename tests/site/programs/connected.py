"""A script with ``connect``: it tells where it is, and on which hosts its workers are."""

import json
import socket
import sys

import dask_hpc


def main() -> None:
    options = json.loads(sys.argv[1]) if sys.argv[1:] else {}
    with dask_hpc.connect(dashboard_port=0, **options) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        found = {
            "place": client.place,
            "names": sorted(str(worker["name"]) for worker in workers),
            "threads": sum(worker["nthreads"] for worker in workers),
            "hosts": sorted(set(client.run(socket.gethostname).values())),
            "answer": client.submit(sum, [1, 2]).result(),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
