"""Signals that batch systems send before they kill a job, and the seconds between, as data.

For both sides: drivers ask for a warning, a supervisor learns what it has left.  Numbers are what
can be relied on where the administrators changed nothing; each row names its source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals

from dask_hpc.model.job_environment import job_of

#: Variable by which a job script tells what it asked for: ``USR1@60``.
WARNING = "DASK_HPC_WARNING"
#: Seconds from a SIGTERM to the kill where no batch system is known: that of containers.
UNKNOWN = 10.0
#: Seconds for closing the workers, of long graces; of a short one, at most a third.
CLOSING = 6.0

_TOLD = re.compile(r"(?:SIG)?([A-Z]+\d?)@(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """What one batch system does before it kills.

    Parameters
    ----------
    seconds
        From each of its signals to the kill; of those that are not here, as of a SIGTERM.
    repeats
        Whether it sends further signals by itself, which then are no call to hurry.
    """

    seconds: Mapping[int, float] = field(default_factory=lambda: {SIGTERM: UNKNOWN})
    repeats: bool = False

    def of(self, number: int) -> float:
        """Seconds from a signal to the kill; none after a Ctrl-C, where it is no batch system's."""
        return self.seconds.get(number, 0.0 if number == SIGINT else self.seconds[SIGTERM])


GRACE: Mapping[str, Grace] = {
    # slurm.conf(5), KillWait.  Seen on 22.05: SIGTERM at once and again after a GraceTime, and
    # once more from a forwarding srun.
    "slurm": Grace(seconds={SIGTERM: 30}, repeats=True),
    # flux-config-exec(5), kill-timeout.
    "flux": Grace(seconds={SIGTERM: 5}, repeats=True),
    # qmgr(1B), kill_delay of PBS; of TORQUE.
    "pbs": Grace(seconds={SIGTERM: 10}),
    "torque": Grace(seconds={SIGTERM: 2}),
    # IBM's command reference: bsub -W sends SIGUSR2 and kills after ten minutes, bkill sends
    # SIGINT, SIGTERM and SIGKILL, JOB_TERMINATE_INTERVAL (10 s) apart.  Of OpenLava's run limit
    # only the order was seen: so not all of the ten minutes.
    "lsf": Grace(seconds={SIGUSR2: 60, SIGINT: 20, SIGTERM: 10}, repeats=True),
    # Seen on 2.5.9: nothing but the warning that was asked for, every three seconds.
    "oar": Grace(repeats=True),
    # queue_conf(5), notify: SIGUSR1 before a job is stopped, SIGUSR2 before it is killed.
    "sge": Grace(seconds={SIGUSR1: 60, SIGUSR2: 60, SIGTERM: UNKNOWN}),
    # HTCondor manual, MachineMaxVacateTime: ten minutes; pools for short jobs have less.
    "htcondor": Grace(seconds={SIGTERM: 30}),
    "local": Grace(seconds={SIGTERM: 5}),  # dask_hpc.batch.local_state.GRACE
}

_UNKNOWN = Grace()


def grace_of(environ: Mapping[str, str], told: float | None = None) -> Grace:
    """What a job may expect.

    Parameters
    ----------
    environ
        Of the job: tells which batch system's it is, and what its script asked for.
    told
        Seconds from SIGTERM to the kill, as the user knows the site.
    """
    row = job_of(environ)
    known = _UNKNOWN if row is None else GRACE.get(row.batch, _UNKNOWN)
    seconds = dict(known.seconds)
    if told is not None:
        seconds[SIGTERM] = told
    if asked := asked_for(environ.get(WARNING, "")):
        number, before = asked
        seconds[number] = before
    return Grace(seconds=seconds, repeats=known.repeats)


def asked_for(text: str) -> tuple[int, float] | None:
    """Read ``USR1@60``: a signal, and how many seconds before the end it comes."""
    match = _TOLD.fullmatch(text.strip())
    names = {each.name: each for each in Signals}
    if match is None or (number := names.get(f"SIG{match[1]}")) is None:
        return None
    return int(number), float(match[2])


def to_work(grace: float) -> float:
    """Of a grace, the seconds before workers must be closed for all to be over in time."""
    return grace - min(CLOSING, grace / 3)
