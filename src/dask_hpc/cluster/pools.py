"""From options to a pool: what each job asks for and runs, and what its workers are called by.

Pure but for one look whether a path exists; what the options mean is :mod:`.options`' business.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.drivers.script import NODE, WORKER_PREFIX, run_by_interpreter
from dask_hpc.launch.launchers import launch
from dask_hpc.model.job import JobSpec
from dask_hpc.model.pool import Pool
from dask_hpc.node.options import Bind, parse_resources
from dask_hpc.node.storage import AUTO

#: Name of the cluster's own pool.
POOL = "default"

#: What precedes a pool's name in the resource that all its workers have.
_LABEL = "pool-"

#: The engine's own seed for string hashes, equal in all workers so that shuffles agree.
_HASH_SEED = "6640"
#: The node sets it by itself, once its imports are done (see `dask_hpc.node.spawn`).
_TRIM = "MALLOC_TRIM_THRESHOLD_"

_RESOURCES = "--resources"

#: A variable of the job in a path; anything else a shell would do with a dollar is not meant.
_JOB_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})")


def label(pool: str) -> dict[str, float]:
    """Resources that tell the workers of a pool from others: as much as any task may ask for.

    A task says ``resources={"pool-gpu": 1}`` to run in the pool ``gpu``; how many at a time is
    bounded by the threads alone.
    """
    return {f"{_LABEL}{pool}": math.inf}


def pool_of(resources: Iterable[str]) -> str | None:
    """Name of the pool that a worker with these resources belongs to; None for a stranger."""
    names = (name.removeprefix(_LABEL) for name in resources if name.startswith(_LABEL))
    return next(names, None)


def pool_for(
    options: ClusterOptions,
    *,
    name: str = POOL,
    labels: Mapping[str, float] | None = None,
    scheduler_file: Path,
    logs: Path,
    environment: Mapping[str, str],
    directory: Path | None = None,
    batch: str = "",
    script: Path | None = None,
    await_head: float = 0.0,
) -> Pool:
    """A pool of a cluster: what each job asks for and runs.

    Parameters
    ----------
    options
        Of its jobs.
    name
        Of the pool.
    labels
        Resources of each worker beside those that the user gave.
    scheduler_file
        Where workers find the scheduler.
    logs
        Directory of the jobs' logs.
    environment
        Variables that must be set before Python starts (thread counts, malloc), by name.
    directory
        Where workers start if the node has it: the user's own modules may be there.
    batch, script
        Name of the batch system, and where the job script will be for all nodes to read: jobs of
        several nodes need both.
    await_head
        Seconds for which its jobs wait for another head, should they lose theirs.

    Raises
    ------
    ConfigurationError
        If jobs cannot have so many nodes.
    """
    scratch = _scratch_of_the_job(options.local_directory)
    arguments, more = resources_apart(options.worker_extra_args)
    resources = {**options.resources, **more, **(labels or {})}
    if resources:
        words = " ".join(f"{each}={amount:.15g}" for each, amount in resources.items())
        arguments = ("--resources", words, *arguments)
    spec = JobSpec(
        command=(*_command(options, scheduler_file, await_head), *arguments),
        cores=options.cores,
        memory=options.memory,
        nodes=options.nodes,
        gpus=options.gpus,
        walltime=options.walltime,
        queue=options.queue,
        account=options.account,
        directives=options.job_extra_directives,
        directives_skip=options.job_directives_skip,
        prologue=(*options.job_script_prologue, *scratch),
        epilogue=options.job_script_epilogue,
        environment=tuple(environment.items()),
        shebang=options.shebang,
        log_directory=logs,
        directory=directory,
        options=options.own,
    )
    if spec.nodes > 1 and script is not None:
        how = launch(
            batch,
            nodes=spec.nodes,
            cores=spec.cores,
            script=run_by_interpreter(spec, script),
            launcher=options.launcher,
        )
        spec = replace(spec, launch=how)
    if options.gpus:  # as the node deals them out
        resources = {"GPU": float(max(1, options.gpus // options.layout.workers)), **resources}
    return Pool(name, spec, options.layout, resources, options.preemptible)


def resources_apart(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, float]]:
    """Tell ``--resources`` from other arguments of workers: dask-jobqueue's way to give them.

    Returns
    -------
    tuple
        The other arguments, and the resources by name.
    """
    rest: list[str] = []
    resources: dict[str, float] = {}
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag == _RESOURCES:
            resources |= parse_resources(value if equals else next(words, ""))
        else:
            rest.append(word)
    return tuple(rest), resources


def _command(options: ClusterOptions, scheduler_file: Path, await_head: float) -> list[str]:
    """What runs on each node of a job."""
    layout = options.layout
    scratch = _scratch_of_the_job(options.local_directory)
    command = [*python_words(options.python), "-m", "dask_hpc", "worker"]
    command += ["--scheduler-file", str(scheduler_file), "--name", WORKER_PREFIX]
    command += ["--nworkers", str(layout.workers), "--nthreads", str(layout.threads)]
    for flag, value in (
        ("--job-memory", options.memory and str(options.memory)),
        ("--gpus", options.gpus and str(options.gpus)),
        ("--bind", options.bind.value if options.bind is not Bind.NONE else None),
        ("--interface", options.interface),
        ("--local-directory", None if scratch else options.local_directory),
        ("--scratch", options.scratch),
        ("--spill", None if options.spill == AUTO else options.spill),
        ("--death-timeout", str(options.death_timeout)),
        ("--await-head", f"{await_head:g}" if await_head else None),
    ):
        if value:
            command += [flag, value]
    for module in options.fork_preload:
        command += ["--fork-preload", module]
    if options.insecure:
        command.append("--insecure")
    if options.nodes > 1:
        command += ["--node", NODE]
    return command


def python_words(words: str) -> list[str]:
    """Words that start Python: one path, or a wrapper before it (a container, numactl)."""
    return [words] if Path(words).exists() else shlex.split(words)


def _scratch_of_the_job(path: str | None) -> tuple[str, ...]:
    """Shell lines for a scratch directory named by the job's own variables, as in ``$TMPDIR/x``.

    The engine reads it from the environment; the worker's command is quoted.
    """
    if not path or not _JOB_VARIABLE.search(path):
        return ()
    parts = _JOB_VARIABLE.split(path)
    variables = [f'"{each}"' for each in _JOB_VARIABLE.findall(path)] + [""]
    quoted = "".join(
        (shlex.quote(part) if part else "") + each
        for part, each in zip(parts, variables, strict=True)
    )
    return (f"export DASK_TEMPORARY_DIRECTORY={quoted}",)


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


def memory_environment(changed: Mapping[str, Any]) -> dict[str, str]:
    """Variables that carry the user's own memory settings into jobs.

    A file in the home directory is read there anyway; ``dask.config.set`` and a variable of the
    login node are not, and count as much.

    Parameters
    ----------
    changed
        What differs from the engine's defaults, by name below ``distributed.worker.memory``.
    """
    return {
        f"DASK_DISTRIBUTED__WORKER__MEMORY__{name.upper().replace('-', '_')}": str(value)
        for name, value in changed.items()
    }
