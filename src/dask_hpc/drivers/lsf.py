"""IBM Spectrum LSF and OpenLava: bsub, bjobs, bkill.

Sources: bsub, bjobs, bkill, bparams and the environment variables in IBM's documentation of LSF
10.1, and what OpenLava 4.0 printed (tests/drivers/transcripts/openlava).  LSF itself was not seen.

The walltime is in minutes.  LSF multiplies it by the speed of the host relative to another one
(CPU factor), unless the site sets ABS_RUNLIMIT: a job may have less than it asked for.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers import lsf_words as words
from dask_hpc.drivers.base import Command, Driver, Listing, Output, Why, targets
from dask_hpc.drivers.lsf_jobs import reason_to_wait, status
from dask_hpc.drivers.lsf_units import in_unit, slots_per_node
from dask_hpc.drivers.script import arguments, run_by_interpreter
from dask_hpc.errors import BatchSystemError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.units import parse_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_ID = re.compile(
    r"^[ \t]*Job <([1-9]\d*)> is submitted to (?:default )?queue <[^>\n]+>\.", re.MULTILINE
)
_LIMIT = re.compile(r"MAX_JOB_ARRAY_SIZE\s*[=:]\s*(\d+)")


class LSF(Driver):
    """IBM Spectrum LSF."""

    name = "lsf"
    programs = ("bsub", "bjobs", "bkill")
    LIMITED = re.compile(
        r"[Pp]ending job (?:slot |number )?limit|Pending job threshold|job number limit"
    )  # from the manual, never seen
    directive_prefix = "#BSUB"
    # LSB_JOBNAME is NAME[3] on LSF, NAME[1-10] on OpenLava.
    worker_prefix = r"${LSB_JOBNAME%%\[*}-${LSB_JOBINDEX}"
    opens_log = True  # bsub -o collects what a job prints until it has ended
    first_index = 1
    version = Command(("bsub", "-V"))
    recognised_by = r"(?:Spectrum|Platform) LSF\D*([\d.]+)"
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "ncpus": "slots to request per node, where that is not what the workers use",
        "mem": "memory to request per node (32GB), likewise; per slot where the site counts so",
        "lsf_units": "unit of the site's memory options: LSF_UNIT_FOR_LIMITS in lsf.conf",
        "use_stdin": "no effect: bsub gets all options and the path of the script as arguments",
    }

    STATES: ClassVar[Mapping[str, JobState]] = {  # bjobs, STAT
        "PEND": JobState.PENDING,
        "FWD_PEND": JobState.PENDING,  # in another cluster
        "WAIT": JobState.PENDING,  # behind other jobs of a chunk
        "PROV": JobState.PENDING,  # its host is started: nothing of ours runs yet
        "PSUSP": JobState.HELD,
        "RUN": JobState.RUNNING,
        "USUSP": JobState.RUNNING,  # stopped by its owner; it goes on where it was
        "SSUSP": JobState.RUNNING,  # stopped by the site's policy, likewise
        "UNKWN": JobState.RUNNING,  # its node does not answer: it may run on
        "ZOMBI": JobState.ENDING,  # killed while its node does not answer
        "DONE": JobState.COMPLETED,
        "EXIT": JobState.FAILED,  # of whatever kind: the termination reason tells
    }

    #: Fields of `query`, and a line of them; NAME[INDEX] is an element's name.
    FIELDS: ClassVar[str] = (
        "jobid jobindex stat exit_code exec_host job_name exit_reason delimiter='|'"
    )
    LINE: ClassVar[re.Pattern[str]] = re.compile(
        r"(?P<array>\d+)\|(?P<index>[1-9]\d*)\|(?P<state>[A-Z_]+)\|(?P<code>\d*)-?\|(?P<host>[^|]*)"
        r"\|(?P<name>[A-Za-z][\w.-]*)(?:\[\d+\])?\|(?P<reason>.*)",
        re.ASCII,
    )

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: slots, all of a node's on one host."""
        slots = slots_per_node(spec)
        span = "span[hosts=1]" if spec.nodes == 1 else f"span[ptile={slots}]"
        lines = [f"-n {slots * spec.nodes}"]
        asked = spec.options.get("mem")
        memory = parse_memory(asked) if asked else spec.memory
        if memory is None:
            lines.append(f"-R {shlex.quote(span)}")
        else:
            limit, reserved = self._memory(memory, spec.options.get("lsf_units", ""))
            lines += [f"-R {shlex.quote(f'rusage[mem={reserved}] {span}')}", f"-M {limit}"]
        if spec.walltime is not None:
            lines.append(f"-W {-(-spec.walltime // 60)}")
        if spec.queue:
            lines.append(f"-q {shlex.quote(spec.queue)}")
        if spec.account:
            lines.append(f"-P {shlex.quote(spec.account)}")
        if spec.gpus:
            lines.append(self._gpus(spec.gpus))
        return tuple(lines)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: bsub reads directives from its standard input alone.

        Ours come last: they win.  ``-o`` keeps LSF from mailing what the job prints.
        """
        given = arguments(spec, self)
        ours = ("-J", f"{submission.name}[1-{submission.count}]", "-o", "/dev/null")
        # One argument: a line for the shell of the job, which has to survive signals to tell of
        # them.  The script is not executable.
        run = shlex.join(run_by_interpreter(spec, script))
        tolerant = words.TOLERANT if spec.nodes > 1 else ()
        return Command(("bsub", *given, *ours, run), words.UNSET, tolerant)

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: with several candidates none is taken for the id."""
        found: set[str] = set(_ID.findall(output.text))
        if len(found) == 1:
            return found.pop()
        if output.returncode > 0 and output.text and not found:  # a signal refuses nothing
            hint = next((words.HINTS[p] for p in words.HINTS if re.search(p, output.text)), "")
            said = "; ".join(line.strip() for line in output.text.splitlines() if line.strip())
            raise SubmitRejected(f"bsub refused the job: {said}", hint=hint)
        raise BatchSystemError(
            f"no single job id in what bsub printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain bsub",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`: all of this user's jobs while an id is not known.

        ``-J`` takes one name alone.  Jobs that have ended are listed for an hour (CLEAN_PERIOD).
        """
        ids = list(filter(None, arrays.values()))
        argv = ("bjobs", "-a", "-o", self.FIELDS)
        return Command((*argv, *(ids if len(ids) == len(arrays) else ())), words.UNSET)

    def answered(self, output: Output) -> bool:
        """See :meth:`Driver.answered`: it exits 255 if one of the arrays is not known."""
        return output.returncode == 0 or (
            words.NOTHING.search(output.text) is not None and not self.is_transient(output)
        )

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`: a line cut off lacks its end."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for line in output.stdout.splitlines(keepends=True):
            match = self.LINE.fullmatch(line.rstrip("\r\n"))
            if match and line.endswith("\n"):
                job = JobId(match["array"], int(match["index"]))
                jobs[job] = status(match.groupdict(), self.STATES)
                names[match["name"]] = job.array
        return Listing(jobs, names)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts as ``id[ranges]``."""
        which = [each.replace("_[", "[") for each in targets(jobs, arrays)]
        return [Command(("bkill", *which), words.UNSET)]

    def cancelled(self, output: Output) -> bool:
        """See :meth:`Driver.cancelled`."""
        lines = [line for line in output.text.splitlines() if line.strip()]
        gone = bool(lines) and all(map(words.CANCELLED.search, lines))
        return gone or output.returncode == 0

    def why(self, array: str) -> Command:
        """See :meth:`Driver.why`."""
        return Command(("bjobs", "-p", "-w", array), words.UNSET)

    def because(self, output: Output) -> Why:
        """See :meth:`Driver.because`: the reason that most of the jobs have."""
        return reason_to_wait(output.stdout)

    def limits(self) -> Command:
        """See :meth:`Driver.limits`."""
        return Command(("bparams", "-l"), words.UNSET)

    def array_limit(self, output: Output) -> int:
        """See :meth:`Driver.array_limit`: MAX_JOB_ARRAY_SIZE."""
        found = _LIMIT.search(output.stdout)
        return max(1, int(found[1])) if found else self.default_array_limit

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None

    def _memory(self, size: int, unit: str) -> tuple[str, str]:
        """Write the limit and the reservation, each rounded up.

        LSF 10.1 takes numbers with their unit; older ones take the site's.
        """
        text = str(in_unit(size, unit)) if unit else f"{in_unit(size, 'MB')}MB"
        return text, text

    def _gpus(self, count: int) -> str:
        return f"-gpu num={count}"
