"""Secure Dask clusters through a supercomputer's batch queue.

Public names only, imported when first used: ``import dask_hpc`` costs no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dask_hpc.cluster.connect import connect
    from dask_hpc.cluster.hpc_cluster import HPCCluster
    from dask_hpc.cluster.named import (
        DRMAACluster,
        FluxCluster,
        HTCondorCluster,
        LocalJobCluster,
        LSFCluster,
        MoabCluster,
        OARCluster,
        PBSCluster,
        SGECluster,
        SLURMCluster,
        TorqueCluster,
    )
    from dask_hpc.cluster.planning import plan

__all__ = [
    "DRMAACluster",
    "FluxCluster",
    "HPCCluster",
    "HTCondorCluster",
    "LSFCluster",
    "LocalJobCluster",
    "MoabCluster",
    "OARCluster",
    "PBSCluster",
    "SGECluster",
    "SLURMCluster",
    "TorqueCluster",
    "__version__",
    "connect",
    "plan",
]


def __getattr__(name: str) -> object:
    if name == "connect":
        from dask_hpc.cluster.connect import connect

        return connect
    if name == "plan":
        from dask_hpc.cluster.planning import plan

        return plan
    if name in __all__:
        from dask_hpc.cluster import named

        return getattr(named, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
