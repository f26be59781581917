"""What a machine offers: its queues and their limits, as the batch system tells them.

The edge of :mod:`dask_hpc.drivers.queues`, which reads.  Nothing is submitted here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dask_hpc.batch import runner
from dask_hpc.drivers import queues
from dask_hpc.drivers.base import Output
from dask_hpc.errors import BatchSystemError
from dask_hpc.model.queue import Queue

#: Seconds for each command.
TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Offer:
    """The queues of a machine.

    Parameters
    ----------
    queues
        Empty where the batch system has none, or did not tell.
    said
        Why there are none, in the batch system's own words; empty if it answered.
    seconds
        That all commands together took.
    """

    queues: tuple[Queue, ...] = ()
    said: str = ""
    seconds: float = 0.0

    def find(self, name: str | None) -> Queue | None:
        """The queue of a job: the named one, else the default; None if it is not listed."""
        if name:
            return next((queue for queue in self.queues if queue.name == name), None)
        if len(self.queues) == 1:
            return self.queues[0]
        return next((queue for queue in self.queues if queue.default), None)


async def discover(batch: str) -> Offer:
    """Ask a batch system for its queues.

    Parameters
    ----------
    batch
        Name of its driver.
    """
    reader = queues.reader(batch)
    if reader is None:
        return Offer()
    started = time.monotonic()
    outputs: list[Output] = []
    failures: list[str] = []
    for command in reader.COMMANDS:
        try:
            output = await runner.run(command, timeout=TIMEOUT)
        except BatchSystemError as error:
            failures.append(error.args[0])
            continue
        if output.returncode == 0:
            outputs.append(output)
        else:
            failures.append(f"`{command}` failed: {output.text or output.returncode}")
    found = tuple(reader.read(outputs))
    return Offer(found, "" if found else _first(failures), time.monotonic() - started)


def _first(failures: Sequence[str]) -> str:
    return failures[0] if failures else ""
