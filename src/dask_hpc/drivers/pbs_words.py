"""What PBS and TORQUE say, in plain words: refusals and reasons to wait.

Tables, and look-ups in them.  Sources: qsub(1B), and what the real commands printed
(tests/drivers/transcripts/openpbs, torque).
"""

from __future__ import annotations

import re

from dask_hpc.drivers.base import Why

#: Failures that pass: the server, or the way to it, is down.  "End of File" is a server that died.
TRANSIENT = re.compile(
    r"cannot connect to (?:specified )?server|Connection (?:refused|reset|timed out)|pbs_iff"
    r"|Unable to communicate with|Communication failure|End of [Ff]ile|Premature end of message"
    r"|server (?:is )?shutting down|temporarily unavailable|(?:Could not|Couldn.t) connect to",
    re.IGNORECASE,
)

#: What commands say of jobs that have ended, or that the server no longer knows.
GONE = re.compile(
    r"Unknown (?:Job|Array) ?Id|nonexistent job id|Job has finished"
    r"|Request invalid for (?:state of job|finished array subjob)",
    re.IGNORECASE,
)

HINTS = {  # of refused submissions
    r"Unknown queue": "`qstat -Q` lists the queues; name one with queue=",
    r"Queue is not enabled": "`qstat -Q` tells which queues take jobs (Ena); use queue=",
    r"resource limits|feasible nodes": "`qstat -Qf` lists the queues' limits (resources_max)",
    r"Resource_List\.walltime": "walltime= is '02:00:00', or '2 h'",
    r"Unknown resource": "the site has no such resource: see resource_spec= and job directives",
    r"cannot be used with .select.": "`-l mem=` and the like go into resource_spec=, after select",
    r"array size|Array job exceeds|Array Request": "the site allows smaller arrays: ask for fewer",
    r"illegal -N value": "this server takes short names only: give the cluster a shorter name=",
    r"Maximum number of jobs|would exceed|per-user limit": "you may have fewer jobs at once here",
    r"[Aa]ccount|[Pp]roject|Unauthorized": "name an account of yours with account=",
}

#: Why a job waits, by its state.
WAITS = {
    "H": "held, by its owner, a manager or a limit: `qrls` releases what its owner held",
    "W": "its begin time has not come",
}

# Comments of the scheduler on a job that waits.
_NOT_RUNNING = re.compile(r"(Not Running|Can Never Run)\b:?\s*(.*?)\.?")
_REASONS = {
    r"Queue not started": "the queue is stopped",
    r"limit|would exceed": "a limit of the site on how much runs at once",
    r"Insufficient amount of|Not enough|No available|nodes are? (?:un)?available": (
        "waiting for free resources"
    ),
    r"backfill|top job|[Rr]eservation|dedicated|[Pp]rime": "it would delay what comes before it",
    r"[Dd]raining": "the site drains the machine",
}


def hint(text: str) -> str:
    """What to do about a refused submission; empty where nothing is known of it."""
    return next((HINTS[seen] for seen in HINTS if re.search(seen, text)), "")


def explain(comment: str) -> Why:
    """Read the scheduler's comment on a job that waits; other comments tell nothing."""
    match = _NOT_RUNNING.fullmatch(comment.strip())
    if match is None:
        return Why()
    never, said = match[1] == "Can Never Run", match[2]
    words = "no node can hold what it asks for" if never else ""
    words = words or next((_REASONS[seen] for seen in _REASONS if re.search(seen, said)), "")
    return Why(f"{words} ({said})" if words and said else words or said, never)


def refusal(text: str) -> str:
    """What qsub said, without its name and the options it lists."""
    said = re.split(r"^usage:", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = (line.strip().removeprefix("qsub:").strip() for line in said.splitlines())
    return "; ".join(line for line in lines if line) or "(it printed nothing)"


def hours(seconds: int) -> str:
    """Write a walltime: neither knows days."""
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def shell(shebang: str) -> str:
    """Path for ``-S``, which takes no arguments: ``/bin/bash`` of ``#!/usr/bin/env bash``."""
    words = shebang.removeprefix("#!").split()
    return f"/bin/{words[-1]}" if words and words[0].endswith("/env") else "".join(words[:1])
