"""A cluster that somebody brought up before, as its user holds it here."""

from __future__ import annotations

import logging
import os
from typing import Any

from distributed.core import Status

from dask_hpc.cluster.hpc_cluster import HPCCluster
from dask_hpc.cluster.known import find
from dask_hpc.drivers.registry import driver


class AttachedCluster(HPCCluster):
    """See :meth:`dask_hpc.HPCCluster.attach`.

    Parameters
    ----------
    what
        Which cluster, as `attach` takes it.
    asynchronous, loop, silence_logs
        As of HPCCluster.
    """

    def __init__(
        self,
        what: str | os.PathLike[str],
        *,
        asynchronous: bool = False,
        loop: Any = None,
        silence_logs: int | str = logging.WARNING,
    ) -> None:
        self.status = Status.closed  # what __del__ looks at, should anything below raise
        known = find(what)
        self.driver = driver(known.batch)
        self.shape_plan = None
        self._find = lambda: known
        self._live_as(known.name, asynchronous=asynchronous, loop=loop, silence_logs=silence_logs)
