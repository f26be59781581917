"""Asking a batch system to warn a job before its walltime ends, where it can.

Pure: directives and shell text come out.  What happens at a warning is the supervisor's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_hpc.model.grace import WARNING, asked_for

if TYPE_CHECKING:
    from dask_hpc.drivers.base import Driver
    from dask_hpc.model.job import JobSpec

#: Seconds before the end at which a job is warned: what a task is likely to need.
BEFORE = 60
#: Jobs shorter than this are not warned: Slurm may do it up to a minute early (sbatch(1)), and a
#: job that is warned takes no more tasks.
SHORTEST = 10 * 60


@dataclass(frozen=True, slots=True)
class Asked:
    """How one batch system is asked.

    Parameters
    ----------
    option
        That a user may have written too, which then is the one that counts.
    directive
        Ours, for a job of this spec; None where it cannot be asked for.
    told
        What of a directive with this option the job is to know, as in ``USR1@60``; empty for
        nothing.
    timed
        Whether the warning comes before the walltime's end, so that it needs one.
    """

    option: str
    directive: Callable[[JobSpec], str | None]
    told: Callable[[str], str] = lambda _: ""
    timed: bool = True


def _slurm(spec: JobSpec) -> str:
    # sbatch(1): B: is the batch shell, which our command replaces, and nothing else; without it the
    # steps, in which the supervisors of several nodes are.
    return f"--signal={'' if spec.nodes > 1 else 'B:'}USR1@{BEFORE}"


def _slurm_told(directive: str) -> str:
    found = re.search(r"--signal[= ](?:[RB]+:)?(\w+)(?:@(\d+))?", directive)
    return f"{found[1]}@{found[2] or 60}" if found else ""


def _flux_told(directive: str) -> str:
    found = re.search(r"--signal[= ](\w*)(?:@(\d+)s?)?\s*$", directive)
    return f"{found[1] or 'USR1'}@{found[2] or 60}" if found else ""


def _oar_told(directive: str) -> str:
    found = re.search(r"--checkpoint[= ](\d+)", directive)
    return f"USR2@{found[1]}" if found else ""


def _one_node(directive: str) -> Callable[[JobSpec], str | None]:
    """Only the first node is warned, or what starts the others, which nobody has tried."""
    return lambda spec: directive if spec.nodes == 1 else None


_ASKED: Mapping[str, Asked] = {
    "slurm": Asked("--signal", _slurm, _slurm_told),
    # flux-submit(1): to all tasks; a bare number is seconds here.
    "flux": Asked("--signal", lambda _: f"--signal=USR1@{BEFORE}s", _flux_told),
    # oarsub(1); seen: every three seconds from then on.
    "oar": Asked("--checkpoint", _one_node(f"--checkpoint {BEFORE}"), _oar_told),
    # sge_submit(1): SIGUSR2 some time (queue_conf(5), notify) before any kill, of qdel too.
    "sge": Asked("-notify", _one_node("-notify"), timed=False),
}


def directives(spec: JobSpec, driver: Driver) -> tuple[str, ...]:
    """Directives that ask for a warning; none where the user says something of it.

    Parameters
    ----------
    spec
        Of the job.
    driver
        Whose job it is.
    """
    asked = _ASKED.get(driver.name)
    if asked is None or _own(spec, asked):
        return ()
    if asked.timed and (spec.walltime is None or spec.walltime < SHORTEST):
        return ()
    line = asked.directive(spec)
    return () if line is None else (line,)


def exported(spec: JobSpec, driver: Driver) -> tuple[tuple[str, str], ...]:
    """Variables that tell the job how long before its end the warning comes.

    Parameters
    ----------
    spec
        Of the job, with the user's own directives.
    driver
        Whose job it is.
    """
    asked = _ASKED.get(driver.name)
    if asked is None:
        return ()
    lines = (*_own(spec, asked), *_unless_skipped(spec, asked, directives(spec, driver)))
    told = [text for line in lines if asked_for(text := asked.told(line))]
    return ((WARNING, told[-1]),) if told else ()


def forward(command: str) -> list[str]:
    """Shell lines that run a command and hand it the signals that the shell gets.

    A shell that waits for a command in its foreground does not pass on what it is sent, and some
    batch systems signal the shell alone.
    """
    return [
        f"{command} &",
        "dask_hpc_pid=$!",
        "for dask_hpc_signal in INT TERM USR1 USR2; do",
        '    trap "kill -$dask_hpc_signal $dask_hpc_pid 2>/dev/null" "$dask_hpc_signal"',
        "done",
        # A signal ends wait, and not what it waits for.
        'while wait "$dask_hpc_pid"; dask_hpc_status=$?; kill -0 "$dask_hpc_pid" 2>/dev/null; do',
        "    :",
        "done",
    ]


def _own(spec: JobSpec, asked: Asked) -> list[str]:
    """The user's own directives with this option."""
    word = re.compile(rf"(?:^|\s){re.escape(asked.option)}(?=[=\s]|$)")
    return [line for line in spec.directives if word.search(line)]


def _unless_skipped(spec: JobSpec, asked: Asked, lines: tuple[str, ...]) -> tuple[str, ...]:
    return () if asked.option in spec.directives_skip else lines
