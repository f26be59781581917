"""A fake system's programs as real programs: a directory for the PATH, state in one file.

Each run is a short Python process without site or user packages; they take turns by a lock.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakes.core import Core
from tests.fakes.front import Answer, answer

if TYPE_CHECKING:
    from tests.fakes.dialects.base import Dialect

ROOT = Path(__file__).parents[2]


def dialect(name: str) -> Dialect:
    """Make the dialect of a system; only its own module is imported."""
    made: Dialect = import_module(f"tests.fakes.dialects.{name}").DIALECT
    return made


@contextmanager
def held(state: Path) -> Iterator[Core]:
    """The core of an installed fake, for as long as nobody else may have it."""
    with state.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        core: Core = pickle.load(file)  # noqa: S301  (our own, in a test's directory)
        yield core
        file.seek(0)
        file.truncate()
        pickle.dump(core, file)


class Installed:
    """A fake system in a directory.

    Parameters
    ----------
    directory
        For its programs and its state.
    name
        Of the dialect.
    core
        How it begins.
    """

    def __init__(self, directory: Path, name: str, core: Core) -> None:
        self.dialect = dialect(name)
        self.bin = directory / "bin"
        self.state = directory / "state"
        self.bin.mkdir(parents=True)
        self.state.write_bytes(pickle.dumps(core))
        for program in self.dialect.programs:
            path = self.bin / program
            path.write_text(
                f"#!{sys.executable} -SI\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
                "from tests.fakes.path import main\n"
                f"main({name!r}, {str(self.state)!r}, {program!r})\n",
                encoding="utf-8",
            )
            path.chmod(0o755)

    @contextmanager
    def core(self) -> Iterator[Core]:
        """The truth, to look at and to change."""
        with held(self.state) as core:
            yield core


def main(name: str, state: str, program: str) -> None:
    """Be one of the programs."""
    stdin = ""
    speaks = dialect(name)
    if program in speaks.reads_stdin:
        stdin = sys.stdin.read()
    with held(Path(state)) as core:
        given: Answer = answer(speaks, core, (program, *sys.argv[1:]), os.environ, stdin)
        slow = core.faults.slow
    time.sleep(slow)
    sys.stderr.write(given.err)
    sys.stdout.buffer.write(given.out.encode())
    sys.stdout.flush()
    if given.fate == "hangs":
        signal.pause()
    if given.fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(given.code)
