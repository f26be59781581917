"""DRMAA: the commands submit, query and cancel for batch systems that have no driver here.

``python -m dask_hpc.batch.drmaa`` runs the batch system's own C library in a process of its own:
it never blocks the head's event loop, a crash of it takes nothing else with it, and what cancels
the jobs of a dead head works as with any other batch system.  How the command is built and what its
lines mean is :mod:`dask_hpc.drivers.drmaa`'s; what it remembers is in
:mod:`dask_hpc.batch.drmaa_book`.

Sources: Distributed Resource Management Application API 1.0 (GFD-R.133), and the Python package
``drmaa`` 0.7.9 with Son of Grid Engine's library.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dask_hpc.batch import drmaa_book as books
from dask_hpc.errors import (
    BatchSystemError,
    BatchSystemMissing,
    BatchSystemUnavailable,
    HPCError,
    SubmitRejected,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: What a job finds its submission's name in; DRMAA has no word for its index.
NAME_VARIABLE = "DASK_HPC_JOB"
_BUSY = 75  # sysexits.h, EX_TEMPFAIL
_TARGET = re.compile(r"(?P<name>[A-Za-z][\w.-]*?)(?:_\[(?P<ranges>[\d,-]+)\])?")
_ENDED = ("done", "failed")
# Jobs of a submission whose command died before it knew their ids: DRMAA cannot find them.
_UNSETTLED, _LOST = "unsettled", "lost"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SubmitRejected(f"{self.prog}: {message}")


def _library() -> Any:
    """The ``drmaa`` package with the batch system's C library loaded.

    Raises
    ------
    BatchSystemMissing
        If either is not here.
    """
    try:
        return importlib.import_module("drmaa")
    except ModuleNotFoundError as error:
        raise BatchSystemMissing(
            "the Python package drmaa is not installed here",
            hint="run: pip install 'dask-hpc[drmaa]'",
        ) from error
    except (RuntimeError, OSError) as error:  # no library was found, or it cannot be loaded
        hint = "name the batch system's libdrmaa.so in $DRMAA_LIBRARY_PATH"
        if "static TLS" in str(error):
            hint = "set GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096"
        raise BatchSystemMissing(f"no DRMAA library: {error}", hint=hint) from error


@contextmanager
def _session() -> Iterator[tuple[Any, Any]]:
    """A session, with the package; what it says that may pass becomes unavailability.

    Raises
    ------
    BatchSystemUnavailable
        If the batch system does not answer.
    """
    library = _library()
    errors = library.errors
    passing = (
        errors.DrmCommunicationException,
        errors.TryLaterException,
        errors.DrmsInitException,
    )
    try:
        session = library.Session()
        session.initialize()
        try:
            yield library, session
        finally:
            session.exit()
    except passing as error:
        raise BatchSystemUnavailable(
            f"the batch system does not answer: {_words(error)}"
        ) from error


def _words(error: BaseException) -> str:
    """A library's error on one line, without its number."""
    text = " ".join(str(error).split())
    return re.sub(r"^code \d+: ?", "", text) or type(error).__name__


def submit(argv: Sequence[str]) -> None:
    """Submit a command as a bulk of jobs and print the submission's name.

    Raises
    ------
    SubmitRejected
        If the batch system refused.
    BatchSystemError
        If the submission cannot be remembered.
    """
    parser = _Parser(prog="drmaa submit", description="Submit a bulk of jobs.")
    parser.add_argument("--name", required=True, help="name of the jobs, new")
    parser.add_argument("--count", required=True, type=int, help="how many")
    parser.add_argument("--logs", required=True, help="directory of their logs, NAME-INDEX.log")
    parser.add_argument("--native", default="", help="options in the batch system's own words")
    parser.add_argument("--set", action="append", default=[], help="a DRMAA attribute, NAME=VALUE")
    parser.add_argument("command", nargs="+", help="what each job runs")
    asked = parser.parse_args(argv)
    place = books.directory(os.environ)
    books.sweep(place)
    book = books.Book(asked.name, asked.count, time.time())
    with _session() as (library, session):
        books.write(place, book, new=True)
        try:
            template = _template(library, session, asked)
            book.ids = session.runBulkJobs(template, 1, asked.count, 1)
        except library.errors.DrmCommunicationException:
            raise  # it may have arrived: the file says so
        except Exception as error:  # the package raises plain ones too
            books.remove(place, asked.name)
            if isinstance(error, HPCError | library.errors.TryLaterException):
                raise
            raise SubmitRejected(_words(error)) from error
        books.write(place, book)
    _print(asked.name)


