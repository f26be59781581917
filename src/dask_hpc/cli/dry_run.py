"""``--dry-run``: the job script and the submit command of what was asked for.

Nothing is created, submitted or asked of the batch system.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_hpc.cli.render import echo_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_hpc.cli.asking import Asked
    from dask_hpc.cluster.options import ClusterOptions
    from dask_hpc.cluster.request import Request
    from dask_hpc.drivers.base import Driver
    from dask_hpc.model.job import JobSpec

#: In the place of what is drawn when a cluster starts, or an array is submitted.
_DRAWN = "xxxxxx"


def rehearse(
    asked: Asked,
    head: str = "here",
    head_options: Mapping[str, Any] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print what would be submitted.

    Parameters
    ----------
    asked
        What was asked for.
    head, head_options
        Where it runs; what its job asks for, if it has one.
    as_json
        Print JSON.

    Raises
    ------
    ConfigurationError
        If what was asked for can never work.
    """
    found = plan(asked, head, head_options)
    if as_json:
        echo_json(found)
        return
    for each in [*found["head"], *found["pools"]]:
        click.echo(f"# {each['what']}: {each['path']}")
        click.echo(each["script"], nl=not each["script"].endswith("\n"))
        if each["commands"]:
            click.echo(f"\n# {each['jobs']} job{'s' * (each['jobs'] > 1)}, submitted with")
        for command in each["commands"]:
            click.echo(f"{command}\n")


def plan(asked: Asked, head: str, head_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Work out what would be submitted.

    Returns
    -------
    dict
        ``cluster``, ``batch``, ``directory``, ``head`` (a list of one, if it has a job) and
        ``pools``: of each what it is, the ``path`` and text of its ``script``, the number of
        ``jobs`` and the ``commands``.  What is drawn by chance is ``xxxxxx``.

    Raises
    ------
    ConfigurationError
        If what was asked for can never work.
    """
    from dask_hpc.cluster.directory import ClusterDirectory
    from dask_hpc.cluster.head import AWAIT_HEAD
    from dask_hpc.cluster.head_pools import HeadPools
    from dask_hpc.cluster.options import check_name
    from dask_hpc.cluster.security import home

    request, options = _understood(asked)
    name = check_name(asked.keywords.get("name") or f"{request.prefix}-{_DRAWN}")
    path = home() / name
    logs = request.options.log_directory
    directory = ClusterDirectory(path, Path(logs).absolute() if logs else path / "logs")
    patience = AWAIT_HEAD if head == "detached" else 0.0  # as Head has it
    pools = HeadPools(directory, request.driver, await_head=patience)
    return {
        "cluster": name,
        "batch": request.driver.name,
        "directory": str(path),
        "head": [] if head_options is None else [_of_head(request, head_options, path, name)],
        "pools": [
            _shown(
                f"pool {each}",
                pools.pool(each, found).spec,
                directory.script(each),
                request.driver,
                f"{name}-{_DRAWN}",
                _jobs(asked, each, found),
            )
            for each, found in options.items()
        ],
    }


def _understood(asked: Asked) -> tuple[Request, dict[str, ClusterOptions]]:
    """Complete the request as a cluster does, with its further pools."""
    from dask_hpc.cluster.planning import with_first
    from dask_hpc.cluster.pools import POOL
    from dask_hpc.cluster.request import understand

    words = dict(asked.keywords)
    words.pop("name", None)
    site, batch, shapes = (words.pop(word, None) for word in ("site", "batch", "shapes"))
    keywords, _ = with_first(words, shapes or ())
    request = understand(keywords, batch=batch, site=site)
    options = {POOL: request.options}
    for name, given in request.pools.items():
        options[name] = request.pool(name, given, options)
    return request, options


def _jobs(asked: Asked, pool: str, options: ClusterOptions) -> int:
    from dask_hpc.cluster.pools import POOL
    from dask_hpc.cluster.sizes import jobs_wanted

    size = asked.sizes.get(None if pool == POOL else pool)
    return jobs_wanted(options.job_layout, **size) if size else 0


def _of_head(
    request: Request, head_options: Mapping[str, Any], path: Path, name: str
) -> dict[str, Any]:
    from dask_hpc.cluster.bring_up import command
    from dask_hpc.cluster.head_job import spec_of

    spec = spec_of(request, head_options, path, command(path))
    script = path / "job-head.sh"
    return _shown("the head's job", spec, script, request.driver, f"{name}-head-{_DRAWN}", 1)


def _shown(
    what: str, spec: JobSpec, script: Path, driver: Driver, name: str, jobs: int
) -> dict[str, Any]:
    from dask_hpc.drivers.script import job_script
    from dask_hpc.model.job import Submission

    limit = driver.default_array_limit
    sizes = [min(limit, jobs - first) for first in range(0, jobs, limit)]
    arrays = [Submission(name, size, driver.first_index) for size in sizes]
    return {
        "what": what,
        "path": str(script),
        "script": job_script(spec, driver),
        "jobs": jobs,
        "commands": [str(driver.submit(each, spec, script)) for each in arrays],
    }
