"""What a dialect is: a system's commands in, its words out; and small helpers to read options.

A dialect says in its first lines where its output was recorded.  What the real command would not
print, it must not print either; an option that nobody recorded ends the test.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from tests.fakes.core import Array, Core, Job
from tests.fakes.front import Answer


class NotRecorded(Exception):
    """A command was given something whose effect nobody has recorded."""


class Dialect:
    """One system's way to say what happens in the core."""

    name: str
    programs: tuple[str, ...]
    #: The program that submits.
    submits: str
    #: Programs that read their standard input.
    reads_stdin: frozenset[str] = frozenset()
    #: Index of an array's first job.
    first = 0
    #: Whether ended jobs leave the listing at once.
    forgets = False
    #: A message that the system writes for a queue that is not there.
    no_queue: str
    #: Of a spec, what the system refuses.
    refused: Mapping[str, str] = {"queue": "nosuch"}
    #: An id that no array has.
    unknown = "987654"
    #: What the system cannot tell apart: the core's state, and the word of our model it becomes.
    #: Each with the recording that shows it.
    tells: Mapping[str, str] = {}
    #: The same where the listing has forgotten the job and only a record is left; "" is no trace.
    forgotten: Mapping[str, str] = {}
    #: Ends that the system does not know.
    absent: frozenset[str] = frozenset()
    #: Whether every job stays in the listing for ever, so that there is no record apart.
    records = False
    #: The site's own keywords with which a spec is to be asked for.
    asks: Mapping[str, str] = {}
    #: Whether the listing names the node of a job that runs.
    tells_node = True
    #: Whether a program that is not answered hangs rather than fails.
    hangs = False
    #: What of a spec the system has no neutral word for, so that a site's own must say it.
    unasked: frozenset[str] = frozenset()
    #: Patterns of lines that are from documentation, not from a recording; each says which.
    documented: tuple[str, ...] = ()
    #: Variables of a user that change what the commands do.
    hostile: Mapping[str, str] = {}

    def is_submit(self, argv: Sequence[str]) -> bool:
        """Whether a run of the submitting program submits."""
        return True

    def tells_code(self, core: Core) -> bool:
        """Whether the exit code of a failed job is told."""
        return True

    def run(
        self, core: Core, program: str, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        """Answer one command."""
        handler = getattr(self, "_" + program.replace("-", "_"))
        try:
            given: Answer = handler(core, argv, environ, stdin)
        except NotRecorded as error:
            return Answer(99, "", f"fake {program}: not recorded: {error}\n")
        return given

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        """What a command that asks for the version prints; None for any other."""
        return None

    def down(self, program: str, argv: Sequence[str]) -> Answer | None:
        """What a command says while the server is down; None if it needs none."""
        raise NotImplementedError

    def busy(self, program: str, argv: Sequence[str]) -> Answer | None:
        """What a command says when it should be tried again; None if it never need be."""
        raise NotImplementedError

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """What the system puts into a job's environment, and the script's shell sees."""
        raise NotImplementedError

    def log(self, array: Array, job: Job) -> str:
        """The file into which the system writes what a job prints."""
        raise NotImplementedError


def options(
    argv: Sequence[str], flags: Iterable[str], valued: Iterable[str], stop: bool = True
) -> tuple[list[tuple[str, str]], list[str]]:
    """Read options in the classic way: ``-x``, ``-x value``, ``--long=value``, ``--long value``.

    ``stop``: the first word that is no option ends them, as in ``qsub script arguments``.
    """
    flags, valued = set(flags), set(valued)
    found: list[tuple[str, str]] = []
    rest: list[str] = []
    # Clustered values (-J5) are nobody's here.
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            return found, rest + words
        if word in flags:
            found.append((word, ""))
        elif word in valued:
            found.append((word, words.pop(0)))
        elif equals and name.startswith("--") and name in valued:
            found.append((name, value))
        elif word.startswith("-") and word != "-":
            raise NotRecorded(f"option {word}")
        elif stop:
            return found, [word, *words]
        else:
            rest.append(word)
    return found, rest


def directives(text: str, prefix: str) -> list[str]:
    """Lines after the prefix at the head of a script, up to the first command."""
    lines = []
    for line in text.splitlines():
        if line.startswith(prefix):
            lines.append(line[len(prefix) :].strip())
        elif line.strip() and not line.startswith("#"):
            break
    return lines


def read(path: str) -> str | None:
    """Text of a script; None if there is none."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  (pathlib is slow to import)
            return file.read()
    except OSError:
        return None


def spans(text: str) -> list[int]:
    """Indices of ``0-3,7`` or ``1-8:2``."""
    found: list[int] = []
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        found.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def seconds(text: str) -> int:
    """Seconds of ``H:M:S``, ``M:S`` or ``D-H:M:S``."""
    days, dash, rest = text.rpartition("-")
    total = 0
    for part in rest.split(":"):
        total = total * 60 + int(part)
    return total + (int(days) * 86400 if dash else 0)


def stamp(when: float | None, form: str) -> str:
    """An instant in local time."""
    return "" if when is None else time.strftime(form, time.localtime(when))
