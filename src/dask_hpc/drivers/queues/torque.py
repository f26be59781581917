"""Queues of TORQUE: as PBS's, by commands that print plain text."""

from __future__ import annotations

from dask_hpc.drivers.base import Command
from dask_hpc.drivers.queues.pbs import read

__all__ = ["COMMANDS", "read"]

COMMANDS = (Command(("qstat", "-Qf", "-1")), Command(("pbsnodes", "-a")))
