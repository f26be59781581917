"""Keywords in, what a job asks for and the head's settings out.

Pure but for the directory names it is given: nothing is created, submitted or looked up here, so
that every mistake of a user is found before anything happens.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dask_hpc.cluster.peer import ALIASES, Translated, translate, warn_ignored
from dask_hpc.config.reader import Layer
from dask_hpc.drivers.base import Driver
from dask_hpc.drivers.registry import DRIVERS
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.layout import Layout, layout_for
from dask_hpc.node import fabric, protocol
from dask_hpc.node.options import Bind, parse_bind
from dask_hpc.node.storage import AUTO, NEVER
from dask_hpc.units import parse_memory, parse_walltime

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}(?:-[A-Za-z0-9_.]+)*")
_LONGEST_NAME = 40

#: Batch systems in whose own words ``1:30`` is an hour and a half; elsewhere it is MM:SS.
_HOURS_AND_MINUTES = ("lsf", "openlava", "oar")
_TWO_PARTS = re.compile(r"\s*\d+:\d\d\s*")
#: ``--resources GPU=1`` as one item of a list: a shell would have split it.
_OPTION_AND_VALUE = re.compile(r"--?[\w-]+\s")


#: What ``--resources`` of a worker can carry, but for the names that tell the pool (`pools.label`).
_RESOURCE = re.compile(r"(?!pool-)[^\s,=]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What a cluster was asked for, checked and with units resolved.

    Parameters
    ----------
    cores, memory, gpus, processes
        Of each node of a job; memory in bytes.
    nodes
        Of each job.
    launcher
        What starts the workers on each node, where a job has several; None is the batch system's.
    walltime, death_timeout, close_timeout
        Seconds.
    bind
        To what workers are bound.
    scratch
        A directory that the site has, to be looked at on each node.
    spill
        ``"auto"``, ``"never"`` or a directory.
    resources
        Of each worker, for the engine's task constraints.
    preemptible
        Whether the batch system may take the jobs away at any moment.
    own
        What the batch system alone knows, as text, by keyword.
    """

    cores: int
    memory: int | None = None
    processes: int | None = None
    gpus: int = 0
    nodes: int = 1
    launcher: str | None = None
    walltime: int | None = None
    queue: str | None = None
    account: str | None = None
    job_extra_directives: tuple[str, ...] = ()
    job_directives_skip: tuple[str, ...] = ()
    job_script_prologue: tuple[str, ...] = ()
    job_script_epilogue: tuple[str, ...] = ()
    shebang: str = "#!/usr/bin/env bash"
    python: str = sys.executable
    log_directory: str | None = None
    interface: str | None = None
    scheduler_interface: str | None = None
    host: str | None = None
    scheduler_port: int = 0
    protocol: str | None = None
    local_directory: str | None = None
    scratch: str | None = None
    spill: str = AUTO
    death_timeout: int = 120
    fork_preload: tuple[str, ...] = ()
    bind: Bind = Bind.NONE
    worker_extra_args: tuple[str, ...] = ()
    dashboard: bool = True
    dashboard_port: int = 8787
    insecure: bool = False
    close_timeout: int = 60
    resources: Mapping[str, float] = field(default_factory=dict)
    preemptible: bool = False
    own: Mapping[str, str] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """The workers of each node of a job: one for each GPU unless `processes` says else."""
        workers = self.processes or min(self.gpus, self.cores) or None
        return layout_for(self.cores, workers=workers, memory=self.memory)

    @property
    def scheme(self) -> str:
        """Protocol of the scheduler and the workers."""
        return protocol.scheme(self.protocol, insecure=self.insecure)

    @property
    def job_layout(self) -> Layout:
        """The workers of a whole job."""
        node = self.layout
        return replace(node, workers=self.nodes * node.workers, rest=self.nodes * node.rest)


_KNOWN = frozenset(ClusterOptions.__dataclass_fields__) - {"own"}


