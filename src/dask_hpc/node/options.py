"""What a node supervisor is asked to do, and how the text of its options is read.

Values and pure functions only: no process, file or engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from dask_hpc.errors import ConfigurationError
from dask_hpc.node import fabric
from dask_hpc.node.storage import AUTO
from dask_hpc.units import parse_walltime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_hpc.model.tls import TLSFiles

#: Seconds a job waits for its head before it gives its cores back.
DEATH_TIMEOUT = 60.0


class Bind(StrEnum):
    """To what workers are bound."""

    NONE = "none"  # the kernel moves them among all CPUs of the job
    CORE = "core"  # each to cores of its own, of one NUMA domain where they fit
    NUMA = "numa"  # each to all of the job's CPUs in one NUMA domain, shared with others there


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """All that ``dask-hpc worker`` can be told; defaults are the engine's where it has one.

    Parameters
    ----------
    scheduler
        Address, for example ``"tls://10.0.0.1:8786"``; None with a scheduler file.
    scheduler_file
        Written by the head.
    nworkers
        Workers; negative counts back from the cores (-1: one per core), ``"auto"`` divides the
        cores well, None is one worker.
    nthreads
        Threads per worker; None divides the cores.
    memory_limit
        Per worker: ``"auto"``, ``"0"`` for none, a fraction of the job's memory, or an amount.
    interface, host
        Where workers listen: a network interface (a name, a pattern, ``"auto"``, or several split
        by commas), or an address.
    protocol
        Of the workers; None takes the head's.
    local_directory
        Scratch of the workers.
    scratch
        A directory that the site has for scratch, to be looked at like others.
    spill
        ``"auto"``, ``"never"`` or a directory: see :mod:`dask_hpc.node.storage`.
    name
        Of the worker; with ``nworkers`` given, workers are ``name-0``, ``name-1`` …
    node
        What tells this node of a job from its others: workers are ``name-node.0``, ``name-node.1``.
    position
        Place, from 0, among the nodes that may start in the same moment.
    death_timeout
        Seconds to wait for the head and for workers to join it.
    resources
        Of each worker, for the engine's task constraints.
    preload, preload_argv, preload_nanny
        The engine's preload modules, with the arguments of a click ``dask_setup``.
    fork_preload
        Modules imported once, before workers are forked, and shared by all.
    worker_class
        Import path of a subclass of the engine's Worker.
    worker_port, nanny_port
        A port or a range ``"first:last"``.
    lifetime, lifetime_stagger, lifetime_restart
        Seconds after which a worker retires, how far that varies, whether it starts again.
    job_cores, job_memory
        What the job has on this node (cores, bytes), where its batch system does not tell.
    gpus
        Of the job on this node, to be dealt to the workers: a number, ``"auto"`` for all that it
        has, None for none; without `nworkers`, as many workers.
    bind
        To what workers are bound.
    dask_cuda
        Whether workers have what dask-cuda adds.
    tls
        Identity to use with a plain address.
    insecure
        Whether a cluster without TLS is accepted.
    grace
        Seconds from a SIGTERM to the kill, where the batch system's usual ones do not hold.
    drains
        Whether a signal leaves the workers time to have their data moved.
    worker_options
        More keywords of the engine's nanny and worker; they win.
    await_head
        Seconds to wait for a new head, named in the scheduler file, once the head is lost; then the
        workers join it under their old names.  0: none will come.
    head_starts_with_us
        Whether the head is started at the same moment as this: then being refused is no sign of its
        end.
    quiet
        Whether nothing is said as long as all goes well.
    """

    scheduler: str | None = None
    scheduler_file: Path | None = None
    nworkers: int | Literal["auto"] | None = None
    nthreads: int | None = None
    memory_limit: str = "auto"
    interface: str | None = None
    host: str | None = None
    protocol: str | None = None
    local_directory: str | None = None
    scratch: str | None = None
    spill: str = AUTO
    name: str | None = None
    node: str | None = None
    position: int = 0
    death_timeout: float = DEATH_TIMEOUT
    resources: Mapping[str, float] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    preload_argv: tuple[str, ...] = ()
    preload_nanny: tuple[str, ...] = ()
    fork_preload: tuple[str, ...] = ()
    worker_class: str | None = None
    worker_port: str | None = None
    nanny_port: str | None = None
    lifetime: float | None = None
    lifetime_stagger: float | None = None
    lifetime_restart: bool | None = None
    job_cores: int | None = None
    job_memory: int | None = None
    gpus: int | Literal["auto"] | None = None
    bind: Bind = Bind.NONE
    dask_cuda: bool = False
    tls: TLSFiles | None = None
    insecure: bool = False
    grace: float | None = None
    drains: bool = True
    worker_options: Mapping[str, Any] = field(default_factory=dict)
    await_head: float = 0.0
    head_starts_with_us: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if (self.scheduler is None) == (self.scheduler_file is None):
            raise ConfigurationError(
                "a worker needs the scheduler's address or its --scheduler-file, one of them",
                hint="dask-hpc worker --scheduler-file FILE",
            )
        if self.await_head and self.scheduler_file is None:
            raise ConfigurationError(
                "--await-head needs the --scheduler-file in which a new head would be named",
                hint="leave it out where only the scheduler's address is known",
            )
        if self.interface and self.host:
            raise ConfigurationError(
                "--interface and --host both say where to listen", hint="give one of them"
            )
        if self.interface is not None:
            fabric.candidates(self.interface)
        if self.worker_class is not None and "." not in self.worker_class:
            raise ConfigurationError(
                f"--worker-class {self.worker_class!r} is no import path",
                hint="write module.Class, for example dask_cuda.CUDAWorker",
            )
        if self.node is not None and not self.node.replace("_", "").isalnum():
            raise ConfigurationError(
                f"--node {self.node!r} cannot be a part of a worker's name",
                hint="letters, digits and _ only: dashes separate the parts",
            )
        if self.nworkers == 0:
            raise ConfigurationError("--nworkers 0 leaves nothing to run", hint="give 1 or more")
        if self.nthreads is not None and self.nthreads < 1:
            raise ConfigurationError(
                f"a worker needs at least one thread, not {self.nthreads}",
                hint="leave --nthreads out to divide the cores",
            )


def parse_nworkers(text: str) -> int | Literal["auto"]:
    """Read ``--nworkers``.

    Raises
    ------
    ConfigurationError
        If it is neither a number nor ``"auto"``.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(
            f"--nworkers {text!r} is not a number", hint='write a number or "auto"'
        ) from None


