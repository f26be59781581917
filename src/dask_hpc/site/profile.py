"""Profiles of machines: what one must know to submit there, each fact with its source.

Reading and checking only.  A profile is data (``profiles/NAME.yaml``); a user's own site is a
section of the dask configuration, which is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from dask_hpc.errors import ConfigurationError
from dask_hpc.units import format_memory, format_walltime, parse_memory, parse_walltime

FOLDER = Path(__file__).with_name("profiles")
#: In place of a source: common knowledge of its users, found on no page of the site.
UNVERIFIED = "unverified"
#: The source of what a user's own section says.
OWN = "your configuration"
#: Keys of a user's own site that are no keywords.
ABOUT = ("title", "batch", "requires", "notes", "node", "walltime_limit", "queues", "nodes_submit")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is known of a machine.

    Parameters
    ----------
    value
        What is known.
    source
        Key of one of the profile's sources, or :data:`UNVERIFIED`.
    """

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Source:
    """A page.

    Parameters
    ----------
    url
        Its address.
    seen
        Date (ISO) on which a stored copy of it was read; the copy may be older.
    """

    url: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of a machine.

    Parameters
    ----------
    name, title
        How it is asked for; what its people call it.
    batch
        Name of the driver; empty for a user's own site that does not say.
    keywords
        Defaults for :class:`dask_hpc.HPCCluster`.
    cores, memory, gpus
        Of one node; memory in bytes.
    walltime
        The longest of a job in the profile's queue, in seconds.
    queues
        The same of other queues, by their names: ``cores``, ``memory``, ``gpus``, ``walltime``.
    nodes_submit
        Whether jobs may submit jobs from their nodes; None: nobody has said that they may not.
    requires
        Keywords that the site wants and that only the user knows; the facts say why.
    forbids, notes
        What the site forbids; what else one should know.
    sources
        By their keys.
    """

    name: str
    title: str = ""
    batch: str = ""
    keywords: Mapping[str, Fact] = field(default_factory=dict)
    cores: Fact | None = None
    memory: Fact | None = None
    gpus: Fact | None = None
    walltime: Fact | None = None
    queues: Mapping[str, Mapping[str, Fact]] = field(default_factory=dict)
    nodes_submit: Fact | None = None
    requires: Mapping[str, Fact] = field(default_factory=dict)
    forbids: tuple[Fact, ...] = ()
    notes: tuple[Fact, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Its keywords without their sources."""
        return {name: fact.value for name, fact in self.keywords.items()}

    def check_required(self, given: Mapping[str, Any]) -> None:
        """Refuse a request that the site would refuse, before anything is submitted.

        Parameters
        ----------
        given
            Value of each keyword, None where there is none.

        Raises
        ------
        ConfigurationError
            If a keyword is missing.
        """
        for name, why in self.requires.items():
            if given.get(name) is None:
                raise ConfigurationError(
                    f"{self.title or self.name} wants {name}=: {why.value}",
                    hint=f"give {name}=, or set it for good in your dask configuration: "
                    f"dask-hpc: sites: {self.name}: {name}: ...",
                )

    def doubts(
        self, *, cores: int, memory: int | None, walltime: int | None, queue: str | None
    ) -> list[str]:
        """What of a request seems more than the machine has; it may have changed.

        Parameters
        ----------
        cores, memory, walltime, queue
            Of a job: memory in bytes, walltime in seconds.
        """
        found = []
        known = self._limits(queue)
        if "cores" in known and cores > known["cores"].value:
            found.append(f"{cores} cores, and its nodes have {known['cores'].value}")
        if "memory" in known and memory and memory > known["memory"].value:
            has = format_memory(known["memory"].value)
            found.append(f"{format_memory(memory)} of memory, and its nodes have {has}")
        if "walltime" in known and walltime and walltime > known["walltime"].value:
            most = format_walltime(known["walltime"].value)
            found.append(f"{format_walltime(walltime)} of walltime, and {most} is the most")
        return found

    def _limits(self, queue: str | None) -> Mapping[str, Fact]:
        """What is known of a queue; of one that is not listed, of the machine's nodes."""
        if queue is not None and queue in self.queues:
            return self.queues[queue]
        known = {"cores": self.cores, "memory": self.memory}
        if self.values.get("queue") in (None, queue):  # others have limits of their own
            known["walltime"] = self.walltime
        return {name: fact for name, fact in known.items() if fact is not None}


def names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str, own: Mapping[str, Mapping[str, Any]]) -> Profile:
    """Find a machine: the profile that comes with the package, or one of the user's own.

    Parameters
    ----------
    name
        Of the machine.
    own
        The user's own sites by name; one of the name of a profile adds to it.

    Returns
    -------
    Profile
        With what the user's section says about the machine; its keywords are not in it.

    Raises
    ------
    ConfigurationError
        If there is none of that name.
    """
    shipped = load(name) if name in names() else None
    if name in own:
        return _with_own(shipped or Profile(name=name), own[name])
    if shipped is None:
        known = [*own, *names()]
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`dask-hpc site list` shows them"
        raise ConfigurationError(f"no site {name!r}; there are: {', '.join(known)}", hint=hint)
    return shipped


