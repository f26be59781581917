"""Read recorded transcripts: ``$ command``, ``[rc=N]``, ``out| `` and ``err| `` lines.

``## `` is a note, ``# command`` was run by root.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from dask_hpc.drivers.base import Command, Output

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@dataclass(frozen=True)
class Transcript:
    """The commands of one recording, in order."""

    outputs: tuple[Output, ...]

    def all(self, program: str) -> list[Output]:
        """What each run of a program printed."""
        return [each for each in self.outputs if each.command.argv[0] == program]

    def replay(self, command: Command, nth: int = 0) -> Output:
        """What exactly this command printed the nth time; -1 is the last."""
        runs = [each for each in self.outputs if each.command.argv == command.argv]
        assert runs, f"not recorded: {command}"
        return runs[nth]


def load(name: str) -> Transcript:
    """Read ``transcripts/<name>.txt``."""
    outputs: list[Output] = []
    for line in (TRANSCRIPTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(("$ ", "# ")):
            outputs.append(Output(Command(tuple(shlex.split(line[2:]))), 0))
        elif line.startswith("[rc="):
            outputs[-1] = Output(outputs[-1].command, int(line[4:-1]))
        elif line.startswith(("out| ", "err| ")):
            last, text = outputs[-1], line[5:] + "\n"
            out, err = (text, "") if line.startswith("out") else ("", text)
            outputs[-1] = Output(
                last.command, last.returncode, last.stdout + out, last.stderr + err
            )
        else:
            assert not line or line.startswith("##"), line
    return Transcript(tuple(outputs))
