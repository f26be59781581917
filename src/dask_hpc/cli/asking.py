"""The options that ``dask-hpc up`` and ``dask-hpc run`` share: what is asked of a cluster.

Reading only: what the keywords mean is :mod:`dask_hpc.cluster.options`' business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Between two pairs: a comma before the next key, so that values may have commas too.
_COMMA = re.compile(r",(?=\s*[A-Za-z][\w-]*\s*=)")
#: YAML reads these as numbers of seconds, LSF as hours and minutes: they stay text.
_CLOCK = re.compile(r"(\d+-)?\d+(:\d+)+")
_BOUNDS = re.compile(r"(\d*):(\d*)")
#: Options whose names are keywords of a cluster.
_KEYWORDS = (
    *("name", "batch", "site", "cores", "memory", "processes", "gpus", "walltime"),
    *("queue", "account", "interface"),
)

_OPTIONS = (
    click.option("--name", help="of the cluster; default: a random one"),
    click.option("--batch", metavar="NAME", help="slurm, pbs, ...; default: what the machine has"),
    click.option("--site", metavar="NAME", help="a machine that `dask-hpc site list` shows"),
    click.option("--cores", type=click.IntRange(1), help="of a job, per node"),
    click.option("--memory", help='of a job, per node, for example "16 GiB"'),
    click.option("--processes", type=click.IntRange(1), help="workers of a job, per node"),
    click.option("--gpus", type=click.IntRange(0), help="of a job, per node: a worker for each"),
    click.option("--walltime", help='limit of each job, for example "4 h"'),
    click.option("--queue", help="queue (partition) to wait in"),
    click.option("--account", help="who is charged"),
    click.option("--interface", help="network interface of the nodes, for example ib0"),
    click.option(
        "--pool",
        "pools",
        multiple=True,
        metavar="NAME:KEY=VALUE,...",
        help="a further pool, for example gpu:gpus=1,queue=gpu,jobs=2; repeat it",
    ),
    click.option(
        "--option",
        "--set",
        "more",
        multiple=True,
        metavar="KEY=VALUE",
        help="any other keyword of HPCCluster, as YAML; repeat it",
    ),
    click.option("--jobs", type=click.IntRange(0), help="jobs to ask for at once"),
    click.option("--workers", type=click.IntRange(0), help="workers to ask for, instead of jobs"),
    click.option("--adapt", metavar="MIN:MAX", help="as many jobs as the tasks can use"),
    click.option(
        "--dry-run", is_flag=True, help="print the job script and the submit command, and end"
    ),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for.

    Parameters
    ----------
    keywords
        Of HPCCluster, `batch`, `site` and `pools` among them.
    sizes
        Keywords of ``scale()`` by pool; the cluster's own is None.
    bounds
        Keywords of ``adapt()`` of the cluster's own pool, if it follows the tasks.
    """

    keywords: Mapping[str, Any]
    sizes: Mapping[str | None, Mapping[str, int]] = field(default_factory=dict)
    bounds: Mapping[str, int] | None = None

    def set_size(self, cluster: Any) -> None:
        """Ask a cluster, or its head, for the size: to be called once it runs.

        Raises
        ------
        SubmitRejected
            If the batch system refuses the jobs.
        """
        for verb, words in self.orders:
            getattr(cluster, verb)(**words)

    @property
    def orders(self) -> list[tuple[str, dict[str, Any]]]:
        """What sets the size: methods of a cluster, each with its words."""
        orders = [("scale", {**size, "pool": pool}) for pool, size in self.sizes.items()]
        return orders + ([] if self.bounds is None else [("adapt", dict(self.bounds))])


def asking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def asked(
    *,
    pools: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
    jobs: int | None = None,
    workers: int | None = None,
    adapt: str | None = None,
    **given: Any,
) -> Asked:
    """Put the options together.

    Raises
    ------
    click.UsageError
        If some contradict each other, or one cannot be read.
    """
    if sum(each is not None for each in (jobs, workers, adapt)) > 1:
        raise click.UsageError("say one of --jobs, --workers, --adapt")
    keywords = {name: given[name] for name in _KEYWORDS if given.get(name) is not None}
    keywords |= dict(pair(text, "--option") for text in more)
    sizes: dict[str | None, dict[str, int]] = {}
    if jobs is not None or workers is not None:
        sizes[None] = (
            {"n": workers} if jobs is None and workers is not None else {"jobs": jobs or 0}
        )
    further = {}
    for text in pools:
        name, options, size = pool(text)
        further[name] = options
        if size:
            sizes[name] = size
    if further:
        keywords["pools"] = {**keywords.get("pools", {}), **further}
    return Asked(keywords, sizes, None if adapt is None else bounds(adapt))


def pair(text: str, option: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``, the value as YAML but for times of day and durations.

    Raises
    ------
    click.BadParameter
        If it is not one.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
    return name.strip().replace("-", "_"), _value(value.strip(), option)


def _value(text: str, option: str) -> Any:
    if _CLOCK.fullmatch(text):
        return text
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise click.BadParameter(
            f"{text!r} is no YAML; quote it as YAML does", param_hint=option
        ) from None


def pool(text: str) -> tuple[str, dict[str, Any], dict[str, int]]:
    """Read ``NAME:KEY=VALUE,...``.

    Returns
    -------
    name, options, size
        `jobs` and `workers` are the size: keywords of ``scale()``.

    Raises
    ------
    click.BadParameter
        If it is not one.
    """
    name, _, rest = text.partition(":")
    options = dict(pair(part, "--pool") for part in _COMMA.split(rest)) if rest.strip() else {}
    size = {}
    for word, keyword in (("jobs", "jobs"), ("workers", "n")):
        if word in options:
            size[keyword] = _count(options.pop(word), word)
    if not name.strip() or len(size) > 1:
        raise click.BadParameter(
            f"{text!r} is not NAME:KEY=VALUE,... with jobs= or workers= at most once",
            param_hint="--pool",
        )
    return name.strip(), options, size


def _count(value: Any, word: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise click.BadParameter(f"{word}={value!r} is no number of {word}", param_hint="--pool")
    return value


def bounds(text: str) -> dict[str, int]:
    """Read ``MIN:MAX``, in jobs; either may be left out.

    Raises
    ------
    click.BadParameter
        If it is not that.
    """
    match = _BOUNDS.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not MIN:MAX, for example 0:8", param_hint="--adapt")
    found = {"minimum_jobs": int(match[1] or 0)}
    return found | ({"maximum_jobs": int(match[2])} if match[2] else {})
