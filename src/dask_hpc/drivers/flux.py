"""Flux: flux submit, flux jobs, flux pkill.

Sources: flux-submit(1), flux-jobs(1), flux-pgrep(1) and flux-environment(7) of flux-core, and what
Flux 0.88 printed (tests/drivers/transcripts/flux).  Flux has no arrays: one command submits
copies (``--cc``), each a job of its own with an id of its own.  Here the id of an array is its
name, and job ``i`` of it is called ``NAME-i``.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers import flux_words as words
from dask_hpc.drivers.base import Command, Driver, Listing, Output
from dask_hpc.drivers.flux_jobs import decoded, status
from dask_hpc.drivers.script import arguments, run_by_interpreter
from dask_hpc.errors import BatchSystemError, BatchSystemUnavailable, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

#: Flux tells a job its index (FLUX_JOB_CC) but not its name.
_NAME = "--env=DASK_HPC_JOB="
#: More jobs than one user has; without the option every command stops at 1000.
_MANY = 100_000

# One line per copy, in base58; ``f`` replaces the letter where the locale has no other.
_ID = re.compile(r"^[ƒf][1-9A-HJ-NP-Za-km-z]+$", re.MULTILINE)
_ELEMENT = re.compile(r"(?P<array>[A-Za-z][\w.-]*)-(?P<index>0|[1-9]\d*)", re.ASCII)
_LABEL = re.compile(r"^(?:flux-\w+: )?(?:ERROR: )?(?:cc=\d+: )?")


class Flux(Driver):
    """Flux.  Memory cannot be asked for: a job has the memory of its nodes, shared with others.

    With several nodes the script runs once on each.
    """

    name = "flux"
    programs = ("flux",)
    directive_prefix = "#flux:"
    worker_prefix = "${DASK_HPC_JOB}-${FLUX_JOB_CC}"
    opens_log = True  # --output would read braces in the path as its own
    version = Command(("flux", "version"))
    recognised_by = r"^commands:\s+(\S+)"  # Flux CD's command is called flux, too
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "exclusive": "true: whole nodes, shared with nobody (flux submit --exclusive)",
    }

    STATES: ClassVar[Mapping[str, JobState]] = {  # flux-jobs(1), JOB STATUS
        "NEW": JobState.PENDING,
        "DEPEND": JobState.PENDING,
        "PRIORITY": JobState.PENDING,
        "SCHED": JobState.PENDING,  # with urgency 0 it is held
        "RUN": JobState.RUNNING,
        "CLEANUP": JobState.ENDING,  # its epilog runs: its nodes are not free yet
        "COMPLETED": JobState.COMPLETED,
        "FAILED": JobState.FAILED,  # of all the site's faults only the exception's type tells
        "CANCELED": JobState.CANCELLED,
        "TIMEOUT": JobState.TIMEOUT,
    }

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: flux-submit(1), one task per node with all its cores."""
        exclusive = spec.options.get("exclusive", "").strip().lower() in ("1", "true", "yes", "on")
        lines = [f"--ntasks={spec.nodes}", f"--cores-per-task={spec.cores}"]
        if spec.nodes > 1 or exclusive:  # one task is on one node anyway
            lines.insert(0, f"--nodes={spec.nodes}")
        if spec.gpus:
            lines.append(f"--gpus-per-task={spec.gpus}")
        if spec.walltime is not None:  # a bare number would be minutes
            lines.append(f"--time-limit={spec.walltime}s")
        if spec.queue:
            lines.append(f"--queue={shlex.quote(spec.queue)}")
        if spec.account:  # as JSON, or a bank called 123 would become a number
            lines.append(f"--setattr={shlex.quote(f'bank={json.dumps(spec.account)}')}")
        if exclusive:
            lines.append("--exclusive")
        if spec.nodes > 1:  # else 30 s after the first node has ended all do
            lines.append("--setopt=exit-timeout=none")
        return tuple(lines)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: ``flux submit`` reads no directives in a script.

        Each ``{cc}`` becomes the index of the copy.  Ours come last: they win.
        """
        first, last = submission.indices[0], submission.indices[-1]
        given = arguments(spec, self)
        ours = (f"--cc={first}-{last}", f"--job-name={submission.name}-{{cc}}")
        run = run_by_interpreter(spec, script)
        return Command(
            ("flux", "submit", *given, *ours, f"{_NAME}{submission.name}", *run), words.UNSET
        )

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: some copies may be refused and others run."""
        name = next((w.removeprefix(_NAME) for w in output.command.argv if w.startswith(_NAME)), "")
        if name and _ID.search(output.stdout):
            return name
        if output.returncode > 0 and output.text:  # killed by a signal, it refuses nothing
            hint = next((words.HINTS[p] for p in words.HINTS if re.search(p, output.text)), "")
            raise SubmitRejected(f"flux submit refused the job: {_said(output.text)}", hint=hint)
        raise BatchSystemError(
            f"no job id in what flux submit printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain flux submit",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:  # noqa: ARG002
        """See :meth:`Driver.query`: all of this user's jobs, since each has a name of its own.

        Of those that have ended, the last hour's; `history` has the others.
        """
        return _jobs("--since=-1h")

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs = dict(self._listed(output))
        return Listing(jobs, {job.array: job.array for job in jobs})

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: by a pattern of names, as ids of copies are not known."""
        indices: dict[str, set[int]] = {}
        for job in jobs:
            indices.setdefault(job.array, set()).add(job.index)
        names = []
        for array, some in indices.items():
            numbers = r"\d+" if len(some) == arrays.get(array) else "|".join(map(str, sorted(some)))
            names.append(f"{re.escape(array)}-(?:{numbers})")
        argv = ("flux", "pkill", f"--max-entries={_MANY}", f"name:^(?:{'|'.join(names)})$")
        return [Command(argv, words.UNSET)]

    def cancelled(self, output: Output) -> bool:
        """See :meth:`Driver.cancelled`: it exits 1 without a word where no job matches."""
        lines = [line for line in output.text.splitlines() if line.strip()]
        gone = output.returncode == 1 and all(map(words.CANCELLED.search, lines))
        return gone or output.returncode == 0

    def history(self, arrays: Collection[str]) -> list[Command]:  # noqa: ARG002
        """See :meth:`Driver.history`: jobs are listed until the site purges them, after days."""
        return [_jobs("-a")]

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`."""
        try:
            return Listing({job: each for job, each in self._listed(output) if not each.state.live})
        except BatchSystemUnavailable:
            return Listing()

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None

    def _listed(self, output: Output) -> Iterator[tuple[JobId, JobStatus]]:
        if "output truncated" in output.stderr:
            raise BatchSystemUnavailable("flux jobs left jobs out: you have too many")
        for job in decoded(output.stdout):
            match = _ELEMENT.fullmatch(str(job.get("name")))
            if match and isinstance(job.get("status"), str):
                yield JobId(match["array"], int(match["index"])), status(job, self.STATES)


def _jobs(*which: str) -> Command:
    return Command(("flux", "jobs", "--json", f"--count={_MANY}", *which), words.UNSET)


def _said(text: str) -> str:
    lines = dict.fromkeys(_LABEL.sub("", line.strip()) for line in text.splitlines())
    return "; ".join(line for line in lines if line)
