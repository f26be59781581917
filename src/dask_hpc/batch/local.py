"""The embedded batch system ``local``: its commands submit, query, cancel and serve.

It runs the very job script a real batch system would, in processes of this user on this machine:
arrays, slots, walltimes and states, so that everything works on a laptop.  For the rest of the
package it is a batch system like any other: commands outside, a pure driver for them.

The commands start in tens of milliseconds: the standard library only, and no more of it than the
command needs.  What they share with the server is in :mod:`dask_hpc.batch.local_directory`; no job
is run or judged here.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import select
import shlex
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dask_hpc.batch import local_directory as files
from dask_hpc.batch.local_book import line, load_line
from dask_hpc.batch.local_request import DEFAULT_WALLTIME, JOB_VARIABLES, Request
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, HPCError, SubmitRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PREFIX = "#LOCAL"
#: Jobs in one array: all their ends are remembered (see `local_book.KEEP_JOBS`).
MOST_JOBS = 1000
#: Slots per core.  Deliberately more than one: on a laptop a cluster is tried, and most of its
#: workers wait most of the time; jobs that never start would teach nothing.
SLOTS_PER_CORE = 4
#: Seconds until a server must have come up: Python's files may be on a slow, shared file system.
START = 30.0
_TARGET = re.compile(r"(?P<array>\d+)(?:_(?:(?P<index>\d+)|\[(?P<ranges>[\d,:-]+)\]))?")
_BUSY = 75  # sysexits.h, EX_TEMPFAIL


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SubmitRejected(f"{self.prog}: {message}")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_positive.__name__ = "positive number"  # argparse: "invalid positive number value"


def _options(prog: str) -> _Parser:
    """Options of a submission; those not given are absent, so that sources can be merged."""
    parser = _Parser(prog=prog, add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--name", help="name of the jobs")
    parser.add_argument("--count", type=_positive, help="jobs in the array")
    parser.add_argument("--log", help="a job's log; %%a is its index, %%A the array's id")
    parser.add_argument("--cores", type=_positive, help="slots each job takes")
    parser.add_argument("--memory", type=_positive, help="bytes; told to the job, not enforced")
    parser.add_argument("--walltime", type=_positive, help="seconds each job may run")
    return parser


def _directives(text: str, path: Path) -> dict[str, Any]:
    """Read the ``#LOCAL`` lines before the script's first command, as sbatch(1) does."""
    words: list[str] = []
    for row in text.splitlines():
        if row.strip() and not row.startswith("#"):
            break
        if row.startswith(f"{PREFIX} "):
            try:
                words += shlex.split(row.removeprefix(PREFIX))
            except ValueError as error:
                raise SubmitRejected(f"{path}: {row}: {error}") from error
    return vars(_options(f"{PREFIX} lines of {path}").parse_args(words))


def _request(argv: Sequence[str]) -> Request:
    parser = _Parser(
        prog="local submit",
        parents=[_options("")],
        add_help=True,
        argument_default=argparse.SUPPRESS,
        description=f"Submit a script as an array of jobs. Its {PREFIX} lines hold options too.",
    )
    parser.add_argument("script", type=Path)
    given = vars(parser.parse_args(argv))
    path: Path = given.pop("script")
    text = _script(path)
    asked = {**_directives(text, path), **given}
    name = asked.get("name", path.name)
    if not name or set(name) & set("|,/\n"):
        raise SubmitRejected(f"not a job name: {name!r}", hint="leave out commas, bars and slashes")
    if asked.get("count", 1) > MOST_JOBS:
        raise SubmitRejected(f"an array has at most {MOST_JOBS} jobs, not {asked['count']}")
    os.umask(umask := os.umask(0))
    return Request(
        name=name,
        count=asked.get("count", 1),
        log=str(Path(asked.get("log", f"{name}-%a.log")).absolute()),
        cores=asked.get("cores", 1),
        memory=asked.get("memory"),
        walltime=asked.get("walltime", DEFAULT_WALLTIME),
        script=text,
        directory=str(Path.cwd()),
        umask=umask,
        environment=dict(os.environ),
    )


def _script(path: Path) -> str:
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError as error:
        raise SubmitRejected(f"cannot read {path}: {error.strerror}") from error
    if not text.startswith("#!"):
        raise SubmitRejected(f"{path} is no script", hint="start it with #!/usr/bin/env bash")
    return text


def submit(argv: Sequence[str]) -> None:
    """Submit an array, starting a server if none runs, and print the array's id.

    Raises
    ------
    SubmitRejected
        If the request cannot be read.
    BatchSystemError
        If no server can be started.
    """
    request = _request(argv)
    directory = files.directory_path(os.environ)
    files.make_directory(directory)
    message = {"verb": "submit", "array": asdict(request)}
    deadline = time.monotonic() + files.PATIENCE
    while (answer := files.ask(directory, message)) is None:
        if time.monotonic() > deadline:
            raise files.busy(directory)
        _start_server(directory)  # none runs, or it was just ending: ask the next one
    _print(answer["array"])


