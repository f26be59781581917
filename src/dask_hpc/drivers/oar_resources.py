"""What a job asks OAR for, as one resource description (oarsub(1), ``-l``).

For :mod:`dask_hpc.drivers.oar`.
"""

from __future__ import annotations

import re

from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobSpec

MIB = 1024**2
#: Keywords of OAR alone, and the value that says that there is no such property.
RESOURCES = "resource_spec"
MEMORY = "memory_per_core_property_name"
NO_MEMORY = "not_applicable"


def resources(spec: JobSpec) -> str:
    """Value of the one ``-l`` of a job.

    Raises
    ------
    ConfigurationError
        If the options contradict the rest, or cannot be.
    """
    if RESOURCES in spec.options:
        wanted = spec.options[RESOURCES].strip()
    elif spec.gpus:  # a site's cores belong to its GPUs: so many cores with each
        wanted = f"/nodes={spec.nodes}/gpu={spec.gpus}/core={-(-spec.cores // spec.gpus)}"
    else:
        wanted = f"/nodes={spec.nodes}/core={spec.cores}"
    name = spec.options.get(MEMORY, NO_MEMORY)
    if spec.memory is not None and name != NO_MEMORY:
        if re.fullmatch(r"[A-Za-z_]\w*", name) is None:
            raise ConfigurationError(f"{MEMORY} is not a name of a property: {name!r}")
        enough = f"{name}>={-(-spec.memory // (spec.cores * MIB))}"
        own = re.match(r"\{(.*?)\}", wanted)
        wanted = wanted[own.end() :] if own else wanted
        wanted = f"{{({own[1]}) AND {enough}}}{wanted}" if own else f"{{{enough}}}{wanted}"
    if spec.walltime is None:
        return wanted
    if "walltime=" in wanted:
        raise ConfigurationError(
            f"a walltime of {spec.walltime} s, and another one in {RESOURCES}: {wanted}",
            hint="give walltime= alone: workers stop in time by it",
        )
    minutes, seconds = divmod(spec.walltime, 60)
    return f"{wanted},walltime={minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
