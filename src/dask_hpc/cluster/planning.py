"""Which shape of job a cluster takes, of those that the user allows: asked once, before it starts.

Once, and not again for each job: the jobs of a pool are identical, so that any of them may be
given up or replaced, and a forecast is worth little by the time that the next one is submitted.
What is best is :mod:`dask_hpc.control.shapes`' business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path
from typing import Any

from dask_hpc.cluster.options import ClusterOptions, resolve
from dask_hpc.cluster.pools import pool_for
from dask_hpc.cluster.request import Request, understand
from dask_hpc.control.shapes import Plan, Shape, make_plan
from dask_hpc.drivers.base import Driver
from dask_hpc.drivers.forecasts import Question
from dask_hpc.drivers.script import all_directives
from dask_hpc.errors import ConfigurationError
from dask_hpc.model.job import JobSpec
from dask_hpc.site.foresee import foresee

logger = logging.getLogger("dask_hpc")

#: What a shape may say; the rest is the same for all of them.
KEYS = ("cores", "memory", "walltime", "queue", "account")
#: A batch system is asked once or twice for each: more would be a load, and no user's intention.
MOST = 8


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a cluster could be: the options of each shape, the user's own first.

    Parameters
    ----------
    driver
        Of the batch system.
    options
        One for each shape.
    """

    driver: Driver
    options: tuple[ClusterOptions, ...]

    async def choose(self, workers: int) -> tuple[ClusterOptions, Plan]:
        """Ask the batch system, choose, and log why in a line.

        Parameters
        ----------
        workers
            That are wanted; 0 compares what fills one job of the largest shape.
        """
        plan = await self.plan(workers)
        level = logging.WARNING if plan.best.forecast.first is None else logging.INFO
        logger.log(level, "jobs of %s: %s", plan.best.shape, plan.why)
        return self.options[plan.chosen], plan

    async def plan(self, workers: int) -> Plan:
        """Ask the batch system, and say what is best.

        Raises
        ------
        ConfigurationError
            If the batch system could not be asked for such jobs at all.
        """
        shapes = [_shape(options) for options in self.options]
        wanted = workers or max(shape.workers for shape in shapes)
        questions = [
            Question(self.driver, _spec(options), shape.jobs(wanted))
            for options, shape in zip(self.options, shapes, strict=True)
        ]
        for question in questions:
            all_directives(question.spec, self.driver)
        return make_plan(shapes, await foresee(questions), workers=wanted)


