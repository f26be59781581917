"""A head that may come back, in a process of its own: ``coming_head.py [--resume]``.

Runs until SIGTERM, then closes in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from dask_hpc.cluster.directory import claim
from dask_hpc.cluster.head import Head
from dask_hpc.cluster.pools import POOL
from dask_hpc.cluster.request import understand
from dask_hpc.cluster.security import ensure_identity

NAME, JOBS = os.environ["HEAD_NAME"], int(os.environ["HEAD_JOBS"])


async def main() -> None:
    resume = "--resume" in sys.argv
    options = {"cores": 2, "processes": 2, "memory": "1000 MiB", "dashboard_port": 0}
    request = understand(options, batch=os.environ["HEAD_BATCH"])
    directory = await claim(NAME, log_directory=None, resume=resume)
    head = Head(
        name=NAME,
        pools={POOL: request.options},
        driver=request.driver,
        directory=directory,
        tls=ensure_identity(),
        resume=resume,
        restart=[sys.executable, __file__, "--resume"],
    )
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await head.start()
    if not resume:
        await head.scale({POOL: JOBS})
    await told.wait()
    await head.close()


asyncio.run(main())
