"""Slurm Workload Manager: sbatch, squeue, sacct, scancel.

Sources: sbatch(1), squeue(1), sacct(1), scancel(1) of Slurm 22.05 to 25.05, and what the real
commands printed (tests/drivers/transcripts/slurm).
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers import slurm_words as words
from dask_hpc.drivers.base import Command, Driver, Listing, Output, log_path, targets
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.units import format_walltime

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MIB = 1024**2
#: Lines of squeue that are remembered as read: most jobs are listed again as they were.
ROWS = 1 << 15

# A wrapper may print anything around sbatch's line; without its end an id may be cut: 1 of 112.
_ID = re.compile(
    r"^[ \t]*(?:Submitted batch job )?([1-9]\d*)(?:;\S+| on cluster \S+)?[ \t\r]*\n", re.MULTILINE
)


#: States of which squeue's end is a guess, or the end of something else.
_UNBOUNDED = (JobState.PENDING, JobState.HELD, JobState.ENDING)


class Slurm(Driver):
    """Slurm Workload Manager."""

    name = "slurm"
    programs = ("sbatch", "squeue", "scancel")
    directive_prefix = "#SBATCH"
    worker_prefix = "${SLURM_JOB_NAME}-${SLURM_ARRAY_TASK_ID}"
    version = Command(("sbatch", "--version"))
    LIMITED = re.compile(r"(?:Max|Grp)SubmitJob")
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "job_cpu": "cores to request per node, where that is not what the workers use",
        "job_mem": "memory to request per node, as --mem takes it, likewise; 0 is the whole node",
    }

    STATES: ClassVar[Mapping[str, JobState]] = words.STATES

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: sbatch(1), one task per node with all its cores."""
        cores = spec.options.get("job_cpu", spec.cores)
        lines = [f"--nodes={spec.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cores}"]
        lines += ["--no-kill"] if spec.nodes > 1 else []  # a node that fails takes no other along
        if "job_mem" in spec.options:
            lines.append(f"--mem={spec.options['job_mem']}")
        elif spec.memory is not None:  # MiB, rounded up: never less than the workers will use
            lines.append(f"--mem={-(-spec.memory // MIB)}M")
        if spec.gpus:
            lines.append(f"--gres=gpu:{spec.gpus}")
        if spec.walltime is not None:
            lines.append(f"--time={format_walltime(spec.walltime)}")
        if spec.queue:
            lines.append(f"--partition={spec.queue}")
        if spec.account:
            lines.append(f"--account={spec.account}")
        return tuple(lines)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: as options, since SBATCH_* variables beat the script's."""
        literal = Path(str(spec.log_directory).replace("%", "%%"))  # sbatch(1), filename pattern
        argv = (
            "sbatch",
            "--parsable",
            f"--job-name={submission.name}",
            f"--array=0-{submission.count - 1}",
            f"--output={log_path(literal, submission.name, '%a')}",
            "--open-mode=append",  # a requeued job keeps the log of its first life
            *words.exclusion(spec.exclude, spec.directives),
            str(script),
        )
        return Command(argv, (*words.UNSET, *words.OUTER_JOB))

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: with several candidates none is taken for the id."""
        if output.returncode != 0:
            said, hint = words.refusal(output.text)
            raise SubmitRejected(f"sbatch refused the job: {said}", hint=hint)
        found: set[str] = set(_ID.findall(output.stdout))
        if len(found) == 1:
            return found.pop()
        raise BatchSystemError(
            f"no single job id in what sbatch printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain sbatch --parsable",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`.

        By name, since squeue exits 1 when every id given to ``-j`` is unknown; ``--me`` makes
        the controller send this user's jobs only; ``--all``, or jobs in hidden partitions are left
        out; ``--array``, or indices are cut after 30 characters without a sign of it.
        """
        options = ("--me", "--all", "--array", "--noheader", "--states=all")
        fields = "--format=%i|%T|%N|%S|%e|%j|%r"
        return Command(("squeue", *options, f"--name={','.join(arrays)}", fields), words.UNSET)

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for line in output.stdout.splitlines():
            if (row := self._row(line.strip())) is not None:
                found, name, array, status = row
                names[name] = array  # also of an array without elements: cancelled as it waited
                for job in found:
                    jobs[job] = status
        return Listing(jobs, names)

    @classmethod
    @lru_cache(maxsize=ROWS)
    def _row(cls, line: str) -> tuple[tuple[JobId, ...], str, str, JobStatus] | None:
        """Jobs, name, array and status of one line of squeue; None of a wrapper's chatter."""
        element, *fields = line.split("|", 6)
        match = words.ELEMENT.match(element)
        if len(fields) != 6 or match is None:  # noqa: PLR2004
            return None
        if match[0] != element:
            raise BatchSystemUnavailable(f"squeue cut the jobs of an array short: {element}")
        state, node, start, end, name, reason = fields
        status = cls._status(state, reason, "", node, (start, end))
        return tuple(words.elements(element)), name, match[1], status

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts as ``id_[ranges]``."""
        return [Command(("scancel", "--quiet", *targets(jobs, arrays)), words.UNSET)]

    def history(self, arrays: Collection[str]) -> list[Command]:
        """See :meth:`Driver.history`."""
        fields = "--format=JobID,State,ExitCode,NodeList,Start,End"
        which = f"--jobs={','.join(sorted(arrays))}"
        argv = ("sacct", "--noheader", "--allocations", "--parsable2", fields, which)
        return [Command(argv, words.UNSET)]

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`: ends only, since sacct shows jobs lost in a crash as running.

        Jobs cancelled as they waited have no record of their own, at best one of their array.
        """
        jobs: dict[JobId, JobStatus] = {}
        for line in output.stdout.splitlines():
            fields = line.strip().split("|")
            if len(fields) != 6:  # noqa: PLR2004  (chatter of a wrapper)
                continue
            element, state, exit_code, node, start, end = fields
            status = self._status(state, "", exit_code, node, (start, end))
            if not status.state.live:
                jobs.update(dict.fromkeys(words.elements(element), status))
        return Listing(jobs)

    def limits(self) -> Command:
        """See :meth:`Driver.limits`."""
        return Command(("scontrol", "show", "config"), words.UNSET)

    def array_limit(self, output: Output) -> int:
        """See :meth:`Driver.array_limit`: MaxArraySize bounds the highest index, we start at 0."""
        found = re.findall(r"(?:MaxArraySize\s*=\s*|max_array_tasks=)(\d+)", output.stdout)
        return max(1, min(map(int, found))) if found else self.default_array_limit

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None

    @classmethod
    def _status(
        cls, state: str, reason: str, exit_code: str, node: str, when: tuple[str, str]
    ) -> JobStatus:
        word = state.partition(" ")[0]  # sacct: "CANCELLED by 1001"
        known = cls.STATES.get(word, JobState.RUNNING)  # a new state is not an end
        if known is JobState.PENDING and words.HELD.match(reason):
            known = JobState.HELD
        code, signal = words.exit_status(exit_code, known)
        return JobStatus(
            state=known,
            reason=state if " by " in state else words.explain(reason, known),
            node="" if node in ("(null)", "None assigned") else node,
            exit_code=code,
            signal=signal,
            start=words.instant(when[0]),
            # Of a job that runs: by its limit, which an administrator may have changed.
            end=words.instant(when[1]) if known not in _UNBOUNDED else None,
            impossible=known.waiting and words.NEVER.match(reason) is not None,
        )