def resolve(
    keywords: Mapping[str, Any], layers: Sequence[Layer], driver: Driver | type[Driver]
) -> ClusterOptions:
    """Check keywords and fill in what is configured.

    Parameters
    ----------
    keywords
        As given to a cluster class; None means not given.
    layers
        What is configured, from the weakest place to the strongest.
    driver
        Of the batch system: it says which keywords are its own.

    Returns
    -------
    ClusterOptions
        Every value in its final unit.

    Raises
    ------
    ConfigurationError
        For an unknown keyword, one of another batch system, a missing or a senseless value.

    Warns
    -----
    UserWarning
        For a keyword that has no effect here.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        found = _understood(layer, driver)
        values |= {name: value for name, value in found.values.items() if value is not None}
    given = _understood(Layer("", keywords), driver)
    warn_ignored(given.ignored)
    values |= given.values
    if "cores" not in values:
        raise ConfigurationError(
            "how many cores should each job have?", hint='for example cores=8, memory="16 GiB"'
        )
    own, checked = _read(values, driver)
    return _possible(ClusterOptions(**checked, own=own))


def changed(
    options: ClusterOptions, keywords: Mapping[str, Any], driver: Driver | type[Driver]
) -> ClusterOptions:
    """Options of which some are given anew, checked in the same way.

    Raises
    ------
    ConfigurationError
        For an unknown keyword, one of another batch system, a senseless value.

    Warns
    -----
    UserWarning
        For a keyword that has no effect here.
    """
    given = _understood(Layer("", keywords), driver)
    warn_ignored(given.ignored)
    own, checked = _read(given.values, driver)
    return _possible(replace(options, **checked, own={**options.own, **own}))


def _read(
    values: Mapping[str, Any], driver: Driver | type[Driver]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Give each value its final unit: the batch system's own keywords, and the others."""
    values = dict(values)
    if driver.name in _HOURS_AND_MINUTES and _TWO_PARTS.fullmatch(str(values.get("walltime"))):
        values["walltime"] = f"{values['walltime'].strip()}:00"
    own = {name: _own_text(name, values.pop(name)) for name in driver.OPTIONS if name in values}
    return own, {name: _checked(name, value) for name, value in values.items()}


def _possible(options: ClusterOptions) -> ClusterOptions:
    options.layout  # noqa: B018  (raises when workers do not fit)
    options.scheme  # noqa: B018  (raises when it is not installed, or not encrypted)
    return options


def _understood(layer: Layer, driver: Driver | type[Driver]) -> Translated:
    """Put one layer in our words, and refuse what nobody knows."""
    try:
        found = translate(
            layer.values, batch=driver.name, own=driver.OPTIONS, newer_wins=layer.foreign
        )
    except ConfigurationError as error:
        if layer.where:  # the user typed it elsewhere, maybe years ago
            raise ConfigurationError(f"{layer.where}: {error.args[0]}", hint=error.hint) from None
        raise
    for name in set(found.values) - _KNOWN - driver.OPTIONS.keys():
        if not layer.foreign:
            raise _unknown(name, layer.where, driver)
        del found.values[name]
    return found


def _unknown(name: str, where: str, driver: Driver | type[Driver]) -> ConfigurationError:
    prefix = f"{where}: " if where else ""
    owners = [batch for batch in DRIVERS if name in _own_options(batch)]
    if owners:
        return ConfigurationError(
            f"{prefix}{name}= is an option of {' and '.join(owners)}, not of {driver.name}",
            hint=f"options of {driver.name} alone: {', '.join(driver.OPTIONS) or 'none'}",
        )
    known = sorted(_KNOWN | driver.OPTIONS.keys())
    close = difflib.get_close_matches(name, [*known, *ALIASES], n=1)
    hint = f"did you mean {close[0]}=?" if close else f"there are: {', '.join(known)}"
    return ConfigurationError(f"{prefix}a cluster has no option {name}=", hint=hint)


def _own_options(batch: str) -> Collection[str]:
    try:
        return DRIVERS[batch].OPTIONS
    except ImportError:  # of another package, which does not load here
        return ()


