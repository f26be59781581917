"""A person's browser at the near end of a tunnel: the door, the dashboard, a kernel.

Usage: kernel.py REACH CODE, the first as JSON.  Prints as JSON what each of them says.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from dask_hpc.jupyter.reach import Reach
from tests.integration.labs import Browser


def main() -> None:
    reach = Reach.from_json(json.loads(sys.argv[1]))
    trusted = ssl.create_default_context(cafile=Path.home() / ".dask-hpc" / "tls" / "ca.pem")
    owner = Browser(reach, reach.token, trusted)
    page = owner.ask("/dask/status")
    said = {
        "stranger": Browser(reach, "", trusted).ask("/api/status").status,
        "owner": owner.ask("/api/status").status,
        "dashboard": [page.status, b"bokeh" in page.body.lower()],
        "kernel": asyncio.run(owner.run(sys.argv[2])),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