def parse_bind(text: str) -> Bind:
    """Read ``bind=``.

    Raises
    ------
    ConfigurationError
        If it is none of the words.
    """
    try:
        return Bind(text)
    except ValueError:
        raise ConfigurationError(
            f"workers cannot be bound to {text!r}", hint=f"bind is one of {', '.join(Bind)}"
        ) from None


def parse_gpus(text: str) -> int | Literal["auto"]:
    """Read ``--gpus``.

    Raises
    ------
    ConfigurationError
        If it is neither a number nor ``"auto"``.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise ConfigurationError(f"--gpus {text!r} is not a number", hint='a number, or "auto"')
    return int(text)


def parse_seconds(text: str) -> float:
    """Read a duration as the engine does: a bare number is seconds.

    Raises
    ------
    ConfigurationError
        If the text is not a duration.
    """
    try:
        seconds = float(text)
    except ValueError:
        return float(parse_walltime(text))
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(
            f"not a duration: {text!r}", hint='write for example "60", "5 min" or "01:30:00"'
        )
    return seconds


def parse_resources(text: str) -> dict[str, float]:
    """Read ``"GPU=2 MEM=10e9"``; commas separate as well.

    Raises
    ------
    ConfigurationError
        If a part is not ``name=number``.
    """
    resources = {}
    for part in text.replace(",", " ").split():
        name, _, amount = part.partition("=")
        try:
            resources[name] = float(amount)
        except ValueError:
            raise ConfigurationError(
                f"--resources: {part!r} is not name=number",
                hint='write for example --resources "GPU=2 MEM=10e9"',
            ) from None
    return resources


def worker_names(options: WorkerOptions, count: int, *, unique: str) -> list[str | int]:
    """Names of the workers.

    Parameters
    ----------
    options
        Its ``name`` and ``nworkers`` decide.
    count
        Workers.
    unique
        Base of the names where the user gave none.

    Returns
    -------
    list of str or int
        ``NAME-k`` or ``NAME-NODE.k``, or the bare name of a worker that stands alone (a number
        stays a number: that is how the engine's own clusters know their workers).
    """
    alone = options.nworkers is None and options.node is None and count == 1
    if options.name is not None and alone:
        return [int(options.name) if options.name.isdecimal() else options.name]
    base = unique if options.name is None else options.name
    node = "" if options.node is None else f"{options.node}."
    return [f"{base}-{node}{k}" for k in range(count)]


def parse_ports(text: str | None) -> list[int]:
    """Read a port or ``"first:last"``; no text or ``"0"`` is no port: the system chooses.

    Raises
    ------
    ConfigurationError
        If the text is not a port or a range of ports.
    """
    if text is None or text == "0":
        return []
    first, _, last = text.partition(":")
    try:
        ports = list(range(int(first), int(last or first) + 1))
    except ValueError:
        ports = []
    if not ports or ports[0] < 1 or ports[-1] > 65535:  # noqa: PLR2004  (16 bits)
        raise ConfigurationError(
            f"not a port or a range of ports: {text!r}", hint='write "8788" or "3000:3026"'
        )
    return ports


def share_ports(
    worker_port: str | None, nanny_port: str | None, count: int
) -> list[tuple[list[int], list[int]]]:
    """Deal ports to workers and nannies so that no two want the same one.

    Parameters
    ----------
    worker_port, nanny_port
        As for :func:`parse_ports`; the ranges may overlap.
    count
        Workers.

    Returns
    -------
    list of (worker's ports, nanny's ports)
        One pair per worker; empty where the system chooses.

    Raises
    ------
    ConfigurationError
        If there are fewer ports than processes.
    """
    workers, nannies = parse_ports(worker_port), parse_ports(nanny_port)
    common = [port for port in workers if port in nannies]
    workers = [port for port in workers if port not in common]
    lacking = max(0, count - len(workers)) if worker_port else 0
    workers += common[:lacking]
    nannies = [port for port in nannies if port not in common[:lacking]]
    return list(
        zip(
            _deal(workers, count, worker_port, "--worker-port"),
            _deal(nannies, count, nanny_port, "--nanny-port"),
            strict=True,
        )
    )


def _deal(ports: Sequence[int], count: int, text: str | None, option: str) -> list[list[int]]:
    if not parse_ports(text):
        return [[] for _ in range(count)]
    if len(ports) < count:
        raise ConfigurationError(
            f"{option} {text} has {len(ports)} free ports for {count} workers",
            hint="give a longer range",
        )
    return [list(ports[k::count]) for k in range(count)]
