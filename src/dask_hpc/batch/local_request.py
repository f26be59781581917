"""What is asked of the embedded batch system: one array, and the jobs and environments it makes.

Pure values and functions, shared by the command that sends a request and the server that takes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dask_hpc.batch.local_state import Job

#: Seconds a job may run when it asks for nothing: no server is to live for ever.
DEFAULT_WALLTIME = 24 * 3600
IMPOSSIBLE = "impossible"
#: What a job finds in its environment; never handed on from a job to what it submits.
JOB_VARIABLES = (
    "LOCAL_JOB_NAME",
    "LOCAL_ARRAY_TASK_ID",
    "LOCAL_ARRAY_JOB_ID",
    "LOCAL_JOB_ID",
    "LOCAL_CPUS",
    "LOCAL_MEM_BYTES",
    "LOCAL_JOB_END",
    "LOCAL_SERVER",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One array as submitted.

    Parameters
    ----------
    name, count
        Name and number of its jobs.
    log
        Path of a job's log, absolute; ``%a`` is its index and ``%A`` the array's id.
    cores, memory, walltime
        Slots; bytes (told to the job, not enforced) or None; seconds.
    script
        Text of the script, as it was at submit.
    directory, umask, environment
        Where and with what the job runs.  The environment may hold secrets: it is neither printed
        nor written to a file.
    """

    name: str
    count: int
    log: str
    cores: int
    memory: int | None
    walltime: int
    script: str = field(repr=False)
    directory: str
    umask: int
    environment: dict[str, str] = field(repr=False)


def jobs_of(request: Request, array: int, *, now: float, slots: int) -> list[Job]:
    """Make the jobs of a new array."""
    reason = (
        f"{IMPOSSIBLE}: it asks for {request.cores} cores, the local batch system has {slots}"
        if request.cores > slots
        else "waiting for free cores"
    )
    return [
        Job(
            array=array,
            index=index,
            name=request.name,
            cores=request.cores,
            walltime=request.walltime,
            submitted=now,
            reason=reason,
        )
        for index in range(request.count)
    ]


def environment(request: Request, job: Job, *, now: float, server: str) -> dict[str, str]:
    """Environment of a job that starts now.

    ``server`` marks every process of this server's jobs, so that those which leave their session
    are found as well.
    """
    inherited = {k: v for k, v in request.environment.items() if k not in JOB_VARIABLES}
    memory = {} if request.memory is None else {"LOCAL_MEM_BYTES": str(request.memory)}
    return {
        **inherited,
        **memory,
        "LOCAL_JOB_NAME": request.name,
        "LOCAL_ARRAY_TASK_ID": str(job.index),
        "LOCAL_ARRAY_JOB_ID": str(job.array),
        "LOCAL_JOB_ID": f"{job.array}_{job.index}",
        "LOCAL_CPUS": str(request.cores),
        "LOCAL_JOB_END": str(int(now + request.walltime)),
        "LOCAL_SERVER": server,
    }


def log_of(request: Request, job: Job) -> str:
    """Path of a job's log."""
    return request.log.replace("%a", str(job.index)).replace("%A", str(job.array))
