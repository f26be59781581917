"""Each dialect is held to what the real system printed, line by line.

Every line it prints has the shape of one that was recorded, every failure the exit code.  Shape:
numbers, names and times replaced; words, separators, fields and states kept.  What a dialect prints
from documentation alone is named by its `documented` patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_hpc.drivers.base import Output
from dask_hpc.drivers.registry import driver
from dask_hpc.drivers.script import job_script
from dask_hpc.errors import BatchSystemUnavailable, ConfigurationError
from dask_hpc.model.job import JobId, JobSpec, Submission
from tests.contract.site import SYSTEMS
from tests.drivers.replay import TRANSCRIPTS
from tests.fakes import core as c
from tests.fakes.core import Core
from tests.fakes.front import AFTER, BEFORE, WARNING
from tests.fakes.inprocess import InProcess

#: Where each system was recorded; the others were never seen.
RECORDED = {
    "slurm": "slurm",
    "flux": "flux",
    "pbs": "openpbs",
    "torque": "torque",
    "sge": "sge",
    "openlava": "openlava",
    "oar": "oar",
    "htcondor": "htcondor",
}
NEVER_SEEN = {"lsf"}
KEPT = ("state", "type", "status", "JobStatus")
NAME = "mine-1a2b"
SHAPES = (
    (r"N/A", "NONE"),
    (r"\b(?:mine-1a2b|rec-\w+|arr\w*|tqarr|slots|okjob|single|wall\w*)(?:-\d+)?(?=\W|$)", "NAME"),
    (r"<JB_name>.*<", "<JB_name>NAME<"),
    (r"^jobname\s+\S+", "jobname NAME"),
    (r"^(\d\S*\s+)\S+(\s+alice)", r"\1NAME\2"),
    (r"^(\d+ (?:[A-Z]+) \d* ?)\S+$", r"\1NAME"),
    (r"\b(?:Sun|Mon|Tue|Wed|Thu|Fri|Sat) \w{3} +\d+ [\d:]+ \d+", "TIME"),
    (r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d+ \d+:\d+", "TIME"),
    (r"(alice\s+)(?:[\d:]{8}|0)\s", r"\1TIME "),
    (r"(server )\S+( \(errno)", r"\1SERVER\2"),
    (r"^q\w+(: cannot connect)", r"qCOMMAND\1"),
    (r"^(\d+ +alice.* vm +\S+ +)\S+ +TIME", r"\1NAME TIME"),
    (r"^flux-\w+:", "flux-COMMAND:"),
    (r"\b(?:node|fn|pbsn|tqn|oln)\d+|olhead|localhost", "NODE"),
    (r"/[\w./-]+\b", "PATH"),
    (r"'?nosuch\w*(?:\.q)?'?", "WRONG"),
    (r"ƒ\w+", "ID"),
    (r"\d+(?:\.\d+)?", "N"),
    (r"\bN\[N?\]", "N"),  # an array, or a job of it
    (r"NAME\[N\]", "NAME"),
    (r"N(?:[-,:]N)+", "N"),  # several
    (r"(?<=\[ N)(?: N)+", ""),
    (r"\s+", " "),
)


def shapes(text: str) -> Iterator[str]:
    """What kind of lines a text has."""
    for line in text.replace("\n\t", "").splitlines():  # qstat -f folds lines
        if line.startswith('{"'):  # Flux: one line, whatever there is
            yield from (f'"{key}"' for key in re.findall(r'"(\w+)": ', line))
            continue
        pair = re.match(r'\s*"(\w+)"\s?: (.*?),?$', line)
        if pair:  # of a JSON object
            key, value = re.sub(r"^\d+$", "N", pair[1]), pair[2]
            kind = "text" if value[:1] == '"' else "list" if value[:1] == "[" else "value"
            yield f"{key}: {value if key in KEPT else kind}"
            continue
        record = re.match(r" {4}([\w.]+) = ", line)
        if record:  # of qstat -f
            yield f"{record[1]} ="
            continue
        shape = line
        for pattern, word in SHAPES:
            shape = re.sub(pattern, word, shape)
        yield shape.strip()


class Recordings:
    """All lines that one system printed, and the exit code of each command that failed."""

    def __init__(self, directory: str) -> None:
        self.lines: set[str] = {""}
        self.failures: list[tuple[int, set[str]]] = []
        for path in sorted((TRANSCRIPTS / directory).rglob("*.txt")):
            if not path.name.startswith("documented-"):
                self._read(path)

    def _read(self, path: Path) -> None:
        block: list[str] = []
        code = 0
        for line in [*path.read_text(encoding="utf-8").splitlines(), "$ "]:
            if line.startswith(("$ ", "# ")):
                told = set(shapes("\n".join(block)))
                self.lines |= told
                self.failures.append((code, told | {""}))
                block = []
            elif line.startswith("[rc="):
                code = int(line[4:-1])
            elif line.startswith(("out|", "err|")):
                block.append(line[5:])

    def code(self, output: Output) -> bool:
        """Whether something failed with this code and these words, of those that are recorded."""
        said = set(shapes(output.stderr + output.stdout)) & self.lines
        return any(output.returncode == code and said <= told for code, told in self.failures)


class Rig:
    """A fake and the commands that its driver builds."""

    def __init__(self, system: str, directory: Path) -> None:
        self.driver = driver(system)
        self.core = Core()
        self.batch = InProcess(system, self.core)
        self.core.forget = self.batch.dialect.forgets
        self.directory = directory

    def spec(self, **values: object) -> JobSpec:
        told = {"command": ("true",), "cores": 2, "log_directory": Path("/logs"), **values}
        return JobSpec(**told)  # type: ignore[arg-type]

    async def submit(self, count: int = 3, **values: object) -> Output:
        spec, script = self.spec(**values), self.directory / "job.sh"
        script.write_text(job_script(spec, self.driver), encoding="utf-8")
        first = self.driver.first_index
        return await self.batch.run(
            self.driver.submit(Submission(NAME, count, first), spec, script)
        )

    async def life(self) -> list[Output]:
        """What is printed of jobs in every state: submitted, listed, recorded, explained."""
        dialect = self.batch.dialect
        ends = [end for end in c.ENDS if end not in dialect.absent]
        outputs = [await self.submit(len(ends) + 4)]
        array = self.driver.submitted(outputs[0])
        (truth,) = self.core.arrays.values()
        waiting, held, running, ending, *over = truth.jobs.values()
        for job in (running, ending, *over):
            self.core.start(job)
        self.core.hold(held)
        ending.state = c.ENDING
        for job, end in zip(over, ends, strict=True):
            self.core.end(job, end, code=3 if end == c.FAILED else 0)
        assert waiting.live
        commands = [self.driver.query({NAME: array}), *self.driver.history([array])]
        if (why := self.driver.why(array)) is not None:
            commands.append(why)
        commands.extend(self.driver.cancel([JobId(array, waiting.index)], {array: 99}))
        outputs += [await self.batch.run(command) for command in commands]
        return [each for each in outputs if each.command.argv[0] != "sh"]


@pytest.fixture(params=sorted(RECORDED))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Each system that was seen, in turn."""
    return Rig(request.param, tmp_path)