def _with_own(profile: Profile, section: Mapping[str, Any]) -> Profile:
    wanted = section.get("requires") or {}
    if not isinstance(wanted, Mapping):  # a plain list of keywords
        wanted = dict.fromkeys(wanted, "your configuration says so")
    requires = {str(name): Fact(why, OWN) for name, why in wanted.items()}
    mine = (Fact(note, OWN) for note in section.get("notes") or ())
    known = _own_limits(profile.name, section)
    queues = section.get("queues") or {}
    if not isinstance(queues, Mapping):
        raise _no_section(f"{profile.name}.queues", queues)
    return Profile(
        name=profile.name,
        title=str(section.get("title") or profile.title),
        batch=str(section.get("batch") or profile.batch),
        keywords=profile.keywords,
        cores=known.get("cores", profile.cores),
        memory=known.get("memory", profile.memory),
        gpus=known.get("gpus", profile.gpus),
        walltime=known.get("walltime", profile.walltime),
        queues={
            str(queue): _own_limits(f"{profile.name}.queues.{queue}", values)
            for queue, values in queues.items()
        },
        nodes_submit=_own_submit(profile.name, section) or profile.nodes_submit,
        requires={**profile.requires, **requires},
        forbids=profile.forbids,
        notes=(*profile.notes, *mine),
        sources=profile.sources,
    )


def _own_limits(where: str, section: Any) -> dict[str, Fact]:
    """Facts in the keys ``node`` and ``walltime_limit`` of a user's section."""
    if not isinstance(section, Mapping):
        raise _no_section(where, section)
    node = section.get("node") or {}
    if not isinstance(node, Mapping):
        raise _no_section(f"{where}.node", node)
    found = {name: Fact(int(node[name]), OWN) for name in ("cores", "gpus") if name in node}
    if "memory" in node:
        found["memory"] = Fact(parse_memory(node["memory"]), OWN)
    if section.get("walltime_limit"):
        found["walltime"] = Fact(parse_walltime(section["walltime_limit"]), OWN)
    return found


def _own_submit(name: str, section: Mapping[str, Any]) -> Fact | None:
    said = section.get("nodes_submit")
    if not isinstance(said, bool | None):
        raise ConfigurationError(
            f"dask-hpc.sites.{name}.nodes_submit of your dask configuration is {said!r}",
            hint="write true, or false where jobs may not submit jobs",
        )
    return None if said is None else Fact(said, OWN)


def _no_section(where: str, value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"dask-hpc.sites.{where} of your dask configuration is {value!r}, not a section",
        hint="write node: {cores: 48, memory: 190 GiB} and walltime_limit: 1-00:00:00 there",
    )


def keywords_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords in a user's own site."""
    return {name: value for name, value in section.items() if name not in ABOUT}


def load(name: str) -> Profile:
    """Read a profile that comes with the package.

    Raises
    ------
    ConfigurationError
        If its file is not as a profile has to be.
    """
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return _profile(name, yaml.safe_load(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"the profile {name} cannot be read: {error!r}") from error


def _profile(name: str, values: Mapping[str, Any]) -> Profile:
    node = {key: _fact(each) for key, each in (values.get("node") or {}).items()}
    memory = node.get("memory")
    walltime = _fact(values["walltime"]) if "walltime" in values else None
    return Profile(
        name=name,
        title=values["title"],
        batch=values["batch"],
        keywords={key: _fact(each) for key, each in (values.get("keywords") or {}).items()},
        cores=node.get("cores"),
        memory=memory and Fact(parse_memory(memory.value), memory.source),
        gpus=node.get("gpus"),
        walltime=walltime and Fact(parse_walltime(walltime.value), walltime.source),
        nodes_submit=_fact(values["nodes_submit"]) if "nodes_submit" in values else None,
        requires={key: _fact(each) for key, each in (values.get("requires") or {}).items()},
        forbids=tuple(_fact(each) for each in values.get("forbids") or ()),
        notes=tuple(_fact(each) for each in values.get("notes") or ()),
        sources={
            key: Source(each["url"], str(each["seen"]))
            for key, each in (values.get("sources") or {}).items()
        },
    )


def _fact(entry: Mapping[str, Any]) -> Fact:
    return Fact(entry["value"], entry["source"])


def with_needed(needed: tuple[str, ...], own: tuple[str, ...], skip: tuple[str, ...]) -> list[str]:
    """Directives that a site needs before the user's own, which may replace or drop them.

    Parameters
    ----------
    needed, own
        Of the site; of the user.
    skip
        Options that the user wants left out.
    """
    replaced = {_option(line) for line in own} | set(skip)
    return [*(line for line in needed if _option(line) not in replaced), *own]


def _option(line: str) -> str:
    """What a directive sets: ``--qos`` of ``--qos=x``, ``-l filesystems`` of its PBS form."""
    match = re.match(r"\s*(-l\s+\w+|[^=\s]+)", line)
    return re.sub(r"\s+", " ", match[1]) if match else line