def with_first(
    keywords: Mapping[str, Any], shapes: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """Keywords of the first shape: the cluster's own, or those of the first listed one.

    Parameters
    ----------
    keywords
        Of the cluster.
    shapes
        As the user lists them.

    Returns
    -------
    keywords : dict
        With cores, if the cluster's own have none.
    shapes
        The others.

    Raises
    ------
    ConfigurationError
        If a shape is none, or there are too many.
    """
    if isinstance(shapes, Mapping | str) or not all(isinstance(each, Mapping) for each in shapes):
        raise ConfigurationError(
            f"shapes= must be a list of shapes, not {shapes!r}",
            hint='for example shapes=[{"cores": 4, "walltime": "30 min"}]',
        )
    if len(shapes) > MOST:
        raise ConfigurationError(
            f"{len(shapes)} shapes are too many: the batch system is asked about each",
            hint=f"list {MOST} at most",
        )
    for shape in shapes:
        if unknown := [key for key in shape if key not in KEYS]:
            raise ConfigurationError(
                f"a shape has no {unknown[0]}= (in {dict(shape)!r})",
                hint=f"it may say {', '.join(KEYS)}; give the rest beside shapes=, for all",
            )
    if keywords.get("cores") is None and shapes and "cores" in shapes[0]:
        return {**keywords, **shapes[0]}, shapes[1:]
    return dict(keywords), shapes


def settled(keywords: Mapping[str, Any], chosen: ClusterOptions) -> dict[str, Any]:
    """Keywords that ask for the shape that was chosen, and for no other.

    Parameters
    ----------
    keywords
        Of the cluster, ``shapes`` among them.
    chosen
        What it took.
    """
    rest = {word: value for word, value in keywords.items() if word != "shapes"}
    own = {word: getattr(chosen, word) for word in (*KEYS, "processes")}
    return rest | {word: value for word, value in own.items() if value is not None}


def candidates(request: Request, shapes: Sequence[Mapping[str, Any]]) -> Candidates:
    """Options of all shapes: a worker is as large in each, only jobs have more or fewer of them.

    Parameters
    ----------
    request
        What was asked for, which is the first shape.
    shapes
        What others say; what one does not say is as in the first, memory in proportion to its
        cores.  Workers have as many threads as in the first, or, unless the user said how many
        processes, the most with which every shape is filled.

    Raises
    ------
    ConfigurationError
        If a value makes no sense, or the cores do not divide among such workers.
    """
    own = request.options
    found = [own]
    for shape in shapes:
        varied = _varied(own, shape, request.driver)
        found += [] if varied in found else [varied]
    if not (own.gpus and own.processes is None):  # else a worker is what goes with a GPU
        found = _alike(found)
    return Candidates(request.driver, tuple(found))


def _varied(own: ClusterOptions, shape: Mapping[str, Any], driver: Driver) -> ClusterOptions:
    said = {key: value for key, value in shape.items() if value is not None}
    checked = resolve({"cores": own.cores, **said}, (), driver)
    changes: dict[str, Any] = {key: getattr(checked, key) for key in said}
    if "memory" not in said and own.memory is not None:
        changes["memory"] = own.memory * checked.cores // own.cores
    return replace(own, **changes)


def _alike(found: Sequence[ClusterOptions]) -> list[ClusterOptions]:
    """Give workers the same threads in all shapes; the first is the user's own."""
    own, cores = found[0], [options.cores for options in found]
    threads = own.layout.threads
    if own.processes is None:
        threads = gcd(threads, *cores)
    for count in cores[1:]:
        if count != own.cores and count % threads:
            raise ConfigurationError(
                f"{count} cores do not divide among workers of {threads} threads",
                hint="a worker is as large in every shape: leave processes= out, or take other "
                "numbers of cores",
            )
    if len(set(cores)) == 1:
        return list(found)
    return [
        replace(options, processes=options.cores // threads)
        if own.processes is None or options.cores != own.cores
        else options
        for options in found
    ]


def _shape(options: ClusterOptions) -> Shape:
    return Shape(
        cores=options.cores,
        memory=options.memory,
        nodes=options.nodes,
        walltime=options.walltime,
        queue=options.queue,
        account=options.account,
        workers=options.job_layout.workers,
    )


def _spec(options: ClusterOptions) -> JobSpec:
    """What a job would ask for; what it would run does not matter, and is nowhere written."""
    nowhere = Path("/nonexistent")
    pool = pool_for(replace(options, nodes=1), scheduler_file=nowhere, logs=nowhere, environment={})
    return replace(pool.spec, nodes=options.nodes)


def plan(
    site: str | None = None,
    *,
    shapes: Sequence[Mapping[str, Any]] = (),
    workers: int = 0,
    batch: str | None = None,
    **options: Any,
) -> Plan:
    """Ask the batch system when jobs of which shape would start; submit nothing.

    ``HPCCluster(..., shapes=...)`` does the same, and takes the best.

    Parameters
    ----------
    site, batch
        As of :class:`dask_hpc.HPCCluster`.
    shapes
        What else jobs may be, beside what the options say: each a mapping with some of ``cores,
        memory, walltime, queue, account``.
    workers
        That are wanted; 0 compares what fills one job of the largest shape.
    **options
        As of :class:`dask_hpc.HPCCluster`.

    Returns
    -------
    Plan
        Prints as a table, with the choice and its reason.

    Raises
    ------
    ConfigurationError
        If an option or a shape can never work as written.

    Examples
    --------
    >>> import dask_hpc
    >>> print(dask_hpc.plan(cores=16, walltime="4 h", workers=32,
    ...                     shapes=[{"cores": 4, "walltime": "30 min"}]))  # doctest: +SKIP
    """
    if workers < 0:
        raise ConfigurationError(f"cannot plan for {workers} workers")
    keywords, others = with_first(options, shapes)
    found = candidates(understand(keywords, batch=batch, site=site), others)
    with ThreadPoolExecutor(1) as thread:  # in a notebook, an event loop runs in this one
        return thread.submit(lambda: asyncio.run(found.plan(workers))).result()
