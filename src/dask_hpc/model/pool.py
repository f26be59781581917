"""A pool: identical jobs with one wanted size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout


@dataclass(frozen=True, slots=True)
class Pool:
    """Identical jobs.

    Parameters
    ----------
    name
        Name of the pool, unique in its cluster.
    spec
        What each job asks for.
    layout
        The workers of each node of a job.
    resources
        Of each worker, for the engine's task constraints.
    preemptible
        Whether the batch system may take its jobs away at any moment.
    """

    name: str
    spec: JobSpec
    layout: Layout
    resources: Mapping[str, float] = field(default_factory=dict)
    preemptible: bool = False

    @property
    def workers_per_job(self) -> int:
        """Workers that one job brings."""
        return self.spec.nodes * self.layout.workers
