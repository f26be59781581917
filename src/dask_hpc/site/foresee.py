"""When jobs of some shapes would start: asks the batch system, submits nothing.

The edge of :mod:`dask_hpc.drivers.forecasts`, which knows what to ask.  A batch system that does
not answer is asked no further: a cluster must not wait for forecasts that do not come.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dask_hpc.batch import runner
from dask_hpc.drivers import forecasts
from dask_hpc.drivers.base import Command, Output
from dask_hpc.drivers.forecasts import Forecaster, Question
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable
from dask_hpc.model.forecast import Forecast
from dask_hpc.model.job import JobSpec
from dask_hpc.model.queue import Queue
from dask_hpc.site.discover import Offer, discover
from dask_hpc.units import format_walltime

#: Seconds for each command.
TIMEOUT = 20.0


async def foresee(questions: Sequence[Question]) -> list[Forecast]:
    """Ask the batch system when jobs would start.

    Parameters
    ----------
    questions
        At least one, all of the same batch system.

    Returns
    -------
    list of Forecast
        One for each; what the batch system cannot say, or does not, is not known, and says so.
    """
    name = questions[0].driver.name
    found = forecasts.forecaster(name)
    if found is None:
        return [Forecast(said=f"{name} cannot be asked")] * len(questions)
    offer = await discover(name)
    conversation = _Conversation(found)
    return [
        limits(offer, question.spec) or await conversation.forecast(question)
        for question in questions
    ]


class _Conversation:
    """What a batch system was asked, and what it answered: nothing is asked twice."""

    def __init__(self, found: Forecaster) -> None:
        self._forecaster = found
        self._heard: dict[Command, Output] = {}
        self._silent = ""

    async def forecast(self, question: Question) -> Forecast:
        heard: list[Output] = []
        while (command := self._forecaster.ask(question, heard, time.time())) is not None:
            try:
                heard.append(await self._run(command))
            except BatchSystemError as error:
                return Forecast(said=error.args[0])
            if heard[-1].returncode and question.driver.is_transient(heard[-1]):
                self._silent = f"{command.argv[0]} got no answer: {heard[-1].text}"
                return Forecast(said=self._silent)
        return self._forecaster.read(question, heard, time.time())

    async def _run(self, command: Command) -> Output:
        if self._silent:
            raise BatchSystemUnavailable(self._silent)
        if command not in self._heard:
            try:
                self._heard[command] = await runner.run(command, timeout=TIMEOUT)
            except BatchSystemUnavailable as error:
                self._silent = error.args[0]
                raise
        return self._heard[command]


def limits(offer: Offer, spec: JobSpec) -> Forecast | None:
    """What a queue's limits say of a job before anything is asked; None where it may start.

    Forecasts of some batch systems do not look at them (seen: Slurm's).

    Parameters
    ----------
    offer
        Queues of the machine.
    spec
        Of a job.
    """
    queue = offer.find(spec.queue)
    if queue is None or queue.routes:
        return None
    refused = _over(queue, spec)
    if refused:
        return Forecast(refused=refused)
    if not queue.starts_jobs:
        return Forecast(said=f"{_named(queue)} starts no jobs now")
    return None


def _over(queue: Queue, spec: JobSpec) -> str:
    if not queue.takes_jobs:
        return f"{_named(queue)} takes no jobs"
    if queue.max_walltime is not None and (spec.walltime or 0) > queue.max_walltime:
        return f"{_named(queue)} allows {format_walltime(queue.max_walltime)}"
    if queue.cores is not None and spec.cores > queue.cores:
        return f"{_named(queue)} has no node of {spec.cores} cores"
    if queue.max_nodes is not None and spec.nodes > queue.max_nodes:
        return f"{_named(queue)} allows {queue.max_nodes} nodes"
    return ""


def _named(queue: Queue) -> str:
    return f"queue {queue.name}" if queue.name else "the machine"
