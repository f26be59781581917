"""The part of HPCCluster that opens notebooks; what it starts is `lab`'s."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from dask_hpc.cluster.bring_up import pause
from dask_hpc.cluster.sizing import Sized
from dask_hpc.jupyter.reach import Reach, is_remote
from dask_hpc.jupyter.settings import usable_root

logger = logging.getLogger("dask_hpc")


class Notebooks(Sized):
    """A cluster with a JupyterLab of its own, if somebody asks for it."""

    def jupyter(
        self,
        listen: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        remote: bool | None = None,
        job: Mapping[str, Any] | bool = False,
    ) -> Any:
        """Start JupyterLab beside the scheduler or in a job, or find the one that runs.

        It ends with the cluster.

        ``print()`` the result for the line that says how to open it; the line holds a secret.

        Parameters
        ----------
        listen
            ``"socket"``: at a Unix socket that you alone can connect to, for an ssh tunnel;
            ``"loopback"``: with TLS on 127.0.0.1, for a browser on the same machine; ``"network"``:
            with TLS on the machine's address, for nodes that you may not ssh to.  Default: a
            socket if `remote`, otherwise loopback; in a job the network.
        root
            Directory that it shows; default: the current one.
        remote
            Whether your browser is on another machine; default: if this is an ssh session.
        job
            What a job of its own asks for, in the words of the workers' (``{"cores": 2}``), and
            otherwise as these; True: one core and 4 GiB.  The call returns when JupyterLab runs
            there, however long the job waits in the queue; interrupted, the job goes on, and
            another call waits on.

        Returns
        -------
        dask_hpc.jupyter.reach.Reach
            How to get there.

        Raises
        ------
        JupyterError
            If JupyterLab is not installed (``pip install 'dask-hpc[jupyter]'``) or does not start.
        ConfigurationError
            If one runs already that listens elsewhere, or beside the scheduler if `job` is given.
        BatchSystemError
            If the batch system does not take the job.
        """
        steering = self.steering
        far = is_remote(steering.host) if remote is None else remote
        words: dict[str, Any] = {"listen": listen, "root": str(usable_root(root)), "remote": far}
        if job is not False:
            words["job"] = {} if job is True else dict(job)
        return self.sync(self._open, **words)

    async def _open(self, **words: Any) -> Reach:
        began, said = time.monotonic(), ""
        while not isinstance(there := await self.steering.jupyter(**words), Reach):
            if there.told != said:
                logger.warning("%s", there.told)  # a notebook shows nothing less
            said = there.told
            await asyncio.sleep(pause(time.monotonic() - began))
        return there

    def stop_jupyter(self) -> Any:
        """End that JupyterLab and its kernels, if there is one; the cluster goes on."""
        return self.sync(self.steering.stop_jupyter)
