"""OpenPBS 23.06: qsub, qstat, qselect, qdel.

Recorded in tests/drivers/transcripts/openpbs.  Not recorded: a server of that name that refuses
(the words of qselect there, for all commands), busy, and jobs of an array held one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tests.fakes import core as c
from tests.fakes.core import Array, Core, Job, Refused, Request
from tests.fakes.dialects.base import (
    Dialect,
    NotRecorded,
    directives,
    options,
    read,
    seconds,
    spans,
    stamp,
)
from tests.fakes.front import Answer

CTIME = "%a %b %d %H:%M:%S %Y"
LETTER = {c.PENDING: "Q", c.HELD: "H", c.RUNNING: "R", c.ENDING: "E"}
EXIT = {  # ends: killed over its walltime, deleted; and of a job over its memory (qsub(1B))
    c.TIMEOUT: "-29",
    c.CANCELLED: "271",
    c.MEMORY: "-27",
    c.NODE: "-5",
    c.PREEMPTED: "271",
}
USAGE = (
    "usage: qsub [-a date_time] [-A account_string] [-c interval]\n"
    "\t[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]\n"
)
UNITS = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}
VALUED = ("-C", "-N", "-J", "-t", "-j", "-o", "-l", "-q", "-A", "-S", "-P", "-W")


class PBS(Dialect):
    """OpenPBS."""

    name = "pbs"
    programs = ("qsub", "qstat", "qdel", "qselect")
    submits = "qsub"
    first = 1
    host = "pbshead"
    no_queue = "Unknown queue"
    unknown = "987654[]"
    tells_node = False  # in the short listing
    flags: tuple[str, ...] = ()
    #: qdel of several ids, the last of which is unknown, crashed the server.
    fragile = True
    forgets = True
    # A preempted job is requeued (substate of qstat -f); it does not end.
    absent = frozenset({c.PREEMPTED})
    documented = (r"alice TIME [HX] workq$",)  # qstat(1B), job states
    hostile = {"PBS_DPREFIX": "#NOBODY"}  # noqa: RUF012
    HEAD = (
        "Job id            Name             User              Time Use S Queue\n"
        "----------------  ---------------- ----------------  -------- - -----\n"
    )

    def version(self, program: str, argv: Sequence[str]) -> str | None:
        return "pbs_version = 23.06.06\n" if list(argv) == ["--version"] else None

    def down(self, program: str, argv: Sequence[str]) -> Answer | None:
        """server-down: qselect's exit code is not known, qstat's is 255 for another host."""
        if program == "sh":
            return None  # its commands fail, not the shell
        words = f"{program}: cannot connect to server {self.host} (errno=15010)\n"
        return Answer(255, "", f"Connection refused\n{words}")

    def busy(self, program: str, argv: Sequence[str]) -> Answer | None:
        if program == "sh":
            return None
        words = f"{program}: cannot connect to server {self.host} (errno=15007)\n"
        return Answer(255, "", f"Communication failure.\n{words}")

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        """03_array_running: jobs of an array; a job alone knows no index."""
        name = {"PBS_JOBNAME": array.name, "PBS_JOBID": self._id(array, job)}
        if self._alone(array):
            return name
        return {**name, "PBS_ARRAY_INDEX": str(job.index), "PBS_ARRAY_ID": self._id(array)}

    def log(self, array: Array, job: Job) -> str:
        return array.extra["output"].replace("^array_index^", str(job.index))

    # -- submit -----------------------------------------------------------------------------------

    def _qsub(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        given, rest = options(argv, (), VALUED)
        prefix = dict(given).get("-C", environ.get("PBS_DPREFIX", "#PBS"))
        text = read(rest[0])
        if text is None:
            return self._no_script(rest[0])
        lines = [word for line in directives(text, prefix) for word in _words(line)]
        inside, _ = options(lines, self.flags, VALUED)
        option = dict([*inside, *given])
        indices = self._indices(option)
        if indices is None:
            return Answer(2, "", f"qsub: illegal -J value\n{USAGE}")
        request = self._request([*inside, *given])
        alone = {"alone": "yes"} if len(indices) == 1 and not self._is_array(option) else {}
        try:
            request.check()
            self._check(request)
            array = core.submit(option["-N"], indices, request, text, output=option["-o"], **alone)
        except Refused as error:
            return self._refused(error)
        return Answer(0, f"{self._id(array)}\n")

    def _no_script(self, path: str) -> Answer:
        return Answer(1, "", "qsub: script file:: No such file or directory\n")

    def _is_array(self, option: Mapping[str, str]) -> bool:
        return "-J" in option

    def _indices(self, option: Mapping[str, str]) -> list[int] | None:
        """05_errors, 10_qdel_more: ``-J X-Y``, from two jobs on."""
        if "-J" not in option:
            return [1]
        indices = spans(option["-J"]) if re.fullmatch(r"\d+-\d+(:\d+)?", option["-J"]) else []
        return indices if len(indices) > 1 else None

    def _request(self, given: list[tuple[str, str]]) -> Request:
        request = Request()
        for name, value in given:
            if name == "-q":
                request.queue = value
            elif name == "-A":
                request.account = value
            elif name == "-l":
                self._resource(request, value)
        return request

    def _resource(self, request: Request, value: str) -> None:
        what, _, rest = value.partition("=")
        if what == "walltime":
            request.walltime = seconds(rest)
        elif what == "select":
            number, *chunk = rest.split(":")
            request.nodes = int(number)
            asked = dict(part.split("=") for part in chunk)
            request.cores, request.gpus = int(asked["ncpus"]), int(asked.get("ngpus", 0))
            request.memory = _bytes(asked["mem"]) if "mem" in asked else None
        elif what != "place":
            raise NotRecorded(f"-l {value}")

    def _check(self, request: Request) -> None:
        """05_errors: what cannot run is accepted; beyond a queue's limits it is not."""
        if request.fits() == "walltime":
            raise Refused("limits")

    def _refused(self, error: Refused) -> Answer:
        code, words = {
            "queue": (170, "Unknown queue"),
            "account": (1, "Invalid account"),
            "limits": (188, "Job violates queue and/or server resource limits"),
            "too many": (188, "Array job exceeds server or queue size limit"),
        }[error.why]
        return Answer(code, "", f"qsub: {words}\n")

    # -- look -------------------------------------------------------------------------------------

    def _qstat(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        given, ids = options(argv, ("-t", "-x", "-f", "-B"), ())
        option = {name for name, _ in given}
        if "-B" in option:
            head = f"Server: {self.host}\n    server_state = Active\n"
            return Answer(0, f"{head}    max_array_size = {core.max_array}\n\n")
        if not ids:  # all of everybody, who is alice
            ids = [self._id(array) for array in core.arrays.values() if array.live]
        out, err, code = "", "", 0
        for text in ids:
            array = self._find(core, text)
            if array is None or not self._known(core, array):
                err += f"qstat: {self._unknown(text)}\n"
                code = 153
            elif "-x" not in option and self._over(core, array):
                words = "Job has finished, use -x or -H to obtain historical job information"
                err += f"qstat: {self._id(array)} {words}\n"
                code = 35
            elif "-f" in option:
                out += "".join(self._records(core, array, option))
            else:
                out += "".join(self._rows(core, array, option))
        if out and "-f" not in option:
            out = self.HEAD + out
        return Answer(code, out, err)

    def _over(self, core: Core, array: Array) -> bool:
        return not array.live

    def _known(self, core: Core, array: Array) -> bool:
        return array.live or any(core.recorded(job) for job in array.jobs.values())

    def _unknown(self, text: str) -> str:
        return f"Unknown Job Id {text.partition('.')[0]}.{self.host}"

    def _rows(self, core: Core, array: Array, option: set[str]) -> Iterator[str]:
        began = any(job.started is not None for job in array.jobs.values())
        if self._alone(array):
            job = array.jobs[1]
            yield self._row(self._id(array), array.name, LETTER.get(job.state, "F"))
            return
        yield self._row(self._id(array), array.name, "B" if began else "Q")
        for job in array.jobs.values() if "-t" in option else ():
            if not job.vanished:
                letter = LETTER.get(job.state, "X")
                yield self._row(self._id(array, job), array.name, letter)

    def _row(self, id_: str, name: str, letter: str) -> str:
        return (
            f"{id_[:17]:<17} {name[:16]:<16} alice             00:00:00 {letter} workq           \n"
        )

    def _records(self, core: Core, array: Array, option: set[str]) -> Iterator[str]:
        if not self._alone(array):
            yield self._record(self._id(array), self._parent(array))
            if "-t" not in option:
                return
        for job in array.jobs.values():
            if not job.vanished and (job.live or core.recorded(job)):
                yield self._record(self._id(array, job), self._fields(array, job))

    def _record(self, id_: str, fields: Mapping[str, str]) -> str:
        lines = "".join(_folded(f"    {name} = {value}") for name, value in fields.items())
        return f"Job Id: {id_}\n{lines}\n"

    def _parent(self, array: Array) -> dict[str, str]:
        state = "B" if any(job.started for job in array.jobs.values()) else "Q"
        fields = {
            "Job_Name": array.name,
            "Job_Owner": f"alice@{self.host}",
            "job_state": state if array.live else "F",
            "queue": "workq",
            "substate": "10" if array.live else "92",
            "array": "True",
            "array_indices_submitted": f"1-{len(array.jobs)}",
        }
        if state == "Q" and array.live:
            fields["comment"] = self._comment(array)
        if not array.live:
            fields["Exit_status"] = "0"  # 09_history: whatever its jobs did
        return fields

    def _comment(self, array: Array) -> str:
        """06_pending_reasons."""
        cores = array.request.cores
        if array.request.fits():
            return f"Can Never Run: Insufficient amount of resource: ncpus (R: {cores} A: 12 T: 12)"
        return f"Not Running: Insufficient amount of resource: ncpus (R: {cores} A: 0 T: 12)"

    def _fields(self, array: Array, job: Job) -> dict[str, str]:
        fields = {
            "Job_Name": array.name,
            "Job_Owner": f"alice@{self.host}",
            "job_state": LETTER.get(job.state, "F"),
            "queue": "workq",
        }
        if job.state == c.PENDING:
            fields["comment"] = self._comment(array)
        if job.node:
            fields["exec_host"] = f"{job.node}/0*{array.request.cores}"
            fields["stime"] = stamp(job.started, CTIME)
        if not job.live:
            fields |= self._end(job)
        return fields

    def _end(self, job: Job) -> dict[str, str]:
        if job.started is None:
            return {"substate": "91", "history_timestamp": str(int(job.ended or 0))}
        bad = job.state not in (c.COMPLETED, c.CANCELLED)
        ended = {c.COMPLETED: "finished", c.CANCELLED: "terminated"}.get(job.state, "failed")
        return {
            "obittime": stamp(job.ended, CTIME),
            "substate": "91" if job.state == c.CANCELLED else "93" if bad or job.code else "92",
            "comment": f"Job run at Sun Nov 22 at 18:34 on ({job.node}:ncpus=1) and {ended}",
            "run_count": "1",
            "Exit_status": EXIT.get(job.state, str(job.code)),
            "history_timestamp": str(int(job.ended or 0)),
        }

    def _qselect(
        self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str
    ) -> Answer:
        given, rest = options(argv, (), ("-N", "-u"))
        if rest or set(dict(given)) - {"-N", "-u"}:
            raise NotRecorded(argv)
        name = dict(given)["-N"]
        return Answer(0, "".join(f"{id_}\n" for id_ in self._selected(core, name)))

    def _selected(self, core: Core, name: str) -> Iterator[str]:
        for array in core.arrays.values():
            if array.name == name and array.live:
                yield self._id(array)

    def _sh(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        """In one process, what a script for the real shell does over the real commands.

        Where programs are on the PATH the shell itself runs it.
        """
        import os
        import subprocess
        import tempfile

        from tests.fakes.path import Installed

        with tempfile.TemporaryDirectory() as directory:
            from pathlib import Path

            here = Installed(Path(directory) / "fake", self.name, core)
            path = f"{here.bin}{os.pathsep}/usr/bin{os.pathsep}/bin"
            done = subprocess.run(
                ["sh", *argv],
                capture_output=True,
                text=True,
                check=False,
                env={**environ, "PATH": path},
            )
        return Answer(done.returncode, done.stdout, done.stderr)

    # -- cancel -----------------------------------------------------------------------------------

    def _qdel(self, core: Core, argv: list[str], environ: Mapping[str, str], stdin: str) -> Answer:
        """05_errors, 08_qdel, 10_qdel_more."""
        given, ids = options(argv, (), ())
        if given or not ids:
            raise NotRecorded(argv)
        code, err, ended = 0, "", 0
        for text in ids:
            match = re.fullmatch(r"(\d+)(?:\[([\d,-]*)\])?(?:\.\w+)?", text)
            array = core.arrays.get(int(match[1])) if match else None
            if match is None or array is None or self._alone(array) != (match[2] is None):
                if self.fragile and len(ids) > 1 and text == ids[-1]:
                    core.faults.down = "refuses"  # facts: the server crashed
                err += f"qdel: {self._unknown(text)}\n"
                code = 153
                continue
            some = self._part(match[2])
            wanted = list(array.jobs) if some is None else some
            live = [i for i in wanted if i in array.jobs and array.jobs[i].live]
            if not live:
                err += f"qdel: Job has finished {text.partition('.')[0]}.{self.host}\n"
                code = 35
            ended += len(core.cancel(array, live))
        core.cancels.append(ended)
        return Answer(code, "", err)

    def _part(self, text: str | None) -> list[int] | None:
        """One index or one range, never a list."""
        if not text:
            return None
        if "," in text:
            raise NotRecorded(f"a list of ranges: {text}")
        return spans(text)

    # -- ids --------------------------------------------------------------------------------------

    def _alone(self, array: Array) -> bool:
        return "alone" in array.extra

    def _id(self, array: Array, job: Job | None = None) -> str:
        if self._alone(array):
            return f"{array.number}.{self.host}"
        return f"{array.number}[{job.index if job else ''}].{self.host}"

    def _find(self, core: Core, text: str) -> Array | None:
        match = re.fullmatch(r"(\d+)(\[(\d*)\])?(\.\w+)?", text)
        array = core.arrays.get(int(match[1])) if match else None
        if match is None or array is None or self._alone(array) != (match[2] is None):
            return None
        if not match[3]:
            return array
        if int(match[3]) not in array.jobs:
            return None
        one = Array(array.number, array.name, array.request, array.script)
        one.jobs = {int(match[3]): array.jobs[int(match[3])]}  # that job of the array alone
        return one


def _words(line: str) -> list[str]:
    import shlex

    return shlex.split(line)


def _bytes(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def _folded(line: str) -> str:
    """06_pending_reasons: a line over 79 characters goes on after a tab."""
    parts, rest = [line[:78]], line[78:]
    while rest:
        parts.append("\t" + rest[:70])
        rest = rest[70:]
    return "\n".join(parts) + "\n"


DIALECT = PBS()
