"""Judge what the batch system told: does it answer, and does a job as configured fit its queue.

Pure: values in, findings out.
"""

from __future__ import annotations

from collections.abc import Sequence

from dask_hpc.model.queue import Queue
from dask_hpc.site.doctor.asked import Asked
from dask_hpc.site.doctor.finding import Finding, ok, problem, rough, warning
from dask_hpc.units import format_walltime

#: Seconds; a controller asks every few seconds, and so do other users.
SLOW_QUERY = 5.0


def batch(name: str, why: str, *, server: str, seconds: float) -> Finding:
    """Judge whether the batch system answers.

    Parameters
    ----------
    name, why
        Of the batch system; how we know.
    server
        ``"answers"``, or what it said instead.
    seconds
        That one query took.
    """
    if name == "local":
        return warning(
            "batch system",
            f"none: {why}",
            "on a login node load its module; here jobs are processes of this machine",
        )
    if server != "answers":
        return problem(
            "batch system",
            f"{name}: {server}",
            "nothing can be submitted until it answers: ask the site",
        )
    seen = f"{name} answers in {seconds:.2f} s ({why})"
    if seconds > SLOW_QUERY:
        return warning("batch system", seen, "it is busy: jobs start and end late in our eyes")
    return ok("batch system", seen)


def queue(asked: Asked, queues: Sequence[Queue], found: Queue | None, said: str) -> list[Finding]:
    """Judge the queue that jobs would wait in, and what they ask of it.

    Parameters
    ----------
    asked
        Of a job.
    queues
        All that there are.
    found
        The one in question, None if it is not listed.
    said
        Why there are none.
    """
    if not queues:
        return (
            [warning("queue", f"not known: {said}", "look at its limits yourself")] if said else []
        )
    names = ", ".join(each.name for each in queues)
    if found is None and asked.queue:
        return [
            problem("queue", f"there is no queue {asked.queue!r}; there are: {names}", "choose one")
        ]
    if found is None:
        return [ok("queue", f"none named, the batch system chooses; there are: {names}")]
    label = f"queue {found.name}" if found.name else "queue"
    refusal = _refusal(found)
    if refusal is not None:
        return [refusal]
    excess = list(_excess(asked, found))
    if excess:
        advice = "ask for less, or name another queue=; `dask-hpc doctor --json` has them all"
        return [problem("queue", f"{label}: {'; '.join(excess)}", advice)]
    return [ok("queue", f"{label}: {describe(found)}"), *_default(asked, found)]


def usable(asked: Asked, queues: Sequence[Queue], found: Queue | None) -> bool:
    """Whether a job would ever start in the queue, whatever it asks for."""
    if found is None:
        return not (queues and asked.queue)
    return found.takes_jobs and found.starts_jobs and found.yours


def _refusal(found: Queue) -> Finding | None:
    name = found.name
    if not found.takes_jobs:
        return problem("queue", f"queue {name} takes no jobs now", "name another queue=")
    if not found.starts_jobs:
        return problem(
            "queue",
            f"queue {name} takes jobs and starts none: it is stopped, drained or disabled",
            "name another queue=, or ask the site when it opens",
        )
    if not found.yours:
        return problem(
            "queue", f"queue {name} is not for you", "name another queue=, or ask the site"
        )
    if found.routes:
        return warning(
            "queue",
            f"queue {name} only hands jobs on to others, whose limits count",
            "name the queue that runs them, if the site allows it",
        )
    return None


def _excess(asked: Asked, found: Queue) -> list[str]:
    """What is asked beyond what the queue has."""
    excess = []
    if asked.walltime and found.max_walltime and asked.walltime > found.max_walltime:
        most = format_walltime(found.max_walltime)
        excess.append(f"a walltime of {format_walltime(asked.walltime)}, and {most} is the most")
    if found.cores and asked.cores > found.cores:
        excess.append(f"{asked.cores} cores, and its nodes have {found.cores}")
    if asked.memory and found.memory and asked.memory > found.memory:
        has = rough(found.memory)
        excess.append(f"{rough(asked.memory)} of memory, and its nodes have {has}")
    nodes = min((n for n in (found.nodes, found.max_nodes) if n), default=None)
    if nodes and asked.nodes > nodes:
        excess.append(f"{asked.nodes} nodes, and {nodes} is the most")
    return excess


def _default(asked: Asked, found: Queue) -> list[Finding]:
    if asked.walltime or not found.default_walltime or found.default_walltime > 3600:  # noqa: PLR2004
        return []
    default = format_walltime(found.default_walltime)
    return [
        warning(
            "walltime",
            f"none is configured, and queue {found.name} ends such jobs after {default}",
            "set walltime=",
        )
    ]


def describe(found: Queue) -> str:
    """Write what a queue offers, in a line."""
    parts = [f"{found.nodes} nodes" if found.nodes else ""]
    parts.append(f"{found.cores} cores" if found.cores else "")
    parts.append(f"{rough(found.memory)}" if found.memory else "")
    parts.append(f"{found.gpus} GPUs" if found.gpus else "")
    limit = format_walltime(found.max_walltime) if found.max_walltime else "no limit"
    return ", ".join([*filter(None, parts), f"walltime: {limit}"])
