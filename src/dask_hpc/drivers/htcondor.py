"""HTCondor: condor_submit, condor_q, condor_rm, condor_history.

Sources: the manual pages and "Job ClassAd Attributes" of HTCondor 23.0, and what the real commands
of 23.9.6 printed (tests/drivers/transcripts/htcondor).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers import htcondor_jobs as jobs_of
from dask_hpc.drivers import htcondor_words as words
from dask_hpc.drivers.base import Command, Driver, Listing, Output, Why
from dask_hpc.drivers.script import all_directives, run_by_interpreter, split
from dask_hpc.errors import BatchSystemError, ConfigurationError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, Submission
from dask_hpc.units import parse_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KIB, MIB = 1024, 1024**2

# -terse: the first and the last job of the one cluster; a wrapper may print anything around it, and
# a line without its end may be cut.
_TERSE = re.compile(r"^([1-9]\d*)\.\d+ - \1\.\d+[ \t\r]*\n", re.MULTILINE)
# A held job stays for ever: all go but those that a person holds, and may release.
_STAY = ", ".join(map(str, words.WAITING_HOLDS))
_REMOVE = f"JobStatus == 5 && !member(HoldReasonCode, {{{_STAY}}})"
# HTCondor's jobs have no environment at all otherwise, no HOME and no PATH either.
_KEEP = "HOME, LANG, LC_ALL, LOGNAME, PATH, SHELL, USER"
# Seconds: how far back the history is read, which may be gigabytes.
_HISTORY = 86400


class HTCondor(Driver):
    """HTCondor."""

    name = "htcondor"
    programs = ("condor_submit", "condor_q", "condor_rm")
    LIMITED = re.compile(r"MAX_JOBS_(?:PER_OWNER|SUBMITTED)")  # from the manual, never seen
    directive_prefix = "#CONDOR"
    worker_prefix = "${DASK_HPC_JOB}-${DASK_HPC_INDEX}"
    opens_log = True  # appends: HTCondor itself empties the log of a job that starts again
    version = Command(("condor_q", "-version"))
    recognised_by = r"^\$CondorVersion: (\S+)"
    history_delay = 5.0  # a job leaves the queue for the history at once

    STATES: ClassVar[Mapping[str, JobState]] = {  # JobStatus, in the queue
        "1": JobState.PENDING,  # idle; also after an eviction, or when its machine is lost
        "2": JobState.RUNNING,
        "3": JobState.ENDING,  # removed: its processes are being killed
        "4": JobState.COMPLETED,  # whatever its exit status; listed if it is to stay in the queue
        "5": JobState.HELD,  # or at an end, which its reason tells
        "6": JobState.ENDING,  # transferring output
        "7": JobState.RUNNING,  # suspended; it goes on where it was
    }
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "disk": "disk space of a job, for example '1 GB'",
        "submit_command_extra": "further arguments of condor_submit, as a shell would split them",
    }

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: submit commands, as of a submit file.

        The walltime holds a job that is over it, and so do HTCondor's own failures: what is held
        by nobody leaves the queue, and its last hold reason tells in the history how it ended.
        """
        if spec.queue:
            raise ConfigurationError(
                f"HTCondor has no queues, but queue is {spec.queue!r}",
                hint="say which machines in a directive: requirements = ...",
            )
        if spec.nodes != 1:
            raise ConfigurationError(f"a job of HTCondor has one node, not {spec.nodes}")
        lines = [f"request_cpus = {spec.cores}"]
        if spec.memory is not None:  # in MiB, rounded up: never less than the workers will use
            lines.append(f"request_memory = {-(-spec.memory // MIB)}")
        if "disk" in spec.options:
            lines.append(f"request_disk = {-(-parse_memory(spec.options['disk']) // KIB)}")
        if spec.gpus:
            lines.append(f"request_gpus = {spec.gpus}")
        if spec.account:
            lines.append(f"accounting_group = {words.literal(spec.account)}")
        if spec.walltime is not None:
            lines.append(f"allowed_job_duration = {spec.walltime}")
        return (*lines, f"periodic_remove = {_REMOVE}", f"getenv = {_KEEP}")

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: without a submit file, each line of it is an argument.

        The script is run in place, by its interpreter as it is not executable; where HTCondor
        knows of no shared file system it would bring back all that lies in the job's directory.
        """
        given = [words.assignment(line) for line in all_directives(spec, self)]
        program, *rest = run_by_interpreter(spec, script)
        named = f"DASK_HPC_JOB={submission.name} DASK_HPC_INDEX=$(ProcId)"
        ours = (
            f"batch_name={submission.name}",
            f"executable={words.literal(program)}",
            f"arguments={words.quoted(rest)}",
            "transfer_executable=False",
            'transfer_output_files=""',
            f'environment="{named}"',
        )
        extra = split(spec.options.get("submit_command_extra", ""))
        last = ("-queue", str(submission.count))
        return Command(("condor_submit", "-terse", *extra, *given, *ours, *last))

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: with several candidates none is taken for the id."""
        if output.returncode > 0 and output.text:  # killed by a signal, it refuses nothing
            said = words.refusal(output.stderr) or output.text
            hint = words.hint(output.text)
            raise SubmitRejected(f"condor_submit refused the job: {said}", hint=hint)
        found: set[str] = set(_TERSE.findall(output.stdout))
        if output.returncode == 0 and len(found) == 1:
            return found.pop()
        raise BatchSystemError(
            f"no single cluster id in what condor_submit printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain condor_submit -terse",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`: condor_q lists the user's own jobs."""
        ids = sorted({id_ for id_ in arrays.values() if id_ is not None}, key=int)
        lost = sorted(f'"{name}"' for name, id_ in arrays.items() if id_ is None)
        where = [f"member(ClusterId, {{{', '.join(ids)}}})"] if ids else []
        where += [f"member(JobBatchName, {{{', '.join(lost)}}})"] if lost else []
        return jobs_of.listing("condor_q", " || ".join(where))

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`: nothing is printed where there are no jobs."""
        return jobs_of.read(output.stdout, self.STATES)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts job by job."""
        parts: dict[str, list[int]] = defaultdict(list)
        for job in sorted(jobs, key=lambda job: (int(job.array), job.index)):
            parts[job.array].append(job.index)
        which = [
            target
            for array, some in parts.items()
            for target in (
                [array] if len(some) == arrays.get(array) else [f"{array}.{i}" for i in some]
            )
        ]
        return [Command(("condor_rm", *which))]

    def cancelled(self, output: Output) -> bool:
        """See :meth:`Driver.cancelled`: jobs that are gone make it exit 1."""
        lines = output.stderr.splitlines()
        gone = bool(lines) and all(words.GONE.fullmatch(line.strip()) for line in lines)
        return output.returncode == 0 or gone

    def history(self, arrays: Collection[str]) -> list[Command]:
        """See :meth:`Driver.history`: from the last end backwards."""
        where = f"member(ClusterId, {{{', '.join(sorted(arrays, key=int))}}})"
        until = ("-since", f"EnteredCurrentStatus < time() - {_HISTORY}")
        return [jobs_of.listing("condor_history", where, *until)]

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`."""
        return jobs_of.read(output.stdout, {})

    def why(self, array: str) -> Command:
        """See :meth:`Driver.why`: of one job that waits, as all are alike."""
        where = f"ClusterId == {array} && JobStatus == 1"
        return Command(("condor_q", "-better-analyze", "-constraint", where, "-limit", "1"))

    def because(self, output: Output) -> Why:
        """See :meth:`Driver.because`: it counts whole machines, whoever uses them now."""
        missing = words.nowhere(output.stdout)
        return Why(missing, impossible=bool(missing))

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None
