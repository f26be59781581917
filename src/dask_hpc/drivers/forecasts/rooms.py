"""How many jobs fit into what nodes have free now: for batch systems that tell no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Question
from dask_hpc.model.forecast import Forecast, starts
from dask_hpc.model.job import JobSpec


@dataclass(frozen=True, slots=True)
class Room:
    """What one node has free; None where the batch system does not tell.

    Parameters
    ----------
    cores
        Or slots.
    memory
        Bytes.
    gpus
        Of any kind.
    """

    cores: int
    memory: int | None = None
    gpus: int | None = None

    def holds(self, spec: JobSpec) -> int:
        """Jobs, or of jobs of several nodes the shares of one node, that fit in."""
        shares = [self.cores // spec.cores]
        if self.memory is not None and spec.memory is not None:
            shares.append(self.memory // spec.memory)
        if self.gpus is not None and spec.gpus:
            shares.append(self.gpus // spec.gpus)
        return max(0, min(shares))


def fitting(rooms: Iterable[Room], spec: JobSpec) -> int:
    """Jobs that fit in: those of several nodes take a node each for their shares."""
    shares = [room.holds(spec) for room in rooms]
    if spec.nodes == 1:
        return sum(shares)
    return sum(share > 0 for share in shares) // spec.nodes


def forecast(question: Question, rooms: Sequence[Room], said: str) -> Forecast:
    """What free room tells: so many jobs could start at once, of the others nothing is known."""
    free = min(question.jobs, fitting(rooms, question.spec))
    return Forecast(starts=starts((free, 0.0)), said=said)


def once(command: Command, heard: Sequence[Output]) -> Command | None:
    """Ask one command, once."""
    return None if heard else command


def failed(heard: Sequence[Output]) -> Forecast | None:
    """Nothing known, in its words, where the last command failed; None where it did not."""
    if heard and heard[-1].returncode == 0:
        return None
    if not heard:
        return Forecast(said="it did not answer")
    last = heard[-1]
    lines = last.text.splitlines() or [f"exit code {last.returncode}"]
    return Forecast(said=f"{last.command.argv[0]} failed: {lines[0]}")
