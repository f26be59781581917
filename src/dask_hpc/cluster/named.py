"""The named classes: one per batch system, each an :class:`HPCCluster` that needs not look."""

from __future__ import annotations

from dask_hpc.cluster.hpc_cluster import HPCCluster


class SLURMCluster(HPCCluster):
    """An :class:`HPCCluster` on Slurm."""

    batch = "slurm"


class FluxCluster(HPCCluster):
    """An :class:`HPCCluster` on Flux."""

    batch = "flux"


class PBSCluster(HPCCluster):
    """An :class:`HPCCluster` on PBS Professional or OpenPBS."""

    batch = "pbs"


class TorqueCluster(HPCCluster):
    """An :class:`HPCCluster` on TORQUE."""

    batch = "torque"


class MoabCluster(TorqueCluster):
    """An :class:`HPCCluster` on TORQUE with the Moab scheduler: TORQUE's own commands submit."""


class SGECluster(HPCCluster):
    """An :class:`HPCCluster` on Grid Engine: Son of, Univa, Altair or Open Cluster."""

    batch = "sge"


class LSFCluster(HPCCluster):
    """An :class:`HPCCluster` on IBM Spectrum LSF."""

    batch = "lsf"


class OARCluster(HPCCluster):
    """An :class:`HPCCluster` on OAR."""

    batch = "oar"


class HTCondorCluster(HPCCluster):
    """An :class:`HPCCluster` on HTCondor."""

    batch = "htcondor"


class DRMAACluster(HPCCluster):
    """An :class:`HPCCluster` on whatever the machine's DRMAA library speaks to."""

    batch = "drmaa"


class LocalJobCluster(HPCCluster):
    """An :class:`HPCCluster` on the embedded batch system of this machine."""

    batch = "local"