def _template(library: Any, session: Any, asked: argparse.Namespace) -> Any:
    template = session.createJobTemplate()
    template.jobName = asked.name
    template.remoteCommand, *template.args = asked.command
    template.jobEnvironment = {NAME_VARIABLE: asked.name}
    template.workingDirectory = str(Path.cwd())
    template.joinFiles = True
    index = library.JobTemplate.PARAMETRIC_INDEX
    template.outputPath = f":{asked.logs}/{asked.name}-{index}.log"  # the colon ends a host's name
    if asked.native:
        template.nativeSpecification = asked.native
    known = set(template.attributeNames) if asked.set else set()
    for text in asked.set:
        name, _, value = text.partition("=")
        if name not in known:
            raise SubmitRejected(
                f"the batch system's DRMAA library does not know {name}",
                hint="say it in native_specification instead, for example '-l h_rt={walltime}', "
                f"or leave it out with directives_skip=[{name!r}]",
            )
        # Not by the package's own property: it writes numbers as that many null bytes.
        library.helpers.Attribute(name).__set__(template, value)
    return template


def query(argv: Sequence[str]) -> None:
    """Print ``NAME_INDEX|STATE|EXIT|SIGNAL`` for each job of the submissions named.

    States are DRMAA's, or "unsettled" and "lost" where a submit command died half-way.  Jobs
    that the batch system no longer knows and whose end was never told are left out.
    """
    parser = _Parser(prog="drmaa query", description="List jobs, also those that have ended.")
    parser.add_argument("name", nargs="*", help="names of submissions")
    place = books.directory(os.environ)
    found = [books.read(place, name) for name in parser.parse_args(argv).name]
    with _session() as (library, session):
        lines = [line for book in found if book for line in _look(library, session, place, book)]
    _print(*lines)


def _look(library: Any, session: Any, place: Path, book: books.Book) -> Iterator[str]:
    if not book.ids:
        state = _UNSETTLED if time.time() - book.since < books.UNSETTLED else _LOST
        yield from (f"{book.name}_{index}|{state}||" for index in range(1, book.count + 1))
        return
    before, live = dict(book.ends), False
    for index, job in book.jobs():
        told = book.ends.get(index)
        if told is None:
            told = _state(library, session, job)
            if told and told[0] in _ENDED:
                book.ends[index] = told
            else:
                live |= told is not None
        if told:
            yield "|".join((f"{book.name}_{index}", *told))
    over = 0.0 if live else book.over or time.time()
    if book.ends != before or over != book.over:
        book.over = over
        books.write(place, book)


def _state(library: Any, session: Any, job: str) -> tuple[str, str, str] | None:
    """State, exit code and signal of a job; None where the batch system does not know it."""
    try:
        state = str(session.jobStatus(job))
    except library.errors.InvalidJobException:
        return None
    if state not in _ENDED:
        return state, "", ""
    try:
        info = session.wait(job, session.TIMEOUT_NO_WAIT)
    except Exception:  # noqa: BLE001  (a plain one says that nothing is recorded)
        return state, "", ""
    if info.hasExited:
        return ("failed" if info.exitStatus else "done"), str(info.exitStatus), ""
    return "failed", "", info.terminatedSignal or ("aborted" if info.wasAborted else "")


def cancel(argv: Sequence[str]) -> None:
    """Terminate submissions (``NAME``) and parts of them (``NAME_[1-3,7]``).

    Jobs and submissions that are not known are no error.

    Raises
    ------
    BatchSystemError
        If a job could not be terminated, after all were tried.
    """
    parser = _Parser(prog="drmaa cancel", description="Terminate jobs.")
    parser.add_argument("target", nargs="+", help="NAME or NAME_[RANGES]")
    place = books.directory(os.environ)
    ids = [job for text in parser.parse_args(argv).target for job in _ids(place, text)]
    refused = []
    with _session() as (library, session):
        for job in ids:
            try:
                session.control(job, library.JobControlAction.TERMINATE)
            except library.errors.InvalidJobException:
                continue  # it has ended
            except library.errors.DrmCommunicationException:
                raise
            except Exception as error:  # noqa: BLE001  (the package raises plain ones too)
                refused.append(f"{job}: {_words(error)}")
    if refused:
        raise BatchSystemError("; ".join(refused))


def _ids(place: Path, text: str) -> list[str]:
    from dask_hpc.drivers.base import parse_ranges  # late: the other commands do not need it

    match = _TARGET.fullmatch(text)
    if match is None:
        raise BatchSystemError(f"not a job: {text!r}", hint="write NAME or NAME_[1-3,7]")
    book = books.read(place, match["name"])
    if book is None:
        return []
    if not book.ids:  # nothing to terminate: what it started, if anything, ends by itself
        books.remove(place, book.name)
    wanted = set(parse_ranges(match["ranges"])) if match["ranges"] else None
    return [job for index, job in book.jobs() if wanted is None or index in wanted]


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "submit": submit,
    "query": query,
    "cancel": cancel,
}


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Returns
    -------
    int
        0; 75 when it may work later; 1 for any other error.
    """
    word, *rest = argv or ("",)
    if word not in COMMANDS:
        sys.stderr.write(f"usage: drmaa {{{','.join(COMMANDS)}}} ...\n")
        return 2
    try:
        COMMANDS[word](rest)
    except HPCError as error:
        sys.stderr.write(f"drmaa: {error}\n")
        return _BUSY if isinstance(error, BatchSystemUnavailable) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
