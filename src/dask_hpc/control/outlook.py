"""What a round has to know of each job: what it holds, whether it is spared, how long it has.

Reads the ledger and the scheduler's side, and only what this round needs: ten thousand jobs are
looked at once a round, for seconds of work a day.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import replace
from math import inf

from dask_hpc.control.backoff import MIN_POLL
from dask_hpc.control.ledger import Ledger
from dask_hpc.control.ports import Workers
from dask_hpc.control.reconcile import JobKey, JobView, Phase
from dask_hpc.control.renewal import Renewal, expected_wait
from dask_hpc.model.pool import Pool


class Outlook:
    """The controller's eyes.

    Parameters
    ----------
    ledger
        What is known of all jobs.
    workers
        The scheduler's side.
    pools
        Each pool by its name.
    """

    def __init__(self, ledger: Ledger, workers: Workers, pools: Mapping[str, Pool]) -> None:
        self._ledger = ledger
        self._workers = workers
        self._pools = pools
        self._deadlines: Mapping[JobKey, float] = {}
        self._turn = inf  # when a job comes near its deadline, in seconds since the epoch

    def views(
        self,
        epoch: float,
        *,
        surplus: bool,
        spares: Collection[str] = (),
        departing: Container[JobKey] = (),
    ) -> list[JobView]:
        """Every live job.

        Parameters
        ----------
        epoch
            Now, in seconds since the epoch.
        surplus
            Whether some may have to be given up.
        spares
            Pools of which those that are of use are not.
        departing
            Jobs whose workers are on their way out.
        """
        deadlines = self._deadlines = self._ledger.deadlines()
        renewals = self._renewals() if deadlines else {}
        soon = self._look_ahead(deadlines, renewals) <= epoch
        near = bool(deadlines) and (soon or self.renewing)
        load = self._workers.load() if surplus or near else {}
        kept = self._spared(epoch, spares) if surplus and spares else set()
        views = [
            replace(view, back=True)
            if view.phase is Phase.LEAVING and view.key in departing
            else view
            for view in self._ledger.views(load, kept)
        ]
        return self._marked(views, deadlines, renewals, epoch) if near else views

    def next_turn(self, epoch: float) -> float:
        """Seconds until a job comes near its deadline: then every moment may matter."""
        return max(MIN_POLL, self._turn - epoch)

    def tell(self) -> None:
        """Tell the scheduler's side how long each worker has, as of the last look."""
        self._workers.deadlines(self._ledger.ends(self._deadlines))

    def _renewals(self) -> dict[str, Renewal]:
        arrivals, task = self._ledger.arrivals, self._workers.longest_task()
        return {
            name: Renewal(pool.spec.walltime or inf, expected_wait(arrivals.get(name, ())), task)
            for name, pool in self._pools.items()
        }

    def _look_ahead(
        self, deadlines: Mapping[JobKey, float], renewals: Mapping[str, Renewal]
    ) -> float:
        arrays = self._ledger.arrays
        longest = {pool: renewal.longest for pool, renewal in renewals.items()}
        turns = (end - longest[arrays[key.name].pool] for key, end in deadlines.items())
        self._turn = min(turns, default=inf)
        return self._turn

    @property
    def renewing(self) -> bool:
        """Whether a job is being replaced, though a later one may be expected to come faster."""
        return any(tracked.expiring for tracked in self._ledger.arrays.values())

    def _spared(self, epoch: float, pools: Collection[str]) -> set[JobKey]:
        """Jobs not to be given up for a fall of the demand."""
        busy = (self._ledger.job_of(worker) for worker in self._workers.busy())
        kept = {key for key in busy if key} | self._ledger.about_to_start(epoch)
        return {key for key in kept if self._ledger.arrays[key.name].pool in pools}

    def _marked(
        self,
        views: list[JobView],
        deadlines: Mapping[JobKey, float],
        renewals: Mapping[str, Renewal],
        epoch: float,
    ) -> list[JobView]:
        """Mark the jobs that are to be replaced, and those that must go."""
        nearest = {pool: epoch + renewal.longest for pool, renewal in renewals.items()}
        early = {  # pools of which one job is to be replaced: others follow soon, and go along
            view.pool
            for view in views
            if (limit := deadlines.get(view.key, inf)) <= nearest[view.pool]
            and limit - epoch <= renewals[view.pool].lead(view.load)
        }
        marked = []
        for view in views:
            end, renewal = deadlines.get(view.key), renewals[view.pool]
            if end is None or (end > nearest[view.pool] and not self._looked_at(view.key)):
                marked.append(view)  # nothing is to be done about it yet
                continue
            lead = renewal.lead(view.load) + (renewal.together if view.pool in early else 0.0)
            tracked = self._ledger.arrays[view.key.name]
            expiring = tracked.expires(view.key.index, end, near=end - epoch <= lead)
            due = tracked.sent_away(view.key.index) or end - epoch <= renewal.reserve(view.load)
            if expiring or due:
                view = replace(view, deadline=end, expiring=True, due=due)  # noqa: PLW2901
            marked.append(view)
        return marked

    def _looked_at(self, key: JobKey) -> bool:
        """Whether a job is marked already, or was told to go."""
        tracked = self._ledger.arrays[key.name]
        return key.index in tracked.expiring or key.index in tracked.notice
