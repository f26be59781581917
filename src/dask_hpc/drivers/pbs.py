"""OpenPBS and PBS Professional: qsub, qstat, qselect, qdel.

Sources: qsub(1B), qstat(1B), qselect(1B), qdel(1B) of OpenPBS 23.06, and what its real commands
printed (tests/drivers/transcripts/openpbs).  PBS Professional itself was never seen.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

from dask_hpc.drivers import pbs_ends, pbs_listing
from dask_hpc.drivers import pbs_words as words
from dask_hpc.drivers.base import Command, Driver, Listing, Output, Why, ranges
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

MIB = 1024**2

# Users' defaults: another directive prefix; TORQUE's qstat may hide jobs.
UNSET = ("PBS_DPREFIX", "PBS_QSTAT_EXECONLY", "PBS_QSTAT_NO_COMPLETE")


class PBS(Driver):
    """OpenPBS and PBS Professional."""

    name = "pbs"
    programs = ("qsub", "qstat", "qdel", "qselect")
    LIMITED = re.compile(r"would exceed .*limit")  # from the manual, never seen
    directive_prefix = "#PBS"
    worker_prefix = "${PBS_JOBNAME}-${PBS_ARRAY_INDEX:-1}"  # one job alone is no array
    opens_log = True  # PBS spools what a job prints on its node until the job has ended
    first_index = 1
    version = Command(("qstat", "--version"))
    recognised_by = r"^pbs_version\s*=\s*(\S+)"
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "resource_spec": "what to request in place of select, e.g. 'select=1:ncpus=24:mem=100gb'",
    }

    STATES: ClassVar[Mapping[str, JobState]] = {  # qstat(1B), job states
        "Q": JobState.PENDING,
        "T": JobState.PENDING,  # on its way to another queue or server
        "W": JobState.PENDING,  # its begin time has not come
        "H": JobState.HELD,
        "R": JobState.RUNNING,
        "S": JobState.RUNNING,  # suspended: it goes on where it was
        "U": JobState.RUNNING,  # suspended while the node's own user types
        "B": JobState.RUNNING,  # an array with jobs that have started
        "M": JobState.RUNNING,  # at another server
        "E": JobState.ENDING,
        "F": JobState.GONE,  # how is in the history
        "X": JobState.GONE,  # the same of a job of an array that goes on
    }

    _end = staticmethod(pbs_ends.pbs)
    #: So that a node that fails takes no other along (qsub(1B)).
    _tolerant = "-W tolerate_node_failures=all"

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: the shell too, or the user's login shell reads it."""
        asked = spec.options.get("resource_spec")
        lines = [f"-l {each}" for each in ((asked,) if asked else self._resources(spec))]
        lines += [self._tolerant] if spec.nodes > 1 else []
        if spec.walltime is not None:
            lines.append(f"-l walltime={words.hours(spec.walltime)}")
        rest = (("-q", spec.queue), ("-A", spec.account), ("-S", words.shell(spec.shebang)))
        return (*lines, *(f"{name} {shlex.quote(value)}" for name, value in rest if value))

    def _resources(self, spec: JobSpec) -> tuple[str, ...]:
        select = f"select={spec.nodes}:ncpus={spec.cores}"
        if spec.memory is not None:  # rounded up: never less than the workers will use
            select += f":mem={-(-spec.memory // MIB)}mb"
        if spec.gpus:
            select += f":ngpus={spec.gpus}"
        return (select, "place=scatter") if spec.nodes > 1 else (select,)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:  # noqa: ARG002
        """See :meth:`Driver.submit`: what the script prints goes to the log that it opens."""
        array = self._array(submission.count) if submission.count > 1 else ()
        options = ("-C", self.directive_prefix, "-N", submission.name, *array)
        return Command(("qsub", *options, "-j", "oe", "-o", "/dev/null", str(script)), UNSET)

    def _array(self, count: int) -> tuple[str, ...]:
        return ("-J", f"1-{count}")  # from two jobs on: qsub refuses "1-1"

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: ``12[]`` is an array, ``12`` one job alone."""
        if output.returncode != 0 and output.text:  # silent, it was killed: the job may be there
            said = words.refusal(output.text)
            raise SubmitRejected(f"qsub refused the job: {said}", hint=words.hint(said))
        found = pbs_listing.submitted(output.stdout)
        if len(found) == 1:
            return found.pop()
        raise BatchSystemError(
            f"no single job id in what qsub printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain qsub",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`: the short form, as the full one is a kilobyte for each job."""
        ids = [array for array in arrays.values() if array]
        lost = [each for name, array in arrays.items() if not array for each in self._names(name)]
        if ids and not lost:  # without an id qstat lists all jobs of all users
            return Command(("qstat", "-t", *ids), UNSET)
        return Command(("sh", "-c", pbs_listing.FIND, "qstat", *ids, "--", *lost), UNSET)

    def _names(self, name: str) -> tuple[str, ...]:  # by which qselect knows a submission
        return (name,)

    def answered(self, output: Output) -> bool:
        """See :meth:`Driver.answered`: ids unknown or finished make qstat exit non-zero."""
        return output.returncode == 0 or pbs_listing.all_gone(output.text)

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`: jobs that have ended are left to the history."""
        rows = list(pbs_listing.rows(output.stdout))
        self._check(output, {id_.array for id_, _ in rows})
        held = {id_.array for id_, letter in rows if letter == "H" and id_.element == ""}
        jobs: dict[JobId, JobStatus] = {}
        for id_, letter in rows:
            state = self.STATES.get(letter, JobState.RUNNING)  # a new state is not an end
            if state is JobState.PENDING and id_.array in held:
                state = JobState.HELD
            if id_.element != "" and state.live:
                waits = "H" if state is JobState.HELD else letter
                jobs[self._job(id_)] = JobStatus(state, words.WAITS.get(waits, ""))
        return Listing(jobs, pbs_listing.found(output.stdout))

    def _job(self, id_: pbs_listing.Id) -> JobId:
        return JobId(id_.array, int(id_.element or self.first_index))

    def _check(self, output: Output, listed: set[str]) -> None:
        """Raise if qstat says nothing of an array asked for: neither a row nor that it is gone."""
        if silent := pbs_listing.unmentioned(output, listed):
            raise BatchSystemUnavailable(f"qstat said nothing of {', '.join(silent)}")

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: one id or range each, as several crashed a server."""
        indices: dict[str, set[int]] = defaultdict(set)
        for job in jobs:
            indices[job.array].add(job.index)
        return [
            Command(("qdel", *target), UNSET)
            for array, some in indices.items()
            for target in self._targets(array, some, whole=len(some) == arrays.get(array))
        ]

    def _targets(self, array: str, some: set[int], *, whole: bool) -> list[tuple[str, ...]]:
        if whole or "[" not in array:
            return [(array,)]
        return [(array.replace("]", f"{part}]"),) for part in ranges(some).split(",")]  # no [1,3]

    def cancelled(self, output: Output) -> bool:
        """See :meth:`Driver.cancelled`."""
        return output.returncode == 0 or pbs_listing.all_gone(output.text)

    def history(self, arrays: Collection[str]) -> list[Command]:
        """See :meth:`Driver.history`: one array each, as an unknown one makes qstat fail."""
        return [Command(("qstat", "-x", "-t", "-f", array), UNSET) for array in sorted(arrays)]

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`: an array's own record tells nothing of its jobs."""
        ends = {
            self._job(id_): self._end(fields)
            for id_, fields in pbs_listing.records(output.stdout)
            if id_.element != "" and self.STATES.get(fields.get("job_state", "")) is JobState.GONE
        }
        return Listing(ends)

    def why(self, array: str) -> Command:
        """See :meth:`Driver.why`: the scheduler comments on the array, not on each of its jobs."""
        return Command(("qstat", "-f", array), UNSET)

    def because(self, output: Output) -> Why:
        """See :meth:`Driver.because`."""
        waiting = (
            words.explain(fields.get("comment", ""))
            for _, fields in pbs_listing.records(output.stdout)
            if fields.get("job_state") == "Q"
        )
        return next((why for why in waiting if why.reason), Why())

    def limits(self) -> Command:
        """See :meth:`Driver.limits`."""
        return Command(("qstat", "-B", "-f"), UNSET)

    def array_limit(self, output: Output) -> int:
        """See :meth:`Driver.array_limit`: never above ours, which bounds what a history prints."""
        found = re.findall(r"(?m)^ *max_(?:job_)?array_size = (\d+)$", output.stdout)
        return max(1, min([self.default_array_limit, *map(int, found)]))

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None
