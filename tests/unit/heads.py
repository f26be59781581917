"""A controller and a head without a batch system or a scheduler: what they know is told to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dask_hpc.cluster.view import HERE
from dask_hpc.control.controller import Controller
from dask_hpc.control.ports import Place
from dask_hpc.drivers.base import Listing
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.model.layout import Layout
from dask_hpc.model.pool import Pool

EPOCH = 1_000_000.0
SPEC = JobSpec(command=("true",), cores=4, memory=2**30, log_directory=Path("/logs"))
POOLS = {
    "default": Pool("default", SPEC, Layout(2, 2, 2**29)),
    "wide": Pool("wide", replace(SPEC, nodes=2, memory=None), Layout(1, 4, None)),
}
RUNS = JobStatus(JobState.RUNNING, node="n1")


class Watch:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return EPOCH + self.now


def controller(watch: Watch | None = None, pools: dict[str, Pool] | None = None) -> Controller:
    watch = watch or Watch()
    client: Any = SimpleNamespace(driver=SimpleNamespace(history_delay=0.0), commands={})
    made = Controller(
        name="c",
        pools=pools or {"default": POOLS["default"]},
        client=client,
        journal=SimpleNamespace(),  # type: ignore[arg-type]
        place=Place({}, Path("/logs")),
        workers=SimpleNamespace(),  # type: ignore[arg-type]
        clock=watch,
        wall=watch.wall,
    )
    made.wanted = dict.fromkeys(made.pools, 0)
    return made


def submit(made: Controller, name: str, count: int, pool: str = "default", **known: Any) -> None:
    """Submit an array, and see each of its jobs as told by index."""
    now, submission = made._clock(), Submission(name, count)
    made.ledger.intend(submission, pool, now, known.get("walltime"))
    made.ledger.submitted(name, known.get("array", "7"), now)
    made.book.submitted(submission, pool, made._wall())
    made.wanted[pool] += count


def see(made: Controller, **jobs: JobStatus) -> None:
    """Observe: ``j0=status`` is job 0 of array 7."""
    listed = {JobId("7", int(index[1:])): status for index, status in jobs.items()}
    made.ledger.observe(Listing(listed, {}), made._clock(), made._wall())


def head(made: Controller, **more: Any) -> Any:
    told = {
        "name": "c",
        "driver": SimpleNamespace(name="slurm"),
        "controller": made,
        "directory": SimpleNamespace(scheduler_file=Path("/d/s.json"), logs=Path("/logs")),
        "scheduler": SimpleNamespace(
            status=SimpleNamespace(name="running"),
            address="tls://10.0.0.1:1",
            dashboard_url=lambda *, token: f"http://127.0.0.1:8787/status{'?t' * token}",
        ),
        "opened": EPOCH,
        "client": SimpleNamespace(commands={}),
        "usage": SimpleNamespace(running=dict),
        "workers": SimpleNamespace(tasks_rerun=0, keys_lost=0),
        "running_workers": lambda _: 3,
        "adapting": dict,
        "where": HERE,
        "ready": True,
    }
    return SimpleNamespace(**{**told, **more})
