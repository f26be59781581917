"""TORQUE (2020 master): what differs from OpenPBS.

Recorded in tests/drivers/transcripts/torque.  Jobs of an array are whole jobs, called NAME-INDEX;
ended ones stay in the listing for keep_completed seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import NotRecorded, options, seconds, spans, stamp
from tests.fakes.dialects.pbs import CTIME, LETTER, PBS, _bytes
from tests.fakes.front import Answer

EXIT = {c.TIMEOUT: "-11", c.CANCELLED: "271", c.MEMORY: "-10", c.NODE: "-5"}
NOWHERE = (
    "Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes file is empty, all"
    " systems are busy, or no nodes have the requested feature)"
)


class Torque(PBS):
    """TORQUE."""

    name = "torque"
    flags = ("-f",)  # qsub(1B): fault tolerant
    host = "tqhead"
    no_queue = "Unknown queue MSG=requested queue not found"
    fragile = False
    forgets = False
    documented = (r"alice TIME [QE] batch$",)  # qstat(1B), job states
    hostile: Mapping[str, str] = {"PBS_QSTAT_EXECONLY": "1"}
    # Its one listing is also its record.
    forgotten = dict.fromkeys(c.ENDS, "")
    HEAD = (
        "Job ID                    Name             User            Time Use S Queue\n"
        "------------------------- ---------------- --------------- -------- - -----\n"
    )

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        """01_version."""
        return "Version: 6.1.3\nCommit: 34ff845\n" if list(argv) == ["--version"] else None

    def down(self, program: str, argv: Sequence[str]) -> Answer | None:
        """05a_errors_then_server_crash."""
        if program == "sh":
            return None
        words = (
            "\nUnable to communicate with tqhead(10.81.0.10)\n"
            "Cannot connect to specified server host 'tqhead'.\n"
            f"{program}: cannot connect to server tqhead (errno=111) Connection refused\n"
        )
        return Answer(111, "", words)

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """documented in qsub(1B); the name as listed in 03_array_running."""
        if self._alone(array):
            return {"PBS_JOBNAME": array.name, "PBS_JOBID": self._id(array)}
        return {
            "PBS_JOBNAME": f"{array.name}-{job.index}",
            "PBS_JOBID": self._id(array, job),
            "PBS_ARRAYID": str(job.index),
        }

    def _no_script(self, path: str) -> Answer:
        words = f"script file '{path}' cannot be loaded - No such file or directory"
        return Answer(1, "", f"qsub: {words}\n")

    def _is_array(self, option: Mapping[str, str]) -> bool:
        return "-t" in option

    def _indices(self, option: Mapping[str, str]) -> list[int] | None:
        if "-J" in option:
            raise NotRecorded("-J")
        return spans(option["-t"]) if "-t" in option else [1]

    def _resource(self, request: Request, value: str) -> None:
        what, _, rest = value.partition("=")
        if what == "walltime":
            request.walltime = seconds(rest)
        elif what == "nodes":
            number, *chunk = rest.split(":")
            request.nodes = int(number)
            asked = dict(part.split("=") for part in chunk)
            request.cores, request.gpus = int(asked.get("ppn", 1)), int(asked.get("gpus", 0))
        elif what == "mem":  # of the whole job
            request.memory = _bytes(rest) // request.nodes
        else:
            raise NotRecorded(f"-l {value}")

    def _check(self, request: Request) -> None:
        if request.fits():
            raise Refused("limits")

    def _refused(self, error: Refused) -> Answer:
        code, words = {
            "queue": (172, "Unknown queue MSG=requested queue not found"),
            "account": (15, "Invalid account"),
            "limits": (190, NOWHERE),
            "too many": (235, "Bad Job Array Request"),
        }[error.why]
        return Answer(code, "", f"qsub: submit error ({words})\n")

    def _qstat(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        if "-x" in argv:
            raise NotRecorded("-x is XML")
        if "PBS_QSTAT_EXECONLY" in environ:
            raise NotRecorded("PBS_QSTAT_EXECONLY")
        return super()._qstat(core, argv, environ, stdin)

    def _over(self, core: Core, array: Array) -> bool:
        return False

    def _known(self, core: Core, array: Array) -> bool:
        return any(self._kept(core, job) for job in array.jobs.values())

    def _kept(self, core: Core, job: Job) -> bool:
        return core.listed(job) and (job.live or core.accounting)

    def _unknown(self, text: str) -> str:
        return f"Unknown Job Id Error {text.partition('.')[0]}.{self.host}"

    def _rows(self, core: Core, array: Array, option: set[str]) -> Iterator[str]:
        if "-t" not in option:
            raise NotRecorded("an array's id without -t lists everything")
        for job in array.jobs.values():
            if self._kept(core, job):
                name = array.name if self._alone(array) else f"{array.name}-{job.index}"
                yield self._row(self._id(array, job), name, LETTER.get(job.state, "C"))

    def _row(self, id_: str, name: str, letter: str) -> str:
        shown = name if len(name) <= 16 else "..." + name[-13:]
        return f"{id_:<26} {shown:<16} alice           00:00:00 {letter} batch          \n"

    def _records(self, core: Core, array: Array, option: set[str]) -> Iterator[str]:
        for job in array.jobs.values():
            if self._kept(core, job):
                yield self._record(self._id(array, job), self._fields(array, job))

    def _fields(self, array: Array, job: Job) -> dict[str, str]:
        fields = {
            "Job_Name": array.name if self._alone(array) else f"{array.name}-{job.index}",
            "Job_Owner": "alice@tqsub",
            "job_state": LETTER.get(job.state, "C"),
            "queue": "batch",
        }
        if job.state == c.PENDING:
            why = "Not enough of the right type of nodes are available"
            fields["comment"] = f"Not Running: {why}"
        if job.started is not None:
            fields["exec_host"] = f"{job.node}/0"
            fields["comment"] = "Job started on Sun Nov 22 at 18:56"
        if not job.live:
            if job.started is not None:
                fields["exit_status"] = EXIT.get(job.state, str(job.code))
            fields["comp_time"] = stamp(job.ended, CTIME)
        if job.started is not None:
            fields["start_time"] = stamp(job.started, CTIME)
        return fields

    def _selected(self, core: Core, name: str) -> Iterator[str]:
        """03, 08: qselect lists the jobs of arrays, by names of their own."""
        for array in core.arrays.values():
            for job in array.jobs.values():
                own = array.name if self._alone(array) else f"{array.name}-{job.index}"
                if own == name and self._kept(core, job):
                    yield self._id(array, job)

    def _qdel(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        """05_errors, 08_qdel: ``-t RANGES ID[]``."""
        given, ids = options(argv, (), ("-t",))
        part = dict(given).get("-t")
        code, err, ended = 0, "", 0
        for text in ids:
            array = self._find(core, text)
            if array is None or not self._known(core, array):
                err += f"qdel: nonexistent job id: {text}\n"
                code = 153
                continue
            wanted = spans(part) if part else list(array.jobs)
            live = [i for i in wanted if i in array.jobs and array.jobs[i].live]
            if not live:
                words = f"invalid state for job - COMPLETE {self._id(array)}"
                err += f"qdel: Request invalid for state of job MSG={words}\n"
                code = 170
            ended += len(core.cancel(array, live))
        core.cancels.append(ended)
        return Answer(code, "", err)


DIALECT = Torque()
