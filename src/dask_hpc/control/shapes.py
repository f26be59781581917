"""Which shape of job gives most worker-hours soonest: scores, the choice, and why in words.

Pure: the shapes that the user allows and what the batch system says of each go in, a plan comes
out.  Nothing is asked here, and no table drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from dask_hpc.model.forecast import Forecast
from dask_hpc.units import format_memory, format_walltime

#: Seconds that a job which replaces one at the end of its walltime takes at the least to be
#: submitted, scheduled and at work.
RENEWAL = 60.0
#: A job that starts sooner than this many seconds from now starts "at once": batch systems look
#: for jobs to start once or twice a minute.
SOON = 60.0
#: Scores that differ by less, as a part of the better one, are alike: a forecast knows no better.
ALIKE = 0.01
#: Seconds that worker-hours are counted for where no shape has a walltime.
HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape of job that the user allows.

    Parameters
    ----------
    cores, memory
        Per node; memory in bytes.
    nodes
        Of a job.
    walltime
        Seconds; None for the queue's default.
    queue, account
        Where to wait; who is charged.
    workers
        That one job brings.
    """

    cores: int
    memory: int | None = None
    nodes: int = 1
    walltime: int | None = None
    queue: str | None = None
    account: str | None = None
    workers: int = 1

    def jobs(self, workers: int) -> int:
        """Jobs of this shape that bring at least so many workers."""
        return -(-workers // self.workers)

    def __str__(self) -> str:
        parts = [f"{self.nodes} nodes of" if self.nodes > 1 else "", _count(self.cores, "core")]
        words = [" ".join(part for part in parts if part)]
        words += [format_memory(self.memory)] if self.memory is not None else []
        words += [format_walltime(self.walltime)] if self.walltime is not None else []
        words += [f"queue {self.queue}"] if self.queue else []
        words += [f"account {self.account}"] if self.account else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One shape, what is known of it and what that is worth.

    Parameters
    ----------
    shape
        As the user allows it.
    jobs
        Of it that bring the wanted workers.
    forecast
        Of these jobs.
    hours
        Worker-hours that they are known to give within the horizon.
    """

    shape: Shape
    jobs: int
    forecast: Forecast
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All shapes, and the chosen one.

    Parameters
    ----------
    rows
        In the user's order.
    chosen
        Index of the best.
    workers
        That are wanted.
    horizon
        Seconds that worker-hours are counted for.
    why
        Why it is the best, in a sentence.
    """

    rows: tuple[Row, ...]
    chosen: int
    workers: int
    horizon: float
    why: str

    @property
    def best(self) -> Row:
        """The chosen shape."""
        return self.rows[self.chosen]

    def __str__(self) -> str:
        return text(self)


def horizon_of(shapes: Sequence[Shape]) -> float:
    """Seconds that worker-hours are counted for: the longest walltime of all shapes.

    For about so long the user means to compute.  In a shorter time whatever starts at once would
    win, however short-lived; in a longer one the queue would not matter.
    """
    return float(max((shape.walltime or 0 for shape in shapes), default=0)) or HOUR


def worker_hours(shape: Shape, forecast: Forecast, *, workers: int, horizon: float) -> float:
    """Worker-hours that jobs of a shape are known to give.

    Jobs whose start is not known give none.  A job that reaches its walltime is replaced; the
    next one is at the end of the queue, behind our own that wait: it takes as long as the last of
    them, at least `RENEWAL`, and counts only where that is known.  Of the last job count no more
    workers than are wanted.

    Parameters
    ----------
    shape
        Of the jobs.
    forecast
        Of as many jobs as bring the workers.
    workers
        That are wanted.
    horizon
        Seconds from now.
    """
    all_known = forecast.known >= shape.jobs(workers)
    pause = max(RENEWAL, forecast.last or 0.0) if all_known else inf
    left, seconds = workers, 0.0
    for start in forecast.starts:
        counted = min(left, start.jobs * shape.workers)
        seconds += counted * _at_work(horizon - start.seconds, shape.walltime, pause)
        left -= counted
    return seconds / 3600.0


def _at_work(time: float, walltime: int | None, pause: float) -> float:
    """Seconds that a job and those that replace it run within so many from its start."""
    if time <= 0 or walltime is None:
        return max(0.0, time)
    if time <= walltime + pause:
        return min(time, float(walltime))
    lives, rest = divmod(time, walltime + pause)
    return lives * walltime + min(rest, float(walltime))


def make_plan(
    shapes: Sequence[Shape],
    forecasts: Sequence[Forecast],
    *,
    workers: int,
    horizon: float | None = None,
) -> Plan:
    """Choose a shape.

    The most worker-hours win; among those that are alike, the first that the user named.  Where
    none is known to give any, the earliest known start wins, and a start that is not known
    only where no other is.

    Parameters
    ----------
    shapes
        At least one.
    forecasts
        One for each shape.
    workers
        That are wanted, at least one.
    horizon
        Seconds that worker-hours are counted for; None for `horizon_of` the shapes.
    """
    seconds = horizon_of(shapes) if horizon is None else horizon
    rows = tuple(
        Row(
            shape=shape,
            jobs=shape.jobs(workers),
            forecast=forecast,
            hours=0.0
            if forecast.refused
            else worker_hours(shape, forecast, workers=workers, horizon=seconds),
        )
        for shape, forecast in zip(shapes, forecasts, strict=True)
    )
    chosen = _chosen(rows)
    why = _why(rows, chosen, workers=workers, horizon=seconds)
    return Plan(rows=rows, chosen=chosen, workers=workers, horizon=seconds, why=why)


def _chosen(rows: Sequence[Row]) -> int:
    possible = [at for at, row in enumerate(rows) if not row.forecast.refused]
    if not possible:
        return 0  # to be submitted all the same: a refusal here may be wrong, the real one is not
    most = max(rows[at].hours for at in possible)
    if most > 0:
        return next(at for at in possible if rows[at].hours >= most * (1 - ALIKE))
    told = [at for at in possible if rows[at].forecast.first is not None]
    return min(told, key=lambda at: rows[at].forecast.first or 0.0) if told else possible[0]


# -- in words -------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """Seconds as people say them: ``40 s``, ``25 min``, ``3.5 h``, ``2.1 days``."""
    for unit, size in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds < 2 * SOON else f"{seconds / 60:.0f} min"


def when(forecast: Forecast, jobs: int) -> str:
    """When jobs start: ``2 at once, 4 in 25 min, 2 not known``."""
    if forecast.refused:
        return "never"
    parts = [(start.jobs, _in(start.seconds)) for start in forecast.starts]
    parts += [(jobs - forecast.known, "not known")] if forecast.known < jobs else []
    if len(parts) == 1:
        return parts[0][1]
    return ", ".join(f"{count} {text}" for count, text in parts)


def _why(rows: Sequence[Row], chosen: int, *, workers: int, horizon: float) -> str:
    best = rows[chosen]
    gain = f"{_amount(best.hours)} worker-hours within {span(horizon)}"
    if best.forecast.refused:
        return "every shape would be refused; the first is taken, so that the batch system says why"
    if len(rows) == 1:
        return f"it is the only shape: {when(best.forecast, best.jobs)}, {gain}"
    others = [row for at, row in enumerate(rows) if at != chosen and not row.forecast.refused]
    if not others:
        return f"no other shape can run: {when(best.forecast, best.jobs)}, {gain}"
    if best.forecast.first is None:
        said = f" ({best.forecast.said})" if best.forecast.said else ""
        return f"no start is known of any shape{said}: this is the first that can run"
    if not best.hours:
        return f"no shape is known to start within {span(horizon)}: this is the first known to"
    gain = f"{gain} for {_count(workers, 'worker')}"
    second = max(others, key=lambda row: row.hours)
    if second.hours >= max(row.hours for row in rows) * (1 - ALIKE):
        return f"{gain}, no less than the others give, and you named it first"
    than = f"{_amount(second.hours)} with {second.shape}: {when(second.forecast, second.jobs)}"
    unknown = any(row.forecast.known < row.jobs for row in others)
    return f"{gain}; {than}{' (a start that is not known counts as none)' if unknown else ''}"


def _in(seconds: float) -> str:
    return "at once" if seconds < SOON else f"in {span(seconds)}"


def _amount(hours: float) -> str:
    return f"{hours:.2f}" if hours < 1 else f"{hours:.1f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


HEADINGS = ("", "shape", "jobs", "start", "worker-hours", "by")


def cells(plan: Plan) -> list[tuple[str, ...]]:
    """Rows of a table under `HEADINGS`."""
    return [
        (
            "->" if at == plan.chosen else "",
            str(row.shape),
            str(row.jobs),
            when(row.forecast, row.jobs),
            "-" if row.forecast.first is None else _amount(row.hours),
            row.forecast.refused or row.forecast.said,
        )
        for at, row in enumerate(plan.rows)
    ]


def text(plan: Plan) -> str:
    """The table and the reason, as plain text."""
    rows = [HEADINGS, *cells(plan)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, f"{plan.best.shape}: {plan.why}"])
