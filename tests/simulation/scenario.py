"""One script of an array, told the same way to a real Slurm and to the simulated machine.

Seven jobs on four nodes that hold one each: one ends, one fails, one runs into its walltime, two
are cancelled while they run and two while they wait.  Whoever listens through the driver must hear
the same story in both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from dask_hpc.batch.client import BatchClient
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

ENDS, FAILS, TIMES_OUT, STOPPED, NEXT, NEVER, NEITHER = range(7)
#: Seconds: of the walltime; after which the short ones end; for which the long ones would run.
WALLTIME, SHORT, LONG = 60, 5, 900
FAILURE = 3
#: Cores of a node of Slurm's test bed.
CORES = 16

COMMAND = (
    "case $SLURM_ARRAY_TASK_ID in "
    f"{ENDS}) sleep {SHORT};; {FAILS}) sleep {SHORT}; exit {FAILURE};; *) exec sleep {LONG};; esac"
)


def spec(directory: Path) -> JobSpec:
    """What each job asks for."""
    return JobSpec(
        command=("sh", "-c", COMMAND), cores=CORES, walltime=WALLTIME, log_directory=directory
    )


@dataclass
class Heard:
    """What was heard of each job, by its index.

    Parameters
    ----------
    stories
        Its states one after the other, less those that may be too short to be seen.
    granted
        Seconds from its start to the end that the batch system announced as it ran.
    ends
        Its end as the records have it; there is none of those cancelled as they waited.
    """

    stories: dict[int, list[JobState]] = field(default_factory=dict)
    granted: dict[int, set[float]] = field(default_factory=dict)
    ends: dict[int, tuple[JobState, int | None]] = field(default_factory=dict)

    def listen(self, jobs: dict[int, JobStatus]) -> None:
        for index in self.stories.keys() - jobs.keys():
            if self.stories[index][-1].live:
                self.stories[index].append(JobState.GONE)
        for index, status in sorted(jobs.items()):
            story = self.stories.setdefault(index, [JobState.PENDING])
            if status.state is JobState.ENDING or status.state is story[-1]:
                continue
            story.append(status.state)
            if status.state is JobState.RUNNING and status.start and status.end:
                self.granted.setdefault(index, set()).add(status.end - status.start)


async def tell(client: BatchClient, script: Path, name: str, *, interval: float) -> Heard:
    """Submit, cancel at the right moments, and listen until all have ended."""
    heard = Heard()
    count = NEITHER + 1
    array = await client.submit(Submission(name, count), spec(script.parent), script)

    async def until(true: Callable[[dict[int, JobState]], bool]) -> None:
        async with asyncio.timeout(200):
            while True:
                listing = await client.query({name: array})
                heard.listen({job.index: status for job, status in listing.jobs.items()})
                if true({index: story[-1] for index, story in heard.stories.items()}):
                    return
                await asyncio.sleep(interval)

    async def cancel(*indices: int) -> None:
        await client.cancel([JobId(array, index) for index in indices], {array: count})

    await until(lambda now: running(now) >= {TIMES_OUT, STOPPED})
    await cancel(NEVER, NEITHER)
    await until(lambda now: running(now) == {TIMES_OUT, STOPPED, NEXT})
    await cancel(STOPPED, NEXT)
    await until(lambda now: not any(state.live for state in now.values()))
    await asyncio.sleep(2.0)  # until it is recorded
    for job, status in (await client.history([array])).jobs.items():
        heard.ends[job.index] = (status.state, status.exit_code)
    return heard


def running(now: dict[int, JobState]) -> Collection[int]:
    """Indices of the jobs that run."""
    return {index for index, state in now.items() if state is JobState.RUNNING}
