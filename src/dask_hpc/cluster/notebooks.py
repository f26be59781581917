"""The part of HPCCluster that opens notebooks beside the scheduler; what it starts is `lab`'s."""

from __future__ import annotations

import os
from typing import Any

from dask_hpc.cluster.sizing import Sized
from dask_hpc.jupyter.reach import is_remote
from dask_hpc.jupyter.settings import usable_root


class Notebooks(Sized):
    """A cluster with a JupyterLab of its own, if somebody asks for it."""

    def jupyter(
        self,
        listen: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        remote: bool | None = None,
    ) -> Any:
        """Start JupyterLab beside the scheduler, or find the one that runs.

        It ends with the cluster.

        ``print()`` the result for the line that says how to open it; the line holds a secret.

        Parameters
        ----------
        listen
            ``"socket"``: at a Unix socket that you alone can connect to, for an ssh tunnel;
            ``"loopback"``: with TLS on 127.0.0.1, for a browser on the same machine; ``"network"``:
            with TLS on the scheduler's address, for nodes that you may not ssh to.  Default: a
            socket if `remote`, otherwise loopback.
        root
            Directory that it shows; default: the current one.
        remote
            Whether your browser is on another machine; default: if this is an ssh session.

        Returns
        -------
        dask_hpc.jupyter.reach.Reach
            How to get there.

        Raises
        ------
        JupyterError
            If JupyterLab is not installed (``pip install 'dask-hpc[jupyter]'``) or does not start.
        ConfigurationError
            If one runs already that listens elsewhere.
        """
        steering = self.steering
        far = is_remote(steering.host) if remote is None else remote
        return self.sync(steering.jupyter, listen=listen, root=str(usable_root(root)), remote=far)

    def stop_jupyter(self) -> Any:
        """End that JupyterLab and its kernels, if there is one; the cluster goes on."""
        return self.sync(self.steering.stop_jupyter)
