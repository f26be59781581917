"""A Slurm that lives in a dictionary and prints what the real one prints, with faults to order.

Serves only where faults must be injected or ten thousand jobs are wanted; the real Slurm's output
(tests/drivers/transcripts) is what it is held to by test_fake_slurm.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from dask_hpc.drivers.base import Command, Output, parse_ranges
from dask_hpc.errors import BatchSystemUnavailable

DOWN = "Unable to contact slurm controller (connect failure)"
LIVE = ("PENDING", "RUNNING")


@dataclass
class Element:
    state: str = "PENDING"
    reason: str = "Resources"
    started: float = 0.0
    joined: bool = False


@dataclass
class FakeSlurm:
    """One controller and a number of slots.

    `down`: nobody answers.  `lose_reply`: the next sbatch works, its answer is lost.
    `lose_request`: the next sbatch never arrives.
    `hide`: squeue forgets ended jobs at once (small MinJobAge).
    `broken_script`: jobs fail as they start.
    """

    slots: int = 1000
    max_array: int = 1001
    down: bool = False
    lose_reply: bool = False
    lose_request: bool = False
    hide: bool = False
    broken_script: bool = False
    accounting: bool = True
    refuse: str = ""
    arrays: dict[int, dict[int, Element]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    submits: list[tuple[str, int]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    next_id: int = 100
    on_submit: Callable[[int], None] = lambda _count: None

    async def run(self, command: Command) -> Output:
        """Stand where the runner stands."""
        self.commands.append(command.argv[0])
        code, out, err = self._answer(command)
        return Output(command, code, out, err)

    def live(self) -> int:
        """The truth: jobs that may run."""
        return sum(e.state in LIVE for array in self.arrays.values() for e in array.values())

    def jobs(self) -> list[tuple[str, int, Element]]:
        return [
            (self.names[number], index, element)
            for number, array in self.arrays.items()
            for index, element in array.items()
        ]

    def tick(self, now: float) -> list[str]:
        """Start what fits; names of workers that join."""
        running = sum(e.state == "RUNNING" for _, _, e in self.jobs())
        joined = []
        for name, index, element in self.jobs():
            if element.state == "PENDING" and running < self.slots:
                element.state, element.started, running = "RUNNING", now, running + 1
            elif element.state == "RUNNING" and self.broken_script and not element.joined:
                element.state, element.reason = "FAILED", "NonZeroExitCode"
            elif element.state == "RUNNING" and not element.joined:
                element.joined = True
                joined.append(f"{name}-{index}-0")
        return joined

    def _answer(self, command: Command) -> tuple[int, str, str]:
        program, *arguments = command.argv
        if self.down:
            return 1, "", f"{program}: error: {DOWN}"
        return getattr(self, f"_{program}")(command, arguments)

    def _sbatch(self, command: Command, arguments: list[str]) -> tuple[int, str, str]:
        if self.refuse:
            return 1, "", f"sbatch: error: {self.refuse}"
        if self.lose_request:
            self.lose_request = False
            raise BatchSystemUnavailable("sbatch did not end within 60 s")
        option = dict(a.lstrip("-").split("=", 1) for a in arguments if "=" in a)
        indices = parse_ranges(option["array"])
        if max(indices) >= self.max_array:
            text = "Batch job submission failed: Invalid job array specification"
            return 1, "", f"sbatch: error: {text}"
        self.on_submit(len(indices))
        number = self.next_id
        self.next_id += len(indices)
        self.arrays[number] = {index: Element() for index in indices}
        self.names[number] = option["job-name"]
        self.submits.append((option["job-name"], len(indices)))
        if self.lose_reply:
            self.lose_reply = False
            raise BatchSystemUnavailable("sbatch did not end within 60 s")
        return 0, f"{number}\n", ""

    def _squeue(self, command: Command, arguments: list[str]) -> tuple[int, str, str]:
        names = next(a for a in arguments if a.startswith("--name=")).partition("=")[2].split(",")
        rows = []
        for number, array in self.arrays.items():
            if self.names[number] not in names:
                continue
            rows += [
                self._row(number, i, e)
                for i, e in array.items()
                if e.state in LIVE or not self.hide
            ]
        return 0, "\n".join(rows) + "\n", ""

    def _row(self, number: int, index: int, e: Element) -> str:
        node, reason = ("", e.reason) if e.state == "PENDING" else ("node01", "None")
        return f"{number}_{index}|{e.state}|{node}|N/A|N/A|{self.names[number]}|{reason}"

    def _sacct(self, command: Command, arguments: list[str]) -> tuple[int, str, str]:
        if not self.accounting:
            return 1, "", "Slurm accounting storage is disabled"
        jobs = next(a for a in arguments if a.startswith("--jobs=")).partition("=")[2].split(",")
        rows = [
            f"{number}_{i}|{e.state}|1:0|node01|Unknown|Unknown"
            for number in map(int, jobs)
            for i, e in self.arrays.get(number, {}).items()
        ]
        return 0, "\n".join(rows) + "\n", ""

    def _scancel(self, command: Command, arguments: list[str]) -> tuple[int, str, str]:
        for target in arguments:
            match = re.fullmatch(r"(\d+)(?:_\[([\d,-]+)\])?", target)
            if match is None:
                continue
            array = self.arrays.get(int(match[1]), {})
            for index in parse_ranges(match[2]) if match[2] else list(array):
                if index in array and array[index].state in LIVE:
                    array[index].state = "CANCELLED"
        return 0, "", ""

    def _scontrol(self, command: Command, arguments: list[str]) -> tuple[int, str, str]:
        return 0, f"MaxArraySize            = {self.max_array}\n", ""