def _start_server(directory: Path) -> None:
    """Start a server unless one runs; of submits at once, one does it and the others wait."""
    with files.locked(directory / files.START_LOCK, fcntl.LOCK_EX):
        if files.ask(directory, {"verb": "hello"}) is not None:
            return
        log = os.open(
            directory / files.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        waits, ready = os.pipe()
        try:
            subprocess.Popen(
                # -P: what lies in / or the user's directory is no module of ours
                [sys.executable, "-P", "-m", __spec__.name, "serve", f"--ready={ready}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_server_environment(directory),
                pass_fds=(ready,),
                start_new_session=True,
            )
            os.close(ready)
            if not select.select([waits], [], [], START)[0]:
                raise files.busy(directory)
            up = os.read(waits, 5)
        finally:
            os.close(waits)
            os.close(log)
    if not up:
        raise BatchSystemError(
            "the local batch system does not start", hint=f"see {directory / files.LOG}"
        )


def _server_environment(directory: Path) -> dict[str, str]:
    """Environment of a server: ours, but it is no part of the job that may have started it."""
    inherited = {k: v for k, v in os.environ.items() if k not in JOB_VARIABLES}
    return {**inherited, "DASK_HPC_LOCAL": str(directory)}


def query(argv: Sequence[str]) -> None:
    """Print ``ARRAY_INDEX|STATE|REASON|START|END|EXIT|SIGNAL|NAME`` for each job.

    Needs no server.  Instants are seconds since the epoch; what is not known is empty.
    """
    parser = _Parser(prog="local query", description="List jobs, also those that ended lately.")
    parser.add_argument("--name", help="names of jobs, with commas between; all if not given")
    wanted = parser.parse_args(argv).name
    directory = files.directory_path(os.environ)
    if not directory.exists():
        return
    files.check_directory(directory)
    names = None if wanted is None else set(wanted.split(","))
    jobs = files.observe(directory).jobs.values()
    _print(*(line(job) for job in jobs if names is None or job.name in names))


def load(argv: Sequence[str]) -> None:
    """Print ``slots|N`` and, in their order, ``running|CORES|SECONDS`` or ``pending|...`` of jobs.

    Seconds are those left of the walltime.  Without a server, the slots that one would have.

    Raises
    ------
    BatchSystemError
        If the number of slots that is set is none.
    """
    _Parser(prog="local load", description="List slots and what takes them.").parse_args(argv)
    directory = files.directory_path(os.environ)
    jobs, answer = [], None
    if directory.exists():
        files.check_directory(directory)
        answer = files.ask(directory, {"verb": "hello"})
        jobs = [job for job in files.observe(directory).jobs.values() if job.live]
    slots = (answer or {}).get("slots") or _slots(os.environ.get("DASK_HPC_LOCAL_SLOTS"))
    _print(f"slots|{slots}", *(load_line(job, now=time.time()) for job in jobs))


def cancel(argv: Sequence[str]) -> None:
    """Cancel arrays (``3``) and parts of arrays (``4_[0-2,7]``, ``4_5``).

    Returns when the server has accepted; what has ended or is not known is no error.

    Raises
    ------
    BatchSystemError
        If a target is no id.
    """
    parser = _Parser(prog="local cancel", description="Cancel jobs.")
    parser.add_argument("id", nargs="+", help="ARRAY, ARRAY_INDEX or ARRAY_[RANGES]")
    targets = [_target(text) for text in parser.parse_args(argv).id]
    directory = files.directory_path(os.environ)
    if directory.exists():
        files.check_directory(directory)
        files.ask(directory, {"verb": "cancel", "targets": targets})  # no server: no live job


def _target(text: str) -> tuple[int, list[int] | None]:
    from dask_hpc.drivers.base import parse_ranges  # late: the other commands do not need it

    match = _TARGET.fullmatch(text)
    try:
        if match is not None:
            part = match["index"] or match["ranges"]
            return int(match["array"]), parse_ranges(part) if part else None
    except ValueError:  # ranges such as "1-,"
        match = None
    raise BatchSystemError(f"not a job id: {text!r}", hint="write 3, 4_5 or 4_[0-2,7]")


def serve(argv: Sequence[str]) -> None:
    """Run the server until no job is live; ``submit`` starts it by itself."""
    from dask_hpc.batch import local_server  # late: asyncio costs the other commands 30 ms

    parser = _Parser(prog="local serve", description="Run jobs until none is left.")
    parser.add_argument("--slots", type=_positive, help="cores that jobs take together")
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    directory = files.directory_path(os.environ)
    files.make_directory(directory)
    slots = options.slots or _slots(os.environ.get("DASK_HPC_LOCAL_SLOTS"))
    local_server.serve(directory, slots=slots, ready=options.ready)


def _slots(chosen: str | None) -> int:
    if not chosen:
        return max(os.cpu_count() or 1, 1) * SLOTS_PER_CORE
    try:
        return _positive(chosen)
    except ValueError as error:
        raise BatchSystemError(f"$DASK_HPC_LOCAL_SLOTS is no number of cores: {chosen}") from error


def _print(*lines: object) -> None:
    sys.stdout.writelines(f"{text}\n" for text in lines)
    sys.stdout.flush()


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "submit": submit,
    "query": query,
    "cancel": cancel,
    "load": load,
    "serve": serve,
}


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Returns
    -------
    int
        0; 75 when it may work later ("local batch system is busy"); 1 for any other error.
    """
    word, *rest = argv or ("",)
    if word not in COMMANDS:
        print(f"usage: local {{{','.join(COMMANDS)}}} ...", file=sys.stderr)  # noqa: T201
        return 2
    try:
        COMMANDS[word](rest)
    except HPCError as error:
        print(f"local: {error}", file=sys.stderr)  # noqa: T201
        return _BUSY if isinstance(error, BatchSystemUnavailable) else 1
    except BrokenPipeError:  # `query | head`; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
