"""What the DRMAA commands remember: one small file per submission.

DRMAA lists no jobs: whoever asks must bring the ids.  ``HOME/drmaa/NAME.json`` holds those of one
submission in the order of their indices, and the ends that were seen, as the library tells each of
them once.  A file is there before the library is called, so that a command that dies in between is
recognised.  No library is called here.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dask_hpc.errors import BatchSystemError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Seconds after which a submission without ids is over: its command was killed long before.
UNSETTLED = 120.0
#: Seconds that the file of a submission is kept after all its jobs have ended: for a head that
#: was away, and for people who look.
KEEP = 24 * 3600.0
#: Seconds without a change after which a file is removed whatever it says: nobody asks any more.
EXPIRE = 90 * 24 * 3600.0

_NAME = re.compile(r"[A-Za-z][\w.-]*")


@dataclass(slots=True)
class Book:
    """One submission.

    Parameters
    ----------
    name, count
        Name of its jobs, and how many.
    since
        When it was submitted, in seconds since the epoch.
    ids
        The batch system's id of each job, the first index first; empty until it is known.
    ends
        State, exit code and signal of each job that has ended and whose end was told, by index.
    over
        When no job of it was known to live any more; 0 while one is.
    """

    name: str
    count: int
    since: float
    ids: list[str] = field(default_factory=list)
    ends: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    over: float = 0.0

    def jobs(self) -> Iterator[tuple[int, str]]:
        """Index and id of each job."""
        return enumerate(self.ids, start=1)


def directory(environment: Mapping[str, str]) -> Path:
    """Where the files are, made for this user alone if need be.

    Raises
    ------
    BatchSystemError
        If it cannot be made, is another's, or open to others.
    """
    home = Path(environment.get("DASK_HPC_HOME") or Path.home() / ".dask-hpc").absolute()
    path = home / "drmaa"
    try:
        for part in (home, path):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise BatchSystemError(
            f"cannot create {path}: {error.strerror}", hint="name another place in $DASK_HPC_HOME"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise BatchSystemError(f"{path} is not a directory of yours")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise BatchSystemError(f"others may use {path}", hint=f"run: chmod 700 {path}")
    return path


def path_of(place: Path, name: str) -> Path:
    """Path of a submission's file.

    Raises
    ------
    BatchSystemError
        If the name is none of ours: it might lead elsewhere.
    """
    if _NAME.fullmatch(name) is None:
        raise BatchSystemError(f"not a job name: {name!r}")
    return place / f"{name}.json"


def read(place: Path, name: str) -> Book | None:
    """Read a submission; None if there is none.

    Raises
    ------
    BatchSystemError
        If its file is broken.
    """
    path = path_of(place, name)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        ends = {int(index): tuple(map(str, end)) for index, end in kept.pop("ends").items()}
        return Book(**kept, ends=ends)  # type: ignore[arg-type]  # three words each, as written
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BatchSystemError(f"cannot read {path}: {error}", hint="remove it") from error


def write(place: Path, book: Book, *, new: bool = False) -> None:
    """Replace a submission's file at once; ``new`` where there must not be one yet.

    Raises
    ------
    BatchSystemError
        If it cannot be written.
    """
    path = path_of(place, book.name)
    target = path if new else path.with_suffix(f".{os.getpid()}")
    flags = os.O_EXCL if new else os.O_TRUNC
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
            json.dump(asdict(book), file)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            target.replace(path)
    except FileExistsError as error:
        raise BatchSystemError(f"jobs named {book.name} were submitted already") from error
    except OSError as error:
        raise BatchSystemError(f"cannot write {path}: {error.strerror}") from error


def remove(place: Path, name: str) -> None:
    """Forget a submission."""
    path_of(place, name).unlink(missing_ok=True)


def sweep(place: Path) -> None:
    """Remove the files of submissions that are long over."""
    now = time.time()
    for path in place.glob("*.json"):
        try:
            age = now - path.stat().st_mtime
            if age < KEEP:
                continue
            book = read(place, path.stem)
        except (OSError, BatchSystemError):  # another sweeps too; a broken one is left to be seen
            continue
        if age > EXPIRE or (book is not None and book.over and now - book.over > KEEP):
            path.unlink(missing_ok=True)
