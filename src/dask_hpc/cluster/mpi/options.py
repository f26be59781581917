"""What a parallel launch is asked to be, whether by command line or by a program.

Values and their checks only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_hpc.errors import ConfigurationError
from dask_hpc.node import fabric
from dask_hpc.node.protocol import scheme

_ENGINES_OWN = ("distributed.Worker", "distributed.Nanny", "dask.distributed.Worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """A launch.

    Parameters
    ----------
    scheduler_rank
        Of the scheduler; None joins one that runs already.
    exclusive_workers
        Whether ranks with another role run no worker.
    name
        Prefix of the workers' names; None names them by rank.
    scheduler_file
        To write, or without a scheduler of its own to read.
    scheduler_port
        0 for any.
    interface, protocol
        Of scheduler and workers; each node chooses its own interface.
    dashboard, dashboard_address
        Of the scheduler; only the port of the address is heeded: it listens on this machine alone.
    insecure
        No encryption, no authentication.
    workers
        Fields of :class:`~dask_hpc.node.options.WorkerOptions`, as JSON has them.
    """

    scheduler_rank: int | None = 0
    exclusive_workers: bool = True
    name: str | None = None
    scheduler_file: str | None = None
    scheduler_port: int = 0
    interface: str | None = None
    protocol: str | None = None
    dashboard: bool = True
    dashboard_address: str | None = None
    insecure: bool = False
    workers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scheme(self.protocol, insecure=self.insecure)
        if self.interface is not None:
            fabric.candidates(self.interface)
        if self.scheduler_rank is not None and self.scheduler_rank < 0:
            raise ConfigurationError("a rank is 0 or more", hint="--scheduler-rank 0")

    def scheduler(self, launch: str, *, talk: bool) -> dict[str, Any]:
        """Describe the scheduler for its node's program.

        Parameters
        ----------
        launch
            Name of this launch, for the scheduler file.
        talk
            Whether it says where it is.
        """
        return {
            "file": self.scheduler_file,
            "name": launch,
            "port": self.scheduler_port,
            "interface": self.interface,
            "protocol": self.protocol,
            "dashboard": self.dashboard,
            "dashboard_address": self.dashboard_address,
            "insecure": self.insecure,
            "talk": talk,
        }

    def worker_fields(self) -> dict[str, Any]:
        """Describe the workers for a node's program."""
        given = {name: value for name, value in self.workers.items() if value is not None}
        if given.get("worker_class") in _ENGINES_OWN:
            del given["worker_class"]
        common = {
            "interface": self.interface,
            "protocol": self.protocol,
            "insecure": self.insecure,
        }
        return {**common, **given}


def parse_worker_options(text: str | None) -> dict[str, Any]:
    """Read ``--worker-options``.

    Raises
    ------
    ConfigurationError
        If it is no JSON object.
    """
    if text is None:
        return {}
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"--worker-options is no JSON: {error}", hint="""write '{"resources": {"GPU": 1}}'"""
        ) from None
    if not isinstance(options, dict):
        raise ConfigurationError(
            f"--worker-options is no JSON object: {text}",
            hint="""write '{"resources": {"GPU": 1}}'""",
        )
    return options
