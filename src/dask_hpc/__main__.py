"""``python -m dask_hpc``: what job scripts call, so that no console script must be on a PATH."""

from __future__ import annotations

from dask_hpc.cli.entry import main

if __name__ == "__main__":
    main()
