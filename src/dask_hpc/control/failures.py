"""The failures of a cluster: what counts, what follows for submitting, what the user is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from dask_hpc.control import explain
from dask_hpc.control.backoff import Budget, Permit
from dask_hpc.control.bad_nodes import BadNodes
from dask_hpc.control.ledger import Ledger
from dask_hpc.control.notices import Notices
from dask_hpc.control.reconcile import JobKey, Phase
from dask_hpc.control.tracked import End
from dask_hpc.errors import BatchSystemError, HPCError, JobStartError


class Failures:
    """Keeps the budget.

    Parameters
    ----------
    name
        Of the cluster.
    ledger
        What is known of all jobs.
    nodes
        Where jobs fail as they start.
    log
        Gives the path of a job's log.
    notices
        Where the user is told.
    """

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        nodes: BadNodes,
        *,
        log: Callable[[JobKey], Path],
        notices: Notices,
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._nodes = nodes
        self._log = log
        self._notices = notices
        self._budget = Budget()

    def resume(self) -> None:
        """Forget them: the user's word."""
        self._budget = Budget()
        self._notices.problem = None

    def permit(self, now: float) -> Permit:
        """Whether to submit now."""
        return self._budget.permit(now, self._up)

    @property
    def _up(self) -> int:
        # Counted only when it matters: ten thousand jobs make it a millisecond's work.
        return self._ledger.phases()[Phase.UP] if self._budget.failures else 0

    def refused(self, error: HPCError, now: float) -> None:
        """The batch system refused a submission."""
        self._budget = self._budget.rejected(now)
        self._notices.report(error)

    def unanswered(self, error: BatchSystemError, now: float) -> None:
        """The batch system did not answer to a submission."""
        self._budget = self._budget.unanswered(now)
        self._notices.silence(error)

    def accepted(self) -> None:
        """The batch system took a submission."""
        if self._budget.refused:
            self._budget = self._budget.accepted()
            self._notices.problem = None

    async def take_in(self, ends: Sequence[End], now: float) -> None:
        """Count what ended, and tell the user of what failed."""
        if self._ledger.lasted(now):
            self._succeed()
        failures = [end for end in ends if end.failure]
        if not failures:
            return
        for node in self._ledger.nodes_at_work():
            self._nodes.worked(node)
        for end in failures:
            self._nodes.failed(end.status.node, now)
        self._budget = self._budget.failed(len(failures), now, self._up)
        stopped = self._budget.exhausted(self._up)
        path = await asyncio.to_thread(explain.telling, self._log(failures[0].key))
        tail = await asyncio.to_thread(explain.read_tail, path)
        error = explain.start_error(self._name, failures, path, tail, stopped=stopped)
        if stopped:
            self._notices.report(error)
        else:
            self._notices.failed(error)

    def tell_impossible(self) -> None:
        """Tell the user of a job that can never start, unless there is another problem."""
        if self._notices.problem is not None:
            return
        for key, status in self._ledger.statuses().items():
            if status.impossible:
                self._notices.report(explain.impossible_error(self._name, key, status))
                return

    def _succeed(self) -> None:
        if self._budget.failures and isinstance(self._notices.problem, JobStartError):
            self._notices.problem = None
        self._budget = self._budget.succeeded()
