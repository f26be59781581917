"""A client that waits for workers, moves bytes between them, and prints what it saw.

Usage: ask.py SCHEDULER_FILE WORKERS BYTES
"""

from __future__ import annotations

import json
import os
import sys

from dask_hpc import connect


def main() -> None:
    file, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with connect(file, wait=count, timeout=45) as client:
        workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        seen = 0
        if size:
            made = [client.submit(os.urandom, size, workers=[each], pure=False) for each in workers]
            moved = [
                client.submit(len, made[n - 1], workers=[each], pure=False)
                for n, each in enumerate(workers)
            ]
            seen = sum(client.gather(moved)) + len(client.submit(os.urandom, size).result())
        known = {"scheduler": client.scheduler.address, "workers": workers, "moved": seen}
    print(json.dumps(known))


if __name__ == "__main__":
    main()
