"""Keywords in, a pool and the head's settings out.

Pure but for the directory names it is given: nothing is created, submitted or looked up here, so
that every mistake of a user is found before anything happens.
"""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_hpc.drivers.script import WORKER_PREFIX
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobSpec
from dask_hpc.model.layout import Layout, layout_for
from dask_hpc.model.pool import Pool
from dask_hpc.units import parse_memory, parse_walltime

#: Older names of keywords, as dask-jobqueue users know them.
ALIASES = {
    "project": "account",
    "job_extra": "job_extra_directives",
    "header_skip": "job_directives_skip",
    "env_extra": "job_script_prologue",
    "extra": "worker_extra_args",
    "log_dir": "log_directory",
    "job_name": "name",
    "job_cpu": "cores",
    "job_mem": "memory",
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}(?:-[A-Za-z0-9_.]+)*")
_LONGEST_NAME = 40

#: The engine's own seed for string hashes, equal in all workers so that shuffles agree.
_HASH_SEED = "6640"
#: The node sets it by itself, once its imports are done (see `dask_hpc.node.spawn`).
_TRIM = "MALLOC_TRIM_THRESHOLD_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What a cluster was asked for, checked and with units resolved.

    Parameters
    ----------
    cores, memory, gpus, processes, nodes
        Per job; memory in bytes.
    walltime, death_timeout, close_timeout
        Seconds.
    """

    cores: int
    memory: int | None = None
    processes: int | None = None
    gpus: int = 0
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
    local_directory: str | None = None
    death_timeout: int = 120
    fork_preload: tuple[str, ...] = ()
    worker_extra_args: tuple[str, ...] = ()
    dashboard: bool = True
    dashboard_port: int = 8787
    insecure: bool = False
    close_timeout: int = 60

    @property
    def layout(self) -> Layout:
        """The workers of each job."""
        return layout_for(self.cores, workers=self.processes, memory=self.memory)


def resolve(keywords: Mapping[str, Any], settings: Mapping[str, Any]) -> ClusterOptions:
    """Check keywords and fill in what is configured.

    Parameters
    ----------
    keywords
        As given to a cluster class; None means not given.
    settings
        The configuration's values.

    Returns
    -------
    ClusterOptions
        Every value in its final unit.

    Raises
    ------
    ConfigurationError
        For an unknown keyword, a missing or a senseless value.
    """
    values = {**settings, **{k: v for k, v in _renamed(keywords).items() if v is not None}}
    known = set(ClusterOptions.__dataclass_fields__)
    for name in values:
        if name not in known and name != "batch":
            raise _unknown(name, known)
    present = {name: values[name] for name in known if values.get(name) is not None}
    if "cores" not in present:
        raise ConfigurationError(
            "how many cores should each job have?", hint='for example cores=8, memory="16 GiB"'
        )
    options = ClusterOptions(**{name: _checked(name, value) for name, value in present.items()})
    options.layout  # noqa: B018  (raises when workers do not fit)
    return options


def _renamed(keywords: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in keywords.items():
        new = ALIASES.get(name, name)
        if new in renamed or (new != name and keywords.get(new) is not None):
            raise ConfigurationError(f"{name}= and {new}= mean the same", hint=f"keep {new}=")
        renamed[new] = value
    return renamed


def _unknown(name: str, known: set[str]) -> ConfigurationError:
    close = difflib.get_close_matches(name, [*known, *ALIASES], n=1)
    hint = f"did you mean {close[0]}=?" if close else f"there are: {', '.join(sorted(known))}"
    return ConfigurationError(f"a cluster has no option {name}=", hint=hint)


def _checked(name: str, value: Any) -> Any:
    if name == "memory":
        return parse_memory(value)
    if name == "walltime":
        return parse_walltime(value)
    if name in ("death_timeout", "close_timeout"):
        return parse_walltime(_seconds(value))
    if name in ("cores", "processes", "gpus", "dashboard_port"):
        return _whole(name, value)
    if name in ("dashboard", "insecure"):
        return bool(value)
    if isinstance(ClusterOptions.__dataclass_fields__[name].default, tuple):
        return _lines(name, value)
    return str(Path(value).expanduser()) if name.endswith("_directory") else str(value)


def _seconds(value: Any) -> Any:
    # A timeout is a bare number of seconds in dask, also as text.
    return float(value) if isinstance(value, str) and value.strip().isdigit() else value


def _whole(name: str, value: Any) -> int:
    least = 0 if name in ("gpus", "dashboard_port") else 1
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
    return tuple(str(line) for line in value)


def jobs_wanted(
    layout: Layout,
    *,
    n: int | None = None,
    jobs: int | None = None,
    cores: int | None = None,
    memory: str | int | None = None,
) -> int:
    """How many jobs give what was asked for; the parameters are those of ``scale``.

    Raises
    ------
    ConfigurationError
        Unless exactly one is given, and not negative.
    """
    if sum(value is not None for value in (n, jobs, cores, memory)) != 1:
        raise ConfigurationError("scale() takes exactly one of n, jobs=, cores=, memory=")
    if memory is not None:
        return layout.jobs_for_memory(parse_memory(memory)) if memory else 0
    count = next(value for value in (n, jobs, cores) if value is not None)
    if not isinstance(count, int) or count < 0:
        raise ConfigurationError(f"cannot scale to {count!r}: take a whole number, 0 or more")
    if jobs is not None:
        return count
    return layout.jobs_for_workers(count) if cores is None else layout.jobs_for_cores(count)


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


def pool_for(
    options: ClusterOptions,
    *,
    scheduler_file: Path,
    logs: Path,
    environment: Mapping[str, str],
) -> Pool:
    """The pool of a cluster: what each job asks for and runs.

    Parameters
    ----------
    options
        Of the cluster.
    scheduler_file
        Where workers find the scheduler.
    logs
        Directory of the jobs' logs.
    environment
        Variables that must be set before Python starts (thread counts, malloc), by name.
    """
    layout = options.layout
    command = [options.python, "-m", "dask_hpc", "worker", "--scheduler-file", str(scheduler_file)]
    command += ["--name", WORKER_PREFIX]
    command += ["--nworkers", str(layout.workers), "--nthreads", str(layout.threads)]
    if layout.memory is not None:
        command += ["--memory-limit", str(layout.memory)]
    for flag, value in (
        ("--interface", options.interface),
        ("--local-directory", options.local_directory),
        ("--death-timeout", str(options.death_timeout)),
    ):
        if value:
            command += [flag, value]
    for module in options.fork_preload:
        command += ["--fork-preload", module]
    if options.insecure:
        command.append("--insecure")
    spec = JobSpec(
        command=(*command, *options.worker_extra_args),
        cores=options.cores,
        memory=options.memory,
        gpus=options.gpus,
        walltime=options.walltime,
        queue=options.queue,
        account=options.account,
        directives=options.job_extra_directives,
        directives_skip=options.job_directives_skip,
        prologue=options.job_script_prologue,
        epilogue=options.job_script_epilogue,
        environment=tuple(environment.items()),
        shebang=options.shebang,
        log_directory=logs,
    )
    return Pool("default", spec, layout)


def job_environment(configured: Mapping[str, Any], current: Mapping[str, str]) -> dict[str, str]:
    """Variables that must be set before a worker's Python starts.

    Parameters
    ----------
    configured
        The engine's ``distributed.nanny.pre-spawn-environ``.
    current
        The user's environment, which wins.

    Returns
    -------
    dict
        Values by name, a fixed hash seed among them.
    """
    variables = {
        name: current.get(name, str(value))
        for name, value in configured.items()
        if value is not None and (name != _TRIM or name in current)
    }
    seed = current.get("PYTHONHASHSEED", "")
    variables["PYTHONHASHSEED"] = seed if seed.isdigit() and seed != "0" else _HASH_SEED
    return variables


def warn_insecure() -> None:
    """Say what ``insecure=True`` means."""
    warnings.warn(
        "insecure=True: this cluster has no encryption and no authentication; anyone who reaches "
        "its ports runs code as you",
        UserWarning,
        stacklevel=4,
    )
