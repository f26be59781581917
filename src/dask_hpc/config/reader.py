"""Read the configuration: our own, and what a user of dask-jobqueue has set already.

Values only, in layers; what they mean is checked where keywords are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dask.config
import yaml

from dask_hpc.errors import ConfigurationError

SECTION = "dask-hpc"
#: Keys of our section that are no keywords: they say which batch system, machine or scheduler.
CHOICES = ("batch", "site", "sites", "scheduler_file")
#: The other package's section, and its name for a batch system where it is not ours.
PEER = "jobqueue"
_PEER_SECTIONS = {"torque": "moab", "openlava": "lsf"}

#: Variables by which users tell a batch system's own commands who is charged.
ACCOUNT_VARIABLES = {
    "pbs": "PBS_ACCOUNT",
    "torque": "PBS_ACCOUNT",
    "slurm": "SBATCH_ACCOUNT",
    "lsf": "LSB_DEFAULTPROJECT",
    "openlava": "LSB_DEFAULTPROJECT",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place.

    Parameters
    ----------
    where
        The place, in an error's words.
    values
        By keyword; None says nothing.
    foreign
        Whether it is dask-jobqueue's: keys that nobody knows are passed over, as it does.
    """

    where: str
    values: Mapping[str, Any]
    foreign: bool = False


@cache
def defaults() -> Mapping[str, Any]:
    """What ships with the package.

    It is not registered with dask, so that a value in dask's configuration is one that was set.
    """
    text = Path(__file__).with_name("dask-hpc.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values[SECTION]  # type: ignore[no-any-return]


def choice(name: str) -> Any:
    """What the user configured for one of `CHOICES`; None without it."""
    return _set_by_user().get(name)


def user_sites() -> dict[str, dict[str, Any]]:
    """Sites in the user's configuration, by name.

    Raises
    ------
    ConfigurationError
        If one is not a section.
    """
    return {
        str(name): _section(f"{SECTION}.sites.{name}", values)
        for name, values in _section(f"{SECTION}.sites", _set_by_user().get("sites")).items()
    }


def layers(
    batch: str,
    *,
    site: Mapping[str, Any] | None = None,
    profile: Layer | None = None,
    peer_section: str | None = None,
    systems: Collection[str] = (),
) -> list[Layer]:
    """Values for one batch system, from the weakest place to the strongest.

    Parameters
    ----------
    batch
        Name of its driver.
    site
        The user's own section of the site.
    profile
        What is known of the site.
    peer_section
        Section of dask-jobqueue's configuration to read (its ``config_name``); default: the one
        of the batch system.
    systems
        Names of all batch systems: their sections are no keywords.

    Returns
    -------
    list of Layer
        Each with keywords of :class:`dask_hpc.HPCCluster`, as they were written.

    Raises
    ------
    ConfigurationError
        If a section is not one, or the one that was asked for is not there.
    """
    shipped = {
        key: value
        for key, value in defaults().items()
        if key not in CHOICES and not isinstance(value, dict)
    }
    ours = _set_by_user()
    common = {
        key: value
        for key, value in ours.items()
        if key not in CHOICES and key not in systems and key != batch
    }
    found = [Layer("the defaults of dask-hpc", shipped)]
    if profile is not None:
        found.append(profile)
    if account := os.environ.get(ACCOUNT_VARIABLES.get(batch, ""), ""):
        found.append(Layer(f"${ACCOUNT_VARIABLES[batch]}", {"account": account}))
    found.append(_peer_layer(batch, peer_section))
    found.append(Layer(f"{SECTION} in your dask configuration", common))
    own = f"{SECTION}.{batch}"
    found.append(Layer(f"{own} in your dask configuration", _section(own, ours.get(batch))))
    if site:
        found.append(Layer("the site's section in your dask configuration", site))
    return found


def _set_by_user() -> dict[str, Any]:
    return _section(SECTION, dask.config.get(SECTION, None))


def _section(name: str, values: Any) -> dict[str, Any]:
    """Keys of a section, with underscores; a section that is left empty is None in YAML."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigurationError(
            f"{name} of your dask configuration is {values!r}, not a section",
            hint=f"write keys and values below {name}:",
        )
    named_by_user = name.endswith(".sites")
    return {
        str(key) if named_by_user else str(key).replace("-", "_"): value
        for key, value in values.items()
    }


def _peer_layer(batch: str, name: str | None) -> Layer:
    wanted = name or _PEER_SECTIONS.get(batch, batch)
    where = f"{PEER}.{wanted}"
    values = dask.config.get(where, None)
    if name and values is None:
        known = ", ".join(map(str, dask.config.get(PEER, None) or ())) or "none"
        raise ConfigurationError(
            f"config_name={name!r}: there is no {where} in your dask configuration",
            hint=f"sections of {PEER}: {known}; a machine of yours is better kept as a site",
        )
    section = _section(where, values)
    section = _without_package_defaults(wanted, section)
    said = {key: value for key, value in section.items() if value not in (None, "", [], {}, ())}
    return Layer(f"{where} in your dask configuration", said, foreign=True)


def _without_package_defaults(name: str, section: dict[str, Any]) -> dict[str, Any]:
    """Leave out what dask-jobqueue itself sets on import: whether it is imported changes nothing.

    Its defaults (half an hour of walltime, one minute to find the scheduler) are then those of a
    package that was not asked.  What equals one of them counts where a file or the environment
    says it.
    """
    registered: dict[str, Any] = {}
    for each in dask.config.defaults:
        sections = each.get(PEER) or {}
        if {"oar", "lsf", "htcondor"} <= sections.keys():  # not those of a site's own package
            registered |= _section(name, sections.get(name))
    suspect = {key for key in section if key in registered and section[key] == registered[key]}
    if not suspect:
        return section
    written = dask.config.get(f"{PEER}.{name}", None, config=dask.config.collect())
    explicit = _section(name, written)
    return {key: value for key, value in section.items() if key not in suspect - explicit.keys()}
