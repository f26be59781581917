"""OAR: oarsub, oarstat, oardel.

Sources: oarsub(1), oarstat(1), oardel(1) of OAR 2.5.9, what the real commands printed
(tests/drivers/transcripts/oar), and OAR's Perl modules where the manual is silent.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dask_hpc.drivers import oar_words as words
from dask_hpc.drivers.base import Command, Driver, Listing, Output
from dask_hpc.drivers.oar_resources import MEMORY, NO_MEMORY, RESOURCES, resources
from dask_hpc.drivers.script import arguments, run_by_interpreter
from dask_hpc.errors import BatchSystemError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Admission rules print what they like around these lines, and a refusal prints OAR_JOB_ID=-5.
# A line without its end may be cut.
_ARRAY = re.compile(r"^OAR_ARRAY_ID=([1-9]\d*)[ \t\r]*\n", re.MULTILINE)
_JOB = re.compile(r"^OAR_JOB_ID=([1-9]\d*)[ \t\r]*\n", re.MULTILINE)


class OAR(Driver):
    """OAR."""

    name = "oar"
    programs = ("oarsub", "oarstat", "oardel")
    directive_prefix = "#OAR"
    worker_prefix = "${OAR_JOB_NAME}-${OAR_ARRAY_INDEX}"
    opens_log = True  # a name that OAR opens can hold the job's own id, never its index
    first_index = 1
    version = Command(("oarstat", "--version"))
    recognised_by = r"^OAR version ?: (\S+)"

    STATES: ClassVar[Mapping[str, JobState]] = {  # the table "jobs", column "state"
        "Waiting": JobState.PENDING,
        "Hold": JobState.HELD,
        "toLaunch": JobState.PENDING,
        "toAckReservation": JobState.PENDING,
        "Launching": JobState.PENDING,  # nodes are set up: nothing of ours runs yet
        "Running": JobState.RUNNING,
        "Suspended": JobState.RUNNING,  # frozen; it goes on where it was
        "Resuming": JobState.RUNNING,
        "Finishing": JobState.ENDING,  # epilogue; its cores are not free yet
        "toError": JobState.ENDING,
        "Terminated": JobState.COMPLETED,  # whatever its exit status: see _status
        "Error": JobState.FAILED,  # also cancelled, out of time, preempted: its events tell
    }
    OPTIONS: ClassVar[Mapping[str, str]] = {
        RESOURCES: "the resource hierarchy of oarsub -l, in place of /nodes=N/core=C",
        MEMORY: (
            "the site's resource property with the MiB of memory per core: jobs then go only where "
            f"there is enough; {NO_MEMORY!r} where there is none"
        ),
    }

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: oarsub(1).

        One ``-l``: a second one would be an alternative to it.  Memory is a condition in it, as of
        several ``-p`` OAR takes the last, and that may be the user's.
        """
        lines = [f"-l {shlex.quote(resources(spec))}"]
        if spec.queue:
            lines.append(f"-q {shlex.quote(spec.queue)}")
        if spec.account:
            lines.append(f"--project {shlex.quote(spec.account)}")
        return tuple(lines)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: OAR reads directives in executable scripts alone.

        Ours is not; the user's login shell runs the command, which therefore is quoted.
        """
        given = arguments(spec, self)
        run = shlex.join(run_by_interpreter(spec, script))
        ours = ("-n", submission.name, "--array", str(submission.count))
        return Command(("oarsub", *given, *ours, "-O", "/dev/null", "-E", "/dev/null", run))

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: an array of one prints its job's id alone; the same."""
        if output.returncode > 0 and output.text:  # killed by a signal, it refuses nothing
            said = words.refusal(output.stderr) or output.text
            raise SubmitRejected(f"oarsub refused the job: {said}", hint=words.hint(output.text))
        found: set[str] = set(_ARRAY.findall(output.stdout) or _JOB.findall(output.stdout))
        if output.returncode == 0 and len(found) == 1:
            return found.pop()
        raise BatchSystemError(
            f"no single array id in what oarsub printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain oarsub",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`: ended jobs too, for ever; only the full view tells their ends.

        The condition is on OAR's table of jobs; asked for a name, the database reads all of it.
        """
        ids = sorted({id_ for id_ in arrays.values() if id_ is not None}, key=int)
        lost = sorted(name for name, id_ in arrays.items() if id_ is None)
        where = [f"array_id IN ({','.join(ids)})"] if ids else []
        if lost:
            where.append(f"job_name IN ({','.join(map(repr, lost))})")
        return Command(("oarstat", "--full", "--json", "--sql", " OR ".join(where)))

    def answered(self, output: Output) -> bool:
        """See :meth:`Driver.answered`: a statement that the database refused also exits 0.

        It prints nothing then; the jobs of an array that has an id are always listed.
        """
        must = "array_id" in output.command.argv[-1]
        return output.returncode == 0 and ("{" in output.stdout or not must)

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`: of a job that OAR submitted again the latest life counts."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for job in sorted(words.rows(output.stdout), key=lambda job: job["Job_Id"]):
            array = str(job["array_id"])
            jobs[JobId(array, job["array_index"])] = self._status(job)
            if job["name"]:
                names[job["name"]] = array
        return Listing(jobs, names)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`.

        By index, since the ids of an array's jobs need not follow each other; only those that have
        not ended, as oardel would note a request against the others.
        """
        parts: dict[str, list[int]] = {}
        for job in sorted(jobs, key=lambda job: (int(job.array), job.index)):
            parts.setdefault(job.array, []).append(job.index)
        whole = [array for array, some in parts.items() if len(some) == arrays.get(array)]
        which = [f"array_id IN ({','.join(whole)})"] if whole else []
        which += [
            f"(array_id = {array} AND array_index IN ({','.join(map(str, some))}))"
            for array, some in parts.items()
            if array not in whole
        ]
        live = "state NOT IN ('Terminated','Error')"
        return [Command(("oardel", "--sql", f"{live} AND ({' OR '.join(which)})"))]

    def cancelled(self, output: Output) -> bool:
        """See :meth:`Driver.cancelled`: what is being killed already exits 6."""
        errors = output.stderr.splitlines()
        killed = bool(errors) and all(words.KILLED.fullmatch(line.strip()) for line in errors)
        return output.returncode == 0 or killed

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None

    def _status(self, job: Mapping[str, Any]) -> JobStatus:
        state = self.STATES.get(job["state"], JobState.RUNNING)  # a new state is not an end
        message, nodes = job["message"] or "", job["assigned_network_address"]
        reason, code, signal = words.wait(message) if state.waiting else "", None, None
        if state is JobState.COMPLETED and job["exit_code"] is not None:
            signal = job["exit_code"] & 127 or None  # the raw wait status: 768 is exit 3
            code = None if signal else job["exit_code"] >> 8
            state = JobState.FAILED if job["exit_code"] else state
        elif state is JobState.FAILED:
            state, reason = words.end(job["events"], message)
        return JobStatus(
            state=state,
            reason=reason,
            node=nodes[0] if nodes else "",
            exit_code=code,
            signal=signal,
            start=job["startTime"] or job["scheduledStart"] or None,
            end=words.over(job) if state is JobState.RUNNING else job["stopTime"] or None,
            impossible=state.waiting and words.NEVER.search(message) is not None,
        )
