"""``dask-hpc doctor``: what would go wrong on this machine, and what to do.

Options and printing only; the visit is :mod:`dask_hpc.cluster.doctor`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dask_hpc.cluster.doctor import Diagnosis, Visit
    from dask_hpc.site.doctor.finding import Finding

#: Options whose names are keywords of a cluster.
_KEYWORDS = ("queue", "account", "cores", "memory", "walltime", "interface", "python")


@click.command("doctor")
@click.option("--job", is_flag=True, help="look inside jobs too: on two nodes, if there are two")
@click.option("--queue", help="queue (partition) of the jobs")
@click.option("--nodes", type=click.IntRange(1), help="look at so many nodes")
@click.option("--account", help="who is charged")
@click.option("--cores", type=click.IntRange(1), help="of a job, per node")
@click.option("--memory", help='of a job, per node, for example "4 GiB"')
@click.option("--walltime", help="that your clusters will ask for; the jobs here take ten minutes")
@click.option("--interface", help="network interface of the nodes, for example ib0")
@click.option("--python", help="the Python of the jobs")
@click.option("--batch", metavar="NAME", help="slurm, pbs, ...; default: what the machine has")
@click.option("--site", metavar="NAME", help="a machine that `dask-hpc site list` shows")
@click.option("--set", "more", multiple=True, metavar="KEY=VALUE", help="any keyword, as YAML")
@click.option("--wait", default="10 min", show_default=True, help="for the jobs to start")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--write-profile", metavar="NAME", help="write what was found as a site of yours")
@click.option("--force", is_flag=True, help="replace a site that is there")
def doctor(
    *,
    job: bool,
    nodes: int | None,
    batch: str | None,
    site: str | None,
    more: tuple[str, ...],
    wait: str,
    as_json: bool,
    write_profile: str | None,
    force: bool,
    **keywords: Any,
) -> None:
    """Look for what would go wrong here, and say what to do; exit code 1 if there is a problem."""
    import asyncio

    from dask_hpc.cluster.doctor import Visit
    from dask_hpc.cluster.site_profile import check_free, write
    from dask_hpc.node.options import parse_seconds
    from dask_hpc.site.doctor.finding import Status, worst

    given = {name: keywords[name] for name in _KEYWORDS if keywords[name] is not None}
    visit = Visit(
        keywords=given | dict(map(keyword, more)),
        site=site,
        batch=batch,
        job=job,
        nodes=nodes,
        wait=parse_seconds(wait),
    )
    if write_profile:
        check_free(write_profile, force=force)
    try:
        found = asyncio.run(_visited(visit))
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("interrupted: the jobs are cancelled", err=True)
        raise SystemExit(130) from None
    if as_json:
        click.echo(json.dumps(_facts(found), default=str))
    else:
        _table(found.findings)
    if write_profile:
        click.echo(f"wrote {write(write_profile, found, force=force)}", err=as_json)
    raise SystemExit(1 if worst(found.findings) is Status.PROBLEM else 0)


async def _visited(visit: Visit) -> Diagnosis:
    """Examine; a closed terminal ends it as Ctrl-C does, so that no job is left."""
    import asyncio
    import signal

    from dask_hpc.cluster.doctor import examine

    ours = asyncio.current_task()
    assert ours is not None  # noqa: S101  (we are in one)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ours.cancel)
    return await examine(visit, _say)


def keyword(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``, the value as YAML."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    return name.strip().replace("-", "_"), yaml.safe_load(value)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _facts(found: Diagnosis) -> dict[str, Any]:
    from dask_hpc.site.doctor.finding import worst

    return {
        "status": worst(found.findings),
        "batch": found.batch,
        "findings": [asdict(each) for each in found.findings],
        "queues": [asdict(each) for each in found.offer.queues],
        "machines": found.reports,
        "routes": found.result.routes if found.result else [],
    }


def _table(findings: Iterable[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for heading, most in (("", 7), ("what", 20), ("seen", None), ("what to do", 34)):
        table.add_column(heading, overflow="fold", max_width=most)
    colours = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    for each in together(findings):
        texts = (each.name, each.seen, each.advice)
        table.add_row(Text(each.status, colours[each.status]), *map(Text, texts))
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Make one row of what is alike on several machines: same name, status and advice."""
    from dataclasses import replace

    rows: dict[tuple[str, str, str], Finding] = {}
    for each in findings:
        key = (each.name, each.status, each.advice)
        if key in rows and each.seen not in rows[key].seen.splitlines():
            rows[key] = replace(rows[key], seen=f"{rows[key].seen}\n{each.seen}")
        else:
            rows.setdefault(key, each)
    names = list(dict.fromkeys(each.name for each in rows.values()))
    return sorted(rows.values(), key=lambda each: names.index(each.name))
