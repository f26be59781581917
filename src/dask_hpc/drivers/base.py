"""The contract of a driver: what it builds and what it reads.

A driver is pure: it turns our model into commands and scripts, and what they print into our model.
It runs nothing, waits for nothing and remembers nothing; :mod:`dask_hpc.batch` does.
"""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission


#: Name that no submission has.
_NOBODY = "dask-hpc-nobody"


@dataclass(frozen=True, slots=True)
class Command:
    """One command to run: an argument list, never a shell line.

    Parameters
    ----------
    argv
        The program and its arguments.
    unset
        Environment variables that it must not see, as shell patterns: a user's own defaults for
        the batch system's commands may filter what they list or change how they write it.
    variables
        Environment variables to set for it, names and values.
    """

    argv: tuple[str, ...]
    unset: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def environment(self, current: Mapping[str, str]) -> dict[str, str]:
        """The environment to run it in, made from the current one."""
        kept = {
            name: value
            for name, value in current.items()
            if not any(fnmatchcase(name, pattern) for pattern in self.unset)
        }
        return {**kept, **dict(self.variables)}

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed and how it ended."""

    command: Command
    returncode: int
    stdout: str = ""
    stderr: str = ""

    @property
    def text(self) -> str:
        """Both streams, for messages."""
        return "\n".join(part.strip() for part in (self.stderr, self.stdout) if part.strip())


@dataclass(frozen=True, slots=True)
class Listing:
    """What one query saw.

    Parameters
    ----------
    jobs
        The status of each job the batch system listed.
    names
        Array id of each job name listed, by which a submission whose id was lost is found.
    """

    jobs: Mapping[JobId, JobStatus] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Why:
    """Why jobs of an array wait, asked for where the query does not tell.

    Parameters
    ----------
    reason
        In plain words; empty where the batch system has none.
    impossible
        Whether they can never start as requested.
    """

    reason: str = ""
    impossible: bool = False


class Driver(ABC):
    """Translates the model to one batch system.

    Five functions and a state table make a driver: :meth:`submit`, :meth:`submitted`,
    :meth:`query`, :meth:`states`, :meth:`cancel`.  The others have defaults.
    """

    name: ClassVar[str]
    #: Commands it runs; a machine that has all of them may have this batch system.
    programs: ClassVar[tuple[str, ...]]
    directive_prefix: ClassVar[str]
    STATES: ClassVar[Mapping[str, JobState]]
    #: Keywords of this batch system alone (:attr:`JobSpec.options`), each with what it means.
    OPTIONS: ClassVar[Mapping[str, str]] = {}

    #: What tells the version without asking a server; None where no command does.
    version: ClassVar[Command | None] = None
    #: Pattern that what it prints must match, where other batch systems have programs of the
    #: same names; group 1, if there is one, is the version.
    recognised_by: ClassVar[str] = ""

    #: Shell expression that gives a running job the name of its array, a dash and its index.
    worker_prefix: ClassVar[str]
    #: Whether the script itself opens the job's log: else the submit command names it.  Some
    #: batch systems keep what a job prints on its node until it has ended.
    opens_log: ClassVar[bool] = False
    #: Index of an array's first job.
    first_index: ClassVar[int] = 0
    #: The most jobs in one array where the batch system does not tell (see `limits`).
    default_array_limit: ClassVar[int] = 1000
    #: In what the submit command says: the user has as many jobs as the site allows, and may have
    #: more once some have ended.
    LIMITED: ClassVar[re.Pattern[str] | None] = None
    #: Seconds after which an end is recorded where `history` finds it, at the latest.
    history_delay: ClassVar[float] = 0.0

    @abstractmethod
    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """Directives that request what the spec says, each an option as the script writes it."""

    @abstractmethod
    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """Command that submits the script as an array of ``submission.count`` jobs.

        The job's name is ``submission.name``; job ``i`` logs to :func:`log_path`.  The directives
        are in the script; where the batch system does not read them there, the command repeats
        them (:func:`dask_hpc.drivers.script.all_directives`).
        """

    @abstractmethod
    def submitted(self, output: Output) -> str:
        """Array id in what the submit command printed.

        Raises
        ------
        SubmitRejected
            If the batch system refused, with its own words.
        """

    @abstractmethod
    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """One command that lists all jobs of these arrays (name to id, None where not known)."""

    def answered(self, output: Output) -> bool:
        """Whether the query, or `history`, was answered.

        Some commands exit non-zero when they have nothing to list.
        """
        return output.returncode == 0

    def knock(self) -> Command:
        """Command that changes nothing and tells whether jobs may be submitted from this machine.

        By default a query: where that is not answered, nothing else is.
        """
        return self.query({_NOBODY: None})

    def welcomed(self, output: Output) -> bool:
        """Whether they may, by what `knock` printed."""
        return self.answered(output)

    @abstractmethod
    def states(self, output: Output) -> Listing:
        """Status of each job that the query listed."""

    @abstractmethod
    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> Sequence[Command]:
        """Commands that cancel these jobs: one, unless the batch system takes one array at a time.

        ``arrays`` gives the size of each array by id.  Jobs that have ended, or are not known,
        are no error.
        """

    def cancelled(self, output: Output) -> bool:
        """Whether a cancel command did its work; jobs that are gone make some exit non-zero."""
        return output.returncode == 0

    def history(self, arrays: Collection[str]) -> Sequence[Command]:  # noqa: ARG002
        """Commands for the ends of jobs that `query` no longer lists; none where nothing is kept.

        As few as the batch system allows.
        """
        return ()

    def ended(self, output: Output) -> Listing:  # noqa: ARG002
        """Status of each job in the output of `history`; empty where nothing is recorded."""
        return Listing()

    def why(self, array: str) -> Command | None:  # noqa: ARG002
        """Command that tells why the jobs of an array wait; None where the query tells."""
        return None

    def because(self, output: Output) -> Why:  # noqa: ARG002
        """Read the output of `why`."""
        return Why()

    def limits(self) -> Command | None:
        """Command that tells how large an array may be; None where it need not be asked."""
        return None

    def array_limit(self, output: Output) -> int:  # noqa: ARG002
        """The most jobs in one array, from the output of `limits`."""
        return self.default_array_limit

    def is_transient(self, output: Output) -> bool:  # noqa: ARG002
        """Whether a failed command may succeed later: the server is down or busy."""
        return False


def log_path(logs: Path, name: str, index: int | str) -> Path:
    """Where job ``index`` of the array called ``name`` writes its log."""
    return logs / f"{name}-{index}.log"


def targets(jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[str]:
    """Write jobs as a cancel command takes them: whole arrays as ``ID``, parts as ``ID_[0-3,7]``.

    Parameters
    ----------
    jobs
        To write.
    arrays
        Size of each array, by its id.
    """
    indices: dict[str, set[int]] = defaultdict(set)
    for job in jobs:
        indices[job.array].add(job.index)
    return [
        array if len(some) == arrays.get(array) else f"{array}_[{ranges(some)}]"
        for array, some in indices.items()
    ]


def ranges(indices: Collection[int]) -> str:
    """Write indices as ``0-3,7,9-10``."""
    parts: list[str] = []
    first = last = None
    for index in sorted(indices):
        if last is not None and index == last + 1:
            last = index
            continue
        if first is not None:
            parts.append(f"{first}" if first == last else f"{first}-{last}")
        first = last = index
    if first is not None:
        parts.append(f"{first}" if first == last else f"{first}-{last}")
    return ",".join(parts)


def parse_ranges(text: str) -> list[int]:
    """Read indices written as ``0-3,7`` or ``0-8:2``; the inverse of :func:`ranges`.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    indices: list[int] = []
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        indices.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return indices