@pytest.fixture
def recordings(rig: Rig) -> Recordings:
    return Recordings(RECORDED[rig.driver.name])


def unknown(rig: Rig, recordings: Recordings, output: Output) -> list[str]:
    """Lines of a shape that nobody has recorded."""
    said = [*shapes(output.stdout), *shapes(output.stderr)]
    documented = rig.batch.dialect.documented
    return [
        line
        for line in said
        if line not in recordings.lines and not any(re.search(p, line) for p in documented)
    ]


def test_every_dialect_is_held_to_recordings() -> None:
    """Or says that its system was never seen."""
    assert set(SYSTEMS) == set(RECORDED) | NEVER_SEEN


async def test_every_line_has_the_shape_of_a_recorded_one(rig: Rig, recordings: Recordings) -> None:
    """Jobs in every state, listed, recorded and explained."""
    for output in await rig.life():
        assert output.returncode != 99, output.stderr
        assert unknown(rig, recordings, output) == [], str(output.command)


async def test_refusals_are_the_real_ones(rig: Rig, recordings: Recordings) -> None:
    """A queue that is not there; a job larger than any node, where that is refused."""
    dialect = rig.batch.dialect
    outputs = []
    for values in (dialect.refused, {"cores": 65}):
        try:
            outputs.append(await rig.submit(2, **values))
        except ConfigurationError:
            continue
    for output in outputs:
        assert unknown(rig, recordings, output) == [], str(output.command)
        if output.returncode:
            assert recordings.code(output), (output.returncode, output.text)
    assert any(output.returncode for output in outputs)


async def test_unknown_and_ended_jobs_are_answered_as_recorded(
    rig: Rig, recordings: Recordings
) -> None:
    """Cancelled and looked for: the words and the exit code."""
    dialect = rig.batch.dialect
    array = rig.driver.submitted(await rig.submit(2))
    first = rig.driver.first_index
    sizes = {dialect.unknown: 2, array: 2}
    commands = [
        *rig.driver.cancel(
            [JobId(dialect.unknown, first), JobId(dialect.unknown, first + 1)], sizes
        ),
        *rig.driver.cancel([JobId(array, first), JobId(array, first + 1)], sizes),
        *rig.driver.cancel([JobId(array, first), JobId(array, first + 1)], sizes),
        rig.driver.query({NAME: dialect.unknown}),
        *rig.driver.history([dialect.unknown]),
    ]
    for command in commands:
        output = await rig.batch.run(command)
        assert unknown(rig, recordings, output) == [], str(command)
        if output.returncode and output.text:
            assert recordings.code(output), (output.returncode, output.text)


async def test_a_server_that_is_down_is_as_silent(rig: Rig, recordings: Recordings) -> None:
    """The words and exit codes of each command, or none at all."""
    array = rig.driver.submitted(await rig.submit(2))
    rig.core.faults.down = "refuses"
    spec, script = rig.spec(), rig.directory / "job.sh"
    first = rig.driver.first_index
    commands = [
        rig.driver.query({NAME: array}),
        rig.driver.submit(Submission(NAME, 2, first), spec, script),
        *rig.driver.cancel([JobId(array, first)], {array: 2}),
    ]
    for command in commands:
        try:
            output = await rig.batch.run(command)
        except BatchSystemUnavailable:
            assert rig.batch.dialect.hangs
            continue
        assert output.returncode != 0
        assert unknown(rig, recordings, output) == [], str(command)
        assert rig.driver.is_transient(output), output.text


@pytest.mark.parametrize("text", [BEFORE, AFTER, WARNING])
def test_chatter_is_no_systems_own(text: str) -> None:
    """What the wrapper says, no batch system says."""
    said = set(shapes(text)) - {""}
    for directory in RECORDED.values():
        assert not said & Recordings(directory).lines
