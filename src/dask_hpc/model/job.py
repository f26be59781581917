"""What a job is: its specification, its identifier, its state.

Values only.  How one batch system spells them is its driver's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class JobId(NamedTuple):
    """One job: the batch system's id of its array, and its index there."""

    array: str
    index: int  # type: ignore[assignment]  # nobody misses tuple.index

    def __str__(self) -> str:
        return f"{self.array}_{self.index}"


class JobState(StrEnum):
    """Where a job is in its life, whatever the batch system calls it."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    ENDING = "ending"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    NODE_FAIL = "node failed"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    GONE = "gone"  # ended, and the batch system no longer says how

    #: Whether the job may still run or is running; whether it has not started.  Attributes and no
    #: properties: they are asked for each of ten thousand jobs, several times a round.
    live: bool
    waiting: bool


for _state in JobState:
    _state.waiting = _state.value in ("pending", "held")
    _state.live = _state.waiting or _state.value in ("running", "ending")


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the batch system says about one job.

    Parameters
    ----------
    state
        Where the job is in its life.
    reason
        Why it waits or how it ended, in plain words.
    node
        Name of the (first) node it runs or ran on.
    exit_code, signal
        How its script ended, where that is known.
    start, end
        Seconds since the epoch; for a job that waits, ``start`` is an estimate; for one that runs,
        ``end`` is when the batch system will end it.
    impossible
        Whether the job can never start as requested.
    """

    state: JobState
    reason: str = ""
    node: str = ""
    exit_code: int | None = None
    signal: int | None = None
    start: float | None = None
    end: float | None = None
    impossible: bool = False


#: First argument of a job script that runs for one node of several.
ON_NODE = "--on-node"


@dataclass(frozen=True, slots=True)
class Launch:
    """How the script of a job runs on each of its nodes.

    Parameters
    ----------
    lines
        Shell lines that start it there, with `ON_NODE` and ``$dask_hpc_job`` as arguments, and
        end when all have ended; none where the batch system starts it on every node.
    node
        Shell expression, on a node, that tells the nodes of a job apart.
    """

    lines: tuple[str, ...]
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What one job asks of the batch system and what it runs.

    Parameters
    ----------
    command
        Argument list that the job runs, each word as it is; placeholders stand for the name that
        the job gives its workers and for the node's (:mod:`dask_hpc.drivers.script`).
    cores
        Cores per node.
    memory
        Bytes per node, or None for the site's default.
    nodes, gpus
        Nodes per job; GPUs per node.
    walltime
        Seconds, or None for the queue's default.
    queue, account
        Where to wait; who is charged.
    directives
        Extra directives, without the batch system's prefix.
    directives_skip
        Option names (for example ``"--mem"``) whose generated directive is left out.
    prologue, epilogue
        Shell lines before and after the command.
    environment
        Variables to export, in order.
    shebang
        The interpreter of the script.
    log_directory
        Where each job writes its log.
    directory
        Where its command starts, if the node has it; None leaves it to the batch system.
    launch
        How a job of several nodes starts its command on each; without it the first node runs it.
    exclude
        Names of nodes that it must not run on, where the batch system can be told.
    options
        What one batch system alone knows, by keyword; its driver says which there are.
    """

    command: tuple[str, ...]
    cores: int
    log_directory: Path
    memory: int | None = None
    nodes: int = 1
    gpus: int = 0
    walltime: int | None = None
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    directives_skip: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    epilogue: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    shebang: str = "#!/usr/bin/env bash"
    directory: Path | None = None
    launch: Launch | None = None
    exclude: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submission:
    """One array as submitted.

    Parameters
    ----------
    name
        Unique job name: cluster name, dash, random token.  It is in the journal before the submit,
        so that a submission is found again after a crash.
    count
        Jobs in the array.
    first
        Index of the first one; the others follow.
    """

    name: str
    count: int
    first: int = 0

    @property
    def indices(self) -> range:
        """Indices of its jobs, as the batch system counts them."""
        return range(self.first, self.first + self.count)
