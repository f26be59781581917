"""Where the workers of a job keep scratch, and whether they spill there.

A pure choice over what was seen of each candidate; looking is :mod:`.mounts`' business, making the
directory :mod:`.leftovers`'.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_hpc.errors import ConfigurationError, NodeError
from dask_hpc.model.job_environment import job_of
from dask_hpc.node.filesystems import FileSystem, Kind

AUTO, NEVER = "auto", "never"

#: Bytes that must be free where workers spill: eight chunks of dask's usual 128 MiB.  A disk with
#: less is about to be full, and what fills the disk of a node stops its batch system too.
ROOM = 1 << 30
#: Looked at only when nothing else can be written.
_LAST = ("/var/tmp", "/dev/shm")  # noqa: S108  (what is made there is 0700, by mkdtemp)
#: What is wrong with a file system that takes no files.
READ_ONLY = "read-only"
_GIVEN = ("--local-directory", "temporary-directory")
_RANKS = (Kind.DISK, Kind.MEMORY, Kind.UNKNOWN, Kind.NETWORK)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A directory that may be used.

    Parameters
    ----------
    path
        Absolute.
    source
        Who names it.
    may_make
        Whether it is made where it is missing: somebody asked for it.
    """

    path: str
    source: str
    may_make: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a candidate.

    Parameters
    ----------
    candidate
        The directory.
    system
        The file system it is on; None where that could not be found out.
    free
        Bytes.
    short
        Why there is no room to spill: a quota; empty where that is no matter.
    problem
        Why it cannot be used at all; empty if it can.
    """

    candidate: Candidate
    system: FileSystem | None = None
    free: int = 0
    short: str = ""
    problem: str = ""

    @property
    def kind(self) -> Kind:
        """Where its bytes go."""
        return self.system.kind if self.system else Kind.UNKNOWN

    @property
    def takes_spill(self) -> bool:
        """Whether spilling there relieves the memory and troubles nobody else."""
        return not (self.problem or self.short) and self.kind is Kind.DISK and self.free >= ROOM

    def __str__(self) -> str:
        where = f"{self.candidate.path} ({self.candidate.source}"
        if self.problem:
            return f"{where}: {self.problem})"
        room = self.short or f"{_size(self.free)} free"
        return f"{where}: {self.system}, {room})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where scratch goes, and why.

    Parameters
    ----------
    look
        What was chosen.
    spill
        Whether workers spill there.
    why
        In words, for the log.
    warnings
        What the user should know.
    """

    look: Look
    spill: bool
    why: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"scratch in {self.look}: {self.why}"

    def about(self, directory: str) -> dict[str, Any]:
        """Say it to the scheduler: what a client finds under ``scratch`` of a worker."""
        system = self.look.system
        return {
            "directory": directory,
            "source": self.look.candidate.source,
            "type": system.type if system else "",
            "kind": str(self.look.kind),
            "free": self.look.free,
            "spill": self.spill,
            "why": self.why,
        }


def check_policy(text: str) -> str:
    """Read ``--spill``; variables of the job in a directory are those of this process.

    Raises
    ------
    ConfigurationError
        If it is neither a word that we know nor an absolute path.
    """
    path = os.path.expandvars(text)
    if text in (AUTO, NEVER) or Path(path).is_absolute():
        return path
    raise ConfigurationError(
        f"--spill {text!r} is neither auto nor never nor the absolute path of a directory"
        + (f" (here: {path!r})" if path != text else ""),
        hint="auto spills to a disk of the node where it has one, never keeps all in memory,"
        " /a/directory spills there whatever it is on",
    )


def candidates(
    environ: Mapping[str, str],
    *,
    policy: str = AUTO,
    given: str | None = None,
    configured: str | None = None,
    site: str | None = None,
) -> list[Candidate]:
    """List what may be used, the first choice first.

    Parameters
    ----------
    environ
        Of the job.
    policy
        See :func:`check_policy`; a directory goes before all others.
    given, configured
        ``--local-directory``; ``temporary-directory`` of the dask configuration.
    site
        What the site's profile names.

    Returns
    -------
    list of Candidate
        Each path once; relative ones of the environment are left out.
    """
    found: dict[str, Candidate] = {}
    for path, source in _named(environ, policy, given, configured, site):
        plain = os.path.abspath(path)  # noqa: PTH100  (no symbolic links are followed)
        asked = source in (*_GIVEN, "--spill", "the site")
        found.setdefault(plain, Candidate(plain, source, asked))
    return list(found.values())


