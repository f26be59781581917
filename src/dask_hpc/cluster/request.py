"""What the user asked for, complete: keywords, site, configuration, batch system.

It looks at the configuration and at the machine; nothing is created or submitted here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dask_hpc.batch.detect import detect
from dask_hpc.cluster.options import ClusterOptions, resolve
from dask_hpc.cluster.pool_options import pool_options
from dask_hpc.config import reader
from dask_hpc.drivers.base import Driver
from dask_hpc.drivers.registry import DRIVERS, FALLBACK, Detection, driver
from dask_hpc.errors import ConfigurationError
from dask_hpc.site import profile as profiles

#: What random cluster names start with.
_PREFIX = "dask"
_POOLS = "pools"


@dataclass(frozen=True, slots=True)
class Request:
    """What a cluster needs to start.

    Parameters
    ----------
    driver
        Of the batch system.
    options
        Checked, with units resolved.
    prefix
        What the name starts with, if the cluster is not named.
    pools
        Keywords of further pools, by name.
    machine
        Profile of the site, if one is named.
    """

    driver: Driver
    options: ClusterOptions
    prefix: str
    pools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    machine: profiles.Profile | None = None

    def pool(
        self, name: str, keywords: Mapping[str, Any], taken: Collection[str] = ()
    ) -> ClusterOptions:
        """Options of a further pool; see :func:`~dask_hpc.cluster.pool_options.pool_options`."""
        options = pool_options(
            name, keywords, cluster=self.options, driver=self.driver, taken=taken
        )
        return options if self.machine is None else _at_the_site(options, self.machine)


def understand(
    keywords: Mapping[str, Any],
    *,
    batch: str | None = None,
    fixed: str | None = None,
    site: str | None = None,
    has_cores: int | None = None,
) -> Request:
    """Put together what was asked for, what is configured, and what is known of the machine.

    Parameters
    ----------
    keywords
        As given to a cluster class.
    batch, fixed
        Name of the batch system, as asked for; as the class has it.
    site
        Name of the machine, or None for the configured one, if any.
    has_cores
        Of where we are already: nothing is submitted then, so that what the site wants of jobs is
        not asked for.

    Raises
    ------
    ConfigurationError
        If it can never work as written.
    """
    given = dict(keywords)
    section, job_name = given.pop("config_name", None), given.pop("job_name", None)
    named = batch or fixed
    if batch and fixed and not _fits(batch, fixed):
        raise ConfigurationError(
            f"this class is for {fixed}, not for {batch}", hint="HPCCluster takes any batch="
        )
    machine, own = _machine(site, named)
    chosen = driver(named or (machine and machine.batch) or reader.choice("batch") or detect().name)
    found = reader.layers(
        chosen.name,
        site=profiles.keywords_of(own),
        profile=_layer(machine),
        peer_section=section,
        systems=DRIVERS,
    )
    prefix, found = _job_name(found)
    pools, given, found = _pools(given, found)
    if has_cores or chosen.name == FALLBACK:
        found.insert(1, reader.Layer("this machine", {"cores": has_cores or os.cpu_count()}))
    options = resolve(given, found, chosen)
    machine = None if has_cores else machine
    if machine is not None:
        options = _at_the_site(options, machine)
    return Request(chosen, options, str(job_name or prefix or _PREFIX), pools, machine)


def batch_of(batch: str | None, site: str | None) -> Detection:
    """Tell which batch system `understand` would take, and why.

    Raises
    ------
    ConfigurationError
        If there is no such site or batch system.
    """
    machine, _ = _machine(site, batch)
    for name, why in (
        (batch, f"batch={batch!r} says so"),
        (machine and machine.batch, f"that is what {machine and machine.name} has"),
        (reader.choice("batch"), "your dask configuration says so"),
    ):
        if name:
            return Detection(driver(str(name)).name, why)
    return detect()


def _machine(
    site: str | None, batch: str | None
) -> tuple[profiles.Profile | None, Mapping[str, Any]]:
    """Find the machine and the user's own section of it."""
    if site is not None and not isinstance(site, str):
        raise ConfigurationError(
            f"the first argument is the name of a site, not {site!r}", hint="n_workers= is a word"
        )
    name = site or reader.choice("site")
    if not name:
        return None, {}
    sites = reader.user_sites()
    found = profiles.find(name, sites)
    if batch and found.batch and not _fits(batch, found.batch):
        if site is None:  # configured for this machine; this cluster is something else
            return None, {}
        raise ConfigurationError(
            f"{found.title or name} has {found.batch}, not {batch}",
            hint="leave batch= out, or use HPCCluster: the site says which it is",
        )
    return found, sites.get(name, {})


def _fits(batch: str, wanted: str) -> bool:
    """Whether a batch system is the wanted one, or a kind of it (OpenLava is one of LSF)."""
    return isinstance(driver(batch), type(driver(wanted)))


def _layer(machine: profiles.Profile | None) -> reader.Layer | None:
    if machine is None:
        return None
    return reader.Layer(f"the profile of {machine.name}", machine.values)


def _job_name(layers: list[reader.Layer]) -> tuple[str, list[reader.Layer]]:
    """Take dask-jobqueue's ``name`` of jobs out of its section: here names of clusters differ."""
    name = ""
    rest = []
    for layer in layers:
        if layer.foreign:
            name = str(layer.values.get("name") or "")
            kept = {key: value for key, value in layer.values.items() if key != "name"}
            rest.append(reader.Layer(layer.where, kept, foreign=True))
        else:
            rest.append(layer)
    return name, rest


def _pools(
    given: dict[str, Any], layers: list[reader.Layer]
) -> tuple[dict[str, Mapping[str, Any]], dict[str, Any], list[reader.Layer]]:
    """Take the pools out of keywords and layers: of two with one name, the stronger place's."""
    found: dict[str, Mapping[str, Any]] = {}
    for layer in (*layers, reader.Layer("keywords", given)):
        pools = None if layer.foreign else layer.values.get(_POOLS)
        if not isinstance(pools, Mapping | None):
            raise ConfigurationError(f"{layer.where}: pools= must be a dict of dicts")
        for name, values in (pools or {}).items():
            if not isinstance(values, Mapping | None):
                raise ConfigurationError(f"{layer.where}: pool {name!r} is {values!r}, not a dict")
            found[name] = {str(k).replace("-", "_"): value for k, value in (values or {}).items()}
    rest = [replace(each, values=_without_pools(each.values)) for each in layers]
    return found, _without_pools(given), rest


def _without_pools(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != _POOLS}


def _at_the_site(options: ClusterOptions, machine: profiles.Profile) -> ClusterOptions:
    """Check a request against what the machine wants, and keep the directives it needs."""
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    charged = options.account or options.own.get("project")  # Grid Engine's own word for it
    machine.check_required({**values, **options.own, "account": charged})
    for doubt in machine.doubts(
        cores=options.cores,
        memory=options.memory,
        walltime=options.walltime,
        queue=options.queue,
    ):
        warnings.warn(f"{machine.title}: a job asks for {doubt}", UserWarning, stacklevel=5)
    needed = tuple(machine.values.get("job_extra_directives", ()))
    mine = () if options.job_extra_directives == needed else options.job_extra_directives
    skip = options.job_directives_skip
    values["job_extra_directives"] = tuple(profiles.with_needed(needed, mine, skip))
    return ClusterOptions(**values)
