"""DRMAA, for batch systems without a driver here: ``python -m dask_hpc.batch.drmaa``.

Source: that module.  Pure like every driver: it knows the commands' words, never the library.
"""

from __future__ import annotations

import re
import sys
from functools import reduce
from signal import Signals
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers.base import Command, Driver, Listing, Output, targets
from dask_hpc.drivers.script import all_directives
from dask_hpc.errors import BatchSystemError, ConfigurationError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission
from dask_hpc.model.job_environment import BY_BATCH

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_ATTRIBUTE = re.compile(r"drmaa_\w+=.*")
_WALLTIME = "drmaa_wct_hlimit"
_NAME = re.compile(r"^([A-Za-z][\w.-]*)$", re.MULTILINE)
_LINE = re.compile(
    r"(?P<name>[A-Za-z][\w.-]*)_(?P<index>\d+)\|(?P<state>\w+)\|(?P<exit>\d*)\|(?P<signal>\w*)"
)
_BUSY = "drmaa: the batch system does not answer"
_PLACEHOLDER = re.compile(r"\{(cores|slots|nodes|gpus|memory|walltime|queue|account)\}")
#: Batch systems whose DRMAA libraries number the jobs of a bulk in these systems' own variables.
_INDEX = tuple(BY_BATCH[name].index for name in ("sge", "slurm", "lsf", "pbs", "torque"))
#: Where none is set: the job's output is its log, and that is called NAME-INDEX.log.
_LOG_INDEX = "$(readlink /proc/$$/fd/1 | sed 's/.*-//; s/[.]log$//')"

_REASONS = {
    "system_on_hold": "held by the batch system",
    "user_on_hold": "held by you",
    "user_system_on_hold": "held by you and by the batch system",
    "system_suspended": "suspended by the batch system",
    "user_suspended": "suspended by you",
    "user_system_suspended": "suspended by you and by the batch system",
    "unsettled": "its submission is not confirmed yet",
    "lost": "its submit command died half-way: jobs of it may run that DRMAA cannot find",
}


class DRMAA(Driver):
    """Distributed Resource Management Application API, version 1."""

    name = "drmaa"
    programs = ()  # a library, not programs: never found by looking, only by name
    directive_prefix = "#DRMAA"
    worker_prefix = "${DASK_HPC_JOB}-" + reduce(
        lambda rest, name: f"${{{name}:-{rest}}}", reversed(_INDEX), _LOG_INDEX
    )
    first_index = 1

    STATES: ClassVar[Mapping[str, JobState]] = {  # GFD-R.133, drmaa_job_ps
        "undetermined": JobState.RUNNING,  # the library does not know: no end
        "queued_active": JobState.PENDING,
        "system_on_hold": JobState.HELD,
        "user_on_hold": JobState.HELD,
        "user_system_on_hold": JobState.HELD,
        "running": JobState.RUNNING,
        "system_suspended": JobState.RUNNING,  # it goes on where it was
        "user_suspended": JobState.RUNNING,
        "user_system_suspended": JobState.RUNNING,
        "done": JobState.COMPLETED,
        "failed": JobState.FAILED,
        "unsettled": JobState.PENDING,  # dask_hpc.batch.drmaa: the submission's ids are not known
        "lost": JobState.GONE,
    }

    OPTIONS: ClassVar[Mapping[str, str]] = {
        "native_specification": "options in the batch system's own words; {cores}, {slots} (of all"
        " nodes), {nodes}, {gpus}, {memory} (bytes), {walltime} (seconds), {queue} and {account}"
        " are filled in",
    }

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: the native specification, and DRMAA attributes.

        DRMAA has a word for the walltime alone.

        Raises
        ------
        ConfigurationError
            If there is none for what the spec asks, and no native specification says it.
        """
        native = spec.options.get("native_specification", "")
        values = {
            "cores": spec.cores,
            "slots": spec.cores * spec.nodes,
            "nodes": spec.nodes,
            "gpus": spec.gpus,
            "memory": spec.memory,
            "walltime": spec.walltime,
            "queue": spec.queue,
            "account": spec.account,
        }
        defaults = {"cores": 1, "nodes": 1, "gpus": 0, "queue": None, "account": None}
        unsaid = [name for name, default in defaults.items() if values[name] != default]
        if unsaid and not native and not spec.directives:
            raise ConfigurationError(
                f"DRMAA has no words for {', '.join(unsaid)}",
                hint="say it in native_specification as the batch system does, "
                "for example '-pe smp {cores} -q {queue}'",
            )
        filled = _PLACEHOLDER.sub(lambda found: str(_given(found[1], values[found[1]])), native)
        lines = [filled] if native.strip() else []
        if spec.walltime is not None and "{walltime}" not in native:
            hours, rest = divmod(spec.walltime, 3600)
            lines.append(f"{_WALLTIME}={hours}:{rest // 60:02d}:{rest % 60:02d}")
        return tuple(lines)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`: not every library reads the script's first line."""
        lines = all_directives(spec, self)
        native = " ".join(line for line in lines if not _ATTRIBUTE.fullmatch(line))
        return _command(
            "submit",
            f"--name={submission.name}",
            f"--count={submission.count}",
            f"--logs={spec.log_directory}",
            f"--native={native}",
            *(f"--set={line}" for line in lines if _ATTRIBUTE.fullmatch(line)),
            "--",
            *spec.shebang.removeprefix("#!").split(),
            str(script),
        )

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: the submission's name is its id."""
        found = set(_NAME.findall(output.stdout))
        if output.returncode == 0 and len(found) == 1:
            return str(found.pop())
        words, _, hint = output.stderr.partition("\n  -> ")
        if output.returncode <= 0 or not words.strip():  # killed by a signal, it refuses nothing
            raise BatchSystemError(
                f"no single job name in what the DRMAA command printed:\n{output.text}",
                hint="Python's start-up may print something on this machine: see the text",
            )
        said = words.removeprefix("drmaa: ").strip()
        raise SubmitRejected(f"DRMAA refused the job: {said}", hint=hint.strip())

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`: names are ids."""
        return _command("query", *arrays)

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs: dict[JobId, JobStatus] = {}
        for line in output.stdout.splitlines():
            match = _LINE.fullmatch(line)
            if match is not None:  # else chatter of Python's start-up
                jobs[JobId(match["name"], int(match["index"]))] = self._status(match)
        return Listing(jobs, {job.array: job.array for job in jobs})

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`."""
        return [_command("cancel", *targets(jobs, arrays))]

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return _BUSY in output.stderr

    def _status(self, line: re.Match[str]) -> JobStatus:
        word, signal = line["state"], line["signal"]
        aborted = "aborted: it could not start, or was cancelled" if signal == "aborted" else ""
        return JobStatus(
            state=self.STATES.get(word, JobState.RUNNING),  # a new state is not an end
            reason=_REASONS.get(word, aborted),
            exit_code=int(line["exit"]) if line["exit"] else None,
            signal=Signals[signal].value if signal in Signals.__members__ else None,
        )


def _given(name: str, value: object) -> object:
    if value is None:
        raise ConfigurationError(
            f"native_specification asks for {{{name}}}, which is not given", hint=f"give {name}="
        )
    return value


def _command(*words: str) -> Command:
    # Some libraries (Debian's of Grid Engine) need more static thread storage than a running
    # Python has left.
    tunables = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=4096")
    return Command((sys.executable, "-P", "-m", "dask_hpc.batch.drmaa", *words), (), (tunables,))