def _named(
    environ: Mapping[str, str],
    policy: str,
    given: str | None,
    configured: str | None,
    site: str | None,
) -> Iterator[tuple[str, str]]:
    if policy not in (AUTO, NEVER):
        yield policy, "--spill"
    for path, source in zip((given, configured), _GIVEN, strict=True):
        if path:
            yield path, source
    row = job_of(environ)
    for name in row.scratch if row else ():
        if Path(environ.get(name, "")).is_absolute():
            yield environ[name], name
    of_site = os.path.expandvars(site or "")
    if Path(of_site).is_absolute():
        yield of_site, "the site"
    if Path(environ.get("TMPDIR", "")).is_absolute():
        yield environ["TMPDIR"], "TMPDIR"
    yield "/tmp", "the system"  # noqa: S108  (as above)


def last_resorts() -> list[Candidate]:
    """What remains where no candidate can be written."""
    here = os.path.abspath(os.curdir)  # noqa: PTH100  (as above)
    return [Candidate(path, "the last resort") for path in (*_LAST, here)]


def settled(looks: Sequence[Look], policy: str) -> bool:
    """Whether the last candidate that was looked at is the choice, whatever the others are."""
    last = looks[-1]
    if policy not in (AUTO, NEVER):
        return last.candidate.source == "--spill"
    return not last.problem and (last.candidate.source in _GIVEN or last.takes_spill)


def choose(looks: Sequence[Look], policy: str) -> Choice:
    """Choose among what was seen.

    Parameters
    ----------
    looks
        In the order of the candidates.
    policy
        See :func:`check_policy`.

    Returns
    -------
    Choice
        What the user named, if it can be used at all; else the first disk of this node with room;
        else what does the least harm: a disk without room before memory before a network.

    Raises
    ------
    NodeError
        If nothing can be used, or not the directory to spill into.
    """
    usable = [look for look in looks if not look.problem]
    refused = tuple(f"no scratch in {look}" for look in looks if look.problem and _asked(look))
    if policy not in (AUTO, NEVER):
        return _spill_into(looks[0])
    if not usable:
        raise NodeError(
            f"no directory for scratch can be used on this node: {'; '.join(map(str, looks))}",
            hint="give --local-directory (local_directory=) with one that can",
        )
    given = [look for look in usable if look.candidate.source in _GIVEN]
    order = given[:1] or [look for look in usable if look.takes_spill]
    chosen = order[0] if order else min(usable, key=lambda look: _RANKS.index(look.kind))
    if policy == NEVER:
        return Choice(look=chosen, spill=False, why=_no("as asked"), warnings=refused)
    if chosen.takes_spill:
        return Choice(look=chosen, spill=True, why="workers spill there", warnings=refused)
    others = [str(look) for look in looks if look is not chosen]
    why = _no(reason(chosen)) + (f"; looked at: {', '.join(others)}" if others else "")
    return Choice(look=chosen, spill=False, why=why, warnings=refused)


def _asked(look: Look) -> bool:
    return look.candidate.may_make or look.candidate.source not in ("TMPDIR", "the system")


def _spill_into(look: Look) -> Choice:
    if look.problem:
        raise NodeError(
            f"workers cannot spill to {look}",
            hint="give another directory, or --spill auto (spill='auto'), which looks for one",
        )
    warnings: tuple[str, ...] = ()
    if not look.takes_spill:
        warnings = (f"workers spill to {look} as asked, but {reason(look)}",)
    return Choice(look=look, spill=True, why="workers spill there, as asked", warnings=warnings)


def _no(because: str) -> str:
    return f"workers do not spill, and pause when their memory is full ({because})"


def reason(look: Look) -> str:
    """Why nobody should spill there."""
    if look.kind is Kind.MEMORY:
        return "that is memory too"
    if look.kind is not Kind.DISK:
        return "that is no disk of this node"
    return look.short or f"{_size(look.free)} free is too little"


def _size(amount: int) -> str:
    return f"{amount / (1 << 30):.1f} GiB"
