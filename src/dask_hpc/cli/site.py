"""``dask-hpc site``: which machines are known, and what is known of one.

Printing only; profiles are :mod:`dask_hpc.site.profile`, the user's own the configuration's.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_hpc.site.profile import Fact, Profile


@click.group("site")
def site() -> None:
    """Machines by name: `HPCCluster("NAME")` takes its defaults from one."""


@site.command("list")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def list_sites(*, as_json: bool) -> None:
    """Name all machines, your own first."""
    from dask_hpc.config.reader import user_sites
    from dask_hpc.site.profile import find, names

    own = user_sites()
    found = {name: find(name, own) for name in dict.fromkeys([*sorted(own), *names()])}
    if as_json:
        click.echo(json.dumps({name: each.batch for name, each in found.items()}))
        return
    width = max(map(len, found))
    for name, each in found.items():
        whose = "  (yours)" if name in own else ""
        click.echo(f"{name:<{width}}  {each.batch or '-':<8}  {each.title}{whose}".rstrip())


@site.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def show(name: str, *, as_json: bool) -> None:
    """Show what is known of the machine NAME, and where each fact is from."""
    from dask_hpc.config.reader import user_sites
    from dask_hpc.site.profile import find, keywords_of

    sites = user_sites()
    profile = find(name, sites)
    own = keywords_of(sites.get(name, {}))
    if as_json:
        click.echo(json.dumps({**asdict(profile), "own": own}, default=str))
    else:
        for line in _lines(profile, own):
            click.echo(line)


def _lines(profile: Profile, own: dict[str, Any]) -> list[str]:
    from dask_hpc.units import format_memory, format_walltime

    lines = [
        f"{profile.name}: {profile.title or 'a site of yours'}",
        f"batch system: {profile.batch or 'the one this machine has'}",
    ]
    if profile.keywords:
        lines += ["", "keywords it gives:"]
        lines += [_fact(f"{name} = {fact.value!r}", fact) for name, fact in _known(profile, own)]
    if own:
        lines += ["", "keywords of your configuration:"]
        lines += [f"  {name} = {value!r}" for name, value in own.items()]
    about: list[tuple[str, Fact | None, Callable[[Any], str]]] = [
        ("cores of a node", profile.cores, str),
        ("memory of a node", profile.memory, format_memory),
        ("GPUs of a node", profile.gpus, str),
        ("longest walltime", profile.walltime, format_walltime),
        ("jobs may submit jobs", profile.nodes_submit, lambda may: "yes" if may else "no"),
    ]
    facts = [_fact(f"{what}: {write(fact.value)}", fact) for what, fact, write in about if fact]
    lines += ["", "the machine:", *facts] if facts else []
    for title, many in (
        ("you must give:", [_fact(f"{k}: {v.value}", v) for k, v in profile.requires.items()]),
        ("forbidden there:", [_fact(str(each.value), each) for each in profile.forbids]),
        ("notes:", [_fact(str(each.value), each) for each in profile.notes]),
        ("sources:", [f"  [{k}] {s.url}, read {s.seen}" for k, s in profile.sources.items()]),
    ):
        lines += ["", title, *many] if many else []
    return lines


def _known(profile: Profile, own: dict[str, Any]) -> list[tuple[str, Fact]]:
    return [(name, fact) for name, fact in profile.keywords.items() if name not in own]


def _fact(text: str, fact: Fact) -> str:
    return f"  {text}  [{fact.source}]"