def _own_text(name: str, value: Any) -> str:
    """Write a batch system's own option as text: a list as a shell would, a flag as true, false."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return shlex.join(_lines(name, value))


def _checked(name: str, value: Any) -> Any:
    if name in _READERS:
        return _READERS[name](value)
    if name in ("death_timeout", "close_timeout"):
        return parse_walltime(_seconds(value))
    if name in ("cores", "processes", "gpus", "nodes", "dashboard_port", "scheduler_port"):
        return _whole(name, value)
    if name == "worker_extra_args":
        return tuple(word for line in _lines(name, value) for word in _shell_words(line))
    if name == "job_extra_directives" and isinstance(value, Mapping):
        return tuple(f"{key} = {each}" for key, each in value.items())  # HTCondor's
    if isinstance(ClusterOptions.__dataclass_fields__[name].default, tuple):
        return _lines(name, value)
    if name == "spill":
        return _spill(value)
    return _path(name, value) if name.endswith("_directory") else str(value)


def _path(name: str, value: Any) -> str:
    if name == "log_directory":  # the head makes it: its variables are those of this process
        value = os.path.expandvars(value)
    return str(Path(value).expanduser())


def _spill(value: Any) -> str:
    """Check where to spill; variables in a directory are the job's, so the job resolves them."""
    if isinstance(value, bool):  # YAML's words for it
        return AUTO if value else NEVER
    text = str(Path(str(value)).expanduser())
    if text in (AUTO, NEVER) or text.startswith(("/", "$")):
        return text
    raise ConfigurationError(
        f"spill={value!r} is neither 'auto' nor 'never' nor the absolute path of a directory",
        hint="'auto' spills to a disk of the node where it has one; '/scratch' or '$TMPDIR' always",
    )


def _interface(value: Any) -> str:
    words = value if isinstance(value, str) else ",".join(_lines("interface", value))
    return ",".join(fabric.candidates(words))


def _resources(value: Any) -> dict[str, float]:
    """Check resources of a worker: what a task takes of them is the engine's business."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"resources= must be a dict of numbers, not {value!r}",
            hint='what each worker has, for example {"GPU": 1}',
        )
    for name, amount in value.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool) and amount > 0
        if not _RESOURCE.fullmatch(str(name)) or not number:
            raise ConfigurationError(
                f"resources= of a worker cannot be {{{name!r}: {amount!r}}}",
                hint='a word and a number above 0, for example {"GPU": 1}',
            )
    return {str(name): float(amount) for name, amount in value.items()}


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "memory": parse_memory,
    "walltime": parse_walltime,
    "dashboard": bool,
    "insecure": bool,
    "preemptible": bool,
    "resources": _resources,
    "interface": _interface,
    "scheduler_interface": _interface,
    "bind": lambda value: parse_bind(str(value)),
}


def _shell_words(line: str) -> list[str]:
    return shlex.split(line) if _OPTION_AND_VALUE.match(line) else [line]


def _seconds(value: Any) -> Any:
    # A timeout is a bare number of seconds in dask, also as text.
    return float(value) if isinstance(value, str) and value.strip().isdigit() else value


def _whole(name: str, value: Any) -> int:
    least = 0 if name == "gpus" or name.endswith("_port") else 1
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < least or (number != value and not isinstance(value, str)):
        raise ConfigurationError(
            f"{name}= must be a whole number of at least {least}, not {value!r}"
        )
    return number


def _lines(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{name}= must be a list of strings, not {value!r}")
    return tuple(str(line) for line in value if line is not None)


def check_name(name: str) -> str:
    """Refuse a cluster name that a batch system or a file system could not take.

    Raises
    ------
    ConfigurationError
        If it is not a short word of letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"a cluster cannot be called {name!r}",
            hint=f"a letter first, then letters, digits, '_', '.' and '-', {_LONGEST_NAME} at most",
        )
    return name


def warn_insecure() -> None:
    """Say what ``insecure=True`` means."""
    warnings.warn(
        "insecure=True: this cluster has no encryption and no authentication; anyone who reaches "
        "its ports runs code as you",
        UserWarning,
        stacklevel=4,
    )
