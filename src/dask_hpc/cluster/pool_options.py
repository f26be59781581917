"""What a further pool of a cluster is asked for: the cluster's own options, but for what differs.

Pure; what single options mean is :mod:`.options`' business.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from dask_hpc.cluster.options import ClusterOptions, changed
from dask_hpc.cluster.peer import ALIASES
from dask_hpc.cluster.pools import POOL, resources_apart
from dask_hpc.drivers.base import Driver
from dask_hpc.errors import ConfigurationError

#: Of file names, and of a resource of workers.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,29}")

_ONE_HEAD = "all pools have one scheduler: give it to the cluster"
#: Keywords of a cluster that are none of its jobs', each with what to do instead.
OF_THE_CLUSTER = {
    "n_workers": 'the size of a pool is said by scale({"POOL": workers})',
    "name": "a pool is called by the first argument of add_pool()",
    "job_name": "a pool is called by the first argument of add_pool()",
    "pools": "a pool has no pools",
    "shapes": "the shape of a further pool is what you say of it: shapes= is the cluster's own",
    "log_directory": "jobs of all pools log in one directory: give it to the cluster",
    **dict.fromkeys(
        ("batch", "site", "config_name"),
        "all pools are in one batch system: make a second cluster for another one",
    ),
    **dict.fromkeys(
        (
            *("scheduler_options", "scheduler_interface", "scheduler_port", "host", "protocol"),
            *("security", "insecure", "dashboard", "dashboard_port", "dashboard_address"),
            *("close_timeout", "head", "head_options", "asynchronous", "loop", "silence_logs"),
            "shared_temp_directory",
        ),
        _ONE_HEAD,
    ),
}

#: Keywords that say how large a job is ...
_SIZE = ("cores", "memory", "gpus", "nodes")
#: ... and those that say what it is divided into, or asked for in its place: of another size.
_OF_A_SIZE = ("job_cpu", "job_mem", "resource_spec", "ncpus", "mem")


def pool_options(
    name: str,
    keywords: Mapping[str, Any],
    *,
    cluster: ClusterOptions,
    driver: Driver | type[Driver],
    taken: Collection[str] = (),
) -> ClusterOptions:
    """Check what a further pool was asked for.

    Parameters
    ----------
    name
        Of the pool.
    keywords
        As the user wrote them; None means not given.
    cluster
        Options of the cluster's own pool: they hold where nothing else is said.  What tells pools
        apart (`resources`, `preemptible`) is not inherited, nor is what goes with a job's size
        (`processes`, `resource_spec` ...) where that differs.
    driver
        Of the batch system.
    taken
        Names of the pools that there are.

    Raises
    ------
    ConfigurationError
        If the name cannot be used, or an option is unknown, senseless or the cluster's alone.
    """
    if name == POOL or name in taken:
        raise ConfigurationError(
            f"there is a pool {name!r} already",
            hint="that is the cluster's own, with the options of the cluster"
            if name == POOL
            else "a pool is not changed: take another name",
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a pool cannot be called {name!r}",
            hint="a letter first, then letters, digits, '_' and '-', 30 at most",
        )
    given = {word: value for word, value in keywords.items() if value is not None}
    for word in given:
        if (why := OF_THE_CLUSTER.get(ALIASES.get(word, word))) is not None:
            raise ConfigurationError(f"pool {name}: {word}= is no option of a pool", hint=why)
    try:
        return changed(_inherited(cluster, given), given, driver)
    except ConfigurationError as error:
        raise ConfigurationError(f"pool {name}: {error.args[0]}", hint=error.hint) from None


def _inherited(cluster: ClusterOptions, given: Collection[str]) -> ClusterOptions:
    arguments, _ = resources_apart(cluster.worker_extra_args)
    common = replace(cluster, resources={}, preemptible=False, worker_extra_args=arguments)
    if not any(word in given for word in _SIZE):
        return common
    own = {word: value for word, value in cluster.own.items() if word not in _OF_A_SIZE}
    return replace(common, processes=None, own=own)
