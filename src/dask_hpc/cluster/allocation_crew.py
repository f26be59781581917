"""The supervisors of an allocation's nodes: the script that runs on each, and the process here.

What the workers are for, and what their end means, is the cluster's business.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dask_hpc.cluster.directory import ClusterDirectory
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.place import Allocation
from dask_hpc.cluster.pools import POOL, pool_for
from dask_hpc.drivers.script import NODE, WORKER_PREFIX, split
from dask_hpc.launch.launchers import launch
from dask_hpc.launch.rendezvous import write_atomically
from dask_hpc.model.job import ON_NODE, JobSpec, Launch

#: Flux starts the scripts of its jobs on each node; in an allocation one asks for it, flux-run(1).
_FLUX = "flux run --nodes={nodes} --tasks-per-node=1 --exclusive"
#: Some launchers pass no environment; Python and dask must be the same on all nodes.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "DASK_CONFIG", "DASK_HPC_HOME")
#: Of one task, while all the cores of the node are ours; and what would hide the job from a step.
_NOT_FOR_STEPS = ("SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE")
#: Lines of each log that an error shows, and bytes that are looked at.
_LINES = 5

_SCRIPT = """\
{shebang}
if [ "${{1-}}" != {on_node} ]; then
    trap : TERM
    dask_hpc_job={name}
{launch}
fi
dask_hpc_job=$2
dask_hpc_node={node}
exec >>{logs}"$dask_hpc_job-$dask_hpc_node".log 2>&1
{setup}
exec {command}
"""


def script_text(
    allocation: Allocation,
    options: ClusterOptions,
    *,
    name: str,
    directory: ClusterDirectory,
    cores: int,
    workers: int,
    environment: Mapping[str, str],
) -> str:
    """Write the script that starts itself on each node, and there the workers.

    Parameters
    ----------
    allocation
        The job.
    options
        Of the cluster.
    name
        Of the cluster, and what workers' names begin with.
    directory
        Of the cluster.
    cores, workers
        Of each node.
    environment
        Variables that must be set before Python starts, by name.

    Raises
    ------
    ConfigurationError
        If nothing says how the nodes are reached.
    """
    here = replace(options, cores=cores, processes=workers, memory=None, nodes=allocation.nodes)
    spec = pool_for(
        here,
        scheduler_file=directory.scheduler_file,
        logs=directory.logs,
        environment=environment,
        directory=_working_directory(),
    ).spec
    how = _launch(allocation, options, cores, directory.script(POOL))
    known = {WORKER_PREFIX: '"$dask_hpc_job"', NODE: '"$dask_hpc_node"'}
    words = [*spec.command, "--job-cores", str(cores)]
    return _SCRIPT.format(
        shebang=options.shebang,
        on_node=ON_NODE,
        name=shlex.quote(name),
        launch="\n".join(how.lines) or "    exit 78",
        node=how.node,
        logs=shlex.quote(f"{directory.logs}/"),
        setup="\n".join(_setup(spec)),
        command=" ".join(known.get(word) or shlex.quote(word) for word in words),
    )


def _launch(allocation: Allocation, options: ClusterOptions, cores: int, script: Path) -> Launch:
    if allocation.nodes == 1 and allocation.inside:
        return Launch((), "0")
    batch, launcher = allocation.batch, options.launcher
    if batch == "flux":
        batch, launcher = "", launcher or _FLUX
    if batch == "pbs" and launcher is None and allocation.listed > allocation.nodes:
        launcher = "ssh"  # pbsdsh starts one process for each line, not for each node
    return launch(
        batch,
        nodes=allocation.nodes,
        cores=cores,
        script=interpreted(options, script),
        launcher=launcher,
    )


def interpreted(options: ClusterOptions, script: Path) -> tuple[str, ...]:
    """Words that run the script: prologues are written for the shell that jobs have."""
    return (*split(options.shebang.removeprefix("#!")), str(script))


def _setup(spec: JobSpec) -> Iterator[str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    for name, value in {**passed, **dict(spec.environment)}.items():
        yield f"export {name}={shlex.quote(value)}"
    if spec.directory:
        yield f"cd {shlex.quote(str(spec.directory))} 2>/dev/null || :"
    yield from spec.prologue


def _working_directory() -> Path | None:
    with suppress(FileNotFoundError):
        return Path.cwd()
    return None


class Crew:
    """The process that starts, or is, the supervisors.

    Parameters
    ----------
    name
        Of the cluster.
    options, directory
        Of the cluster.
    """

    def __init__(self, name: str, options: ClusterOptions, directory: ClusterDirectory) -> None:
        self._name = name
        self._options = options
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, text: str, *, here: bool) -> None:
        """Start the script.

        Parameters
        ----------
        text
            Of the script.
        here
            Whether this node is the only one.
        """
        script = self._directory.script(POOL)
        await asyncio.to_thread(write_atomically, script, text)
        arguments = [ON_NODE, self._name] if here else []
        environ = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_STEPS}
        if "SLURM_STEP_ID" in environ:  # srun --pty: this step holds the cores that ours needs
            environ["SLURM_OVERLAP"] = "1"
        log = self._directory.logs / f"{self._name}-launcher.log"
        with log.open("ab") as stream:
            self._process = await asyncio.create_subprocess_exec(
                *interpreted(self._options, script),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environ,
                start_new_session=True,  # Ctrl-C is for the script: its end closes the workers
            )

    async def ended(self) -> int:
        """Wait for the end of all nodes' supervisors; the exit code."""
        assert self._process is not None  # noqa: S101  (by start)
        return await self._process.wait()

    async def end(self, timeout: float) -> None:
        """Wait for the supervisors, whose scheduler is closed; end those that stay.

        Parameters
        ----------
        timeout
            Seconds they may take.
        """
        if self._process is None:
            return
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._process.wait()
                    return

    def last_words(self) -> str:
        """The last lines of each log."""
        texts = self._directory.read_logs(self._name)
        tails = {path: text.splitlines()[-_LINES:] for path, text in texts.items()}
        return "".join(
            "\n" + "\n".join(f"  {Path(path).name}: {line}" for line in lines)
            for path, lines in tails.items()
            if lines
        )
