"""The scratch of a job on this node, from looking for a place to leaving nothing behind.

Ties together the choice (:mod:`.storage`), the look (:mod:`.mounts`) and the directory
(:mod:`.leftovers`).  It starts threads: call it after the fork server is there.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from dask_hpc.errors import NodeError
from dask_hpc.model.job_environment import name_of_job
from dask_hpc.node import leftovers, mounts, own_settings, spilling, storage

if TYPE_CHECKING:
    from dask_hpc.node.leftovers import Directory
    from dask_hpc.node.options import WorkerOptions
    from dask_hpc.node.storage import Choice, Look

#: Seconds that one file system gets to answer: a network mount whose server is away never does.
LOOK_SECONDS = 5.0
#: Seconds for removing what is no longer used; the next job on the node does the rest.
REMOVE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What workers are told of their scratch.

    Parameters
    ----------
    directory
        Of this supervisor alone.
    about
        For the scheduler: where, on what, and why.
    settings
        Of the engine, by their full names.
    line, warnings
        For the log.
    counts_tmpfs
        Whether files in memory count against the workers' memory.
    """

    directory: str
    about: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""
    warnings: tuple[str, ...] = ()
    counts_tmpfs: bool = False


class Keeper:
    """Provides scratch, and removes it at the end of a ``with`` block."""

    def __init__(self) -> None:
        self._directory: Directory | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._directory is not None:
            remove = self._directory.remove
            with _deaf(), contextlib.suppress(TimeoutError):
                mounts.within(REMOVE_SECONDS, remove)

    def provide(self, wanted: WorkerOptions, workers: int) -> Place:
        """Look for a place, make a directory there, and clear away what dead jobs left.

        Parameters
        ----------
        wanted
            What the user asked.
        workers
            Of this node, which share it.

        Returns
        -------
        Place
            For the workers.

        Raises
        ------
        NodeError
            If no directory can be used at all.
        """
        policy = storage.check_policy(wanted.spill)
        me = leftovers.myself(name_of_job(os.environ))
        choice = _choose(wanted, policy, me)
        path = choice.look.candidate.path
        try:
            self._directory = mounts.within(LOOK_SECONDS, lambda: leftovers.Directory(path, me))
        except (OSError, TimeoutError) as error:  # full or gone since we looked
            raise NodeError(
                f"no scratch directory can be made in {choice.look}: {error}",
                hint="give another --local-directory (local_directory=)",
            ) from error
        return _place(choice, self._directory.path, workers, forced=policy == storage.NEVER)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let no signal in between: a job that ends by itself may be cancelled in the same moment."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _place(choice: Choice, directory: str, workers: int, *, forced: bool) -> Place:
    """Bring together what was chosen and what the user set."""
    own = own_settings.own()
    old = own_settings.from_old_directory(own)
    told = {f"{spilling.SECTION}.{name}": value for name, value in old.items()}
    own |= old
    choice_and_own = spilling.with_own(choice, own, forced=forced)
    return Place(
        directory=directory,
        about=choice_and_own.about(directory),
        settings={**told, **spilling.settings(choice, own, workers=workers, forced=forced)},
        line=str(choice_and_own),
        warnings=choice_and_own.warnings,
        counts_tmpfs=not choice_and_own.spill,
    )


def _choose(wanted: WorkerOptions, policy: str, me: leftovers.Owner) -> Choice:
    """Look at one candidate after the other until one is good: each look costs somebody a call."""
    import dask

    found = storage.candidates(
        os.environ,
        policy=policy,
        given=wanted.worker_options.get("local_directory", wanted.local_directory),
        configured=dask.config.get("temporary-directory", None),
        site=wanted.scratch,
    )
    looks: list[Look] = []
    for candidate in found:
        looks.append(_look(candidate, me))
        if storage.settled(looks, policy):
            return storage.choose(looks, policy)
    if all(look.problem for look in looks):
        known = {candidate.path for candidate in found}
        looks += [_look(each, me) for each in storage.last_resorts() if each.path not in known]
    return storage.choose(looks, policy)


def _look(candidate: storage.Candidate, me: leftovers.Owner) -> Look:
    """Look at a candidate, after what dead jobs left there is gone: it may fill the disk."""
    seen = mounts.look(candidate, LOOK_SECONDS)
    if not seen.system or seen.problem == storage.READ_ONLY:
        return seen
    clear: Callable[[], list[str]] = lambda: leftovers.clear(candidate.path, me, seen.kind)  # noqa: E731
    try:
        removed = mounts.within(REMOVE_SECONDS, clear)
    except TimeoutError:
        return seen
    return mounts.look(candidate, LOOK_SECONDS) if removed else seen
