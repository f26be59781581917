"""The embedded batch system: ``python -m dask_hpc.batch.local`` submit, query, cancel.

Source: that module.  Pure like every driver: it knows the commands' words, never the server.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers.base import (
    Command,
    Driver,
    Listing,
    Output,
    log_path,
    targets,
)
from dask_hpc.errors import BatchSystemError, ConfigurationError, SubmitRejected
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_ID = re.compile(r"^(\d+)$", re.MULTILINE)
_LINE = re.compile(
    r"(?P<array>\d+)_(?P<index>\d+)\|(?P<state>\w+)\|(?P<reason>[^|]*)\|(?P<start>[\d.]*)"
    r"\|(?P<end>[\d.]*)\|(?P<exit>\d*)\|(?P<signal>\d*)\|(?P<name>[^|]+)"
)
_BUSY = "local batch system is busy"
_IMPOSSIBLE = "impossible: "


class Local(Driver):
    """The embedded batch system: jobs are processes of this user on this machine."""

    name = "local"
    programs = ()  # it comes with this package
    directive_prefix = "#LOCAL"
    worker_prefix = "${LOCAL_JOB_NAME}-${LOCAL_ARRAY_TASK_ID}"

    STATES: ClassVar[Mapping[str, JobState]] = {  # dask_hpc.batch.local_state.State
        "PENDING": JobState.PENDING,
        "RUNNING": JobState.RUNNING,
        "ENDING": JobState.ENDING,  # SIGTERM was sent, or leftovers are killed: still takes slots
        "COMPLETED": JobState.COMPLETED,
        "FAILED": JobState.FAILED,
        "TIMEOUT": JobState.TIMEOUT,
        "CANCELLED": JobState.CANCELLED,
        "NODE_FAIL": JobState.NODE_FAIL,  # its server was killed: not the job's fault
    }

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: bytes and seconds; one node, and no queues or accounts."""
        if spec.nodes != 1:
            raise ConfigurationError(f"a job of this machine has one node, not {spec.nodes}")
        lines = [f"--cores={spec.cores}"]
        if spec.memory is not None:
            lines.append(f"--memory={spec.memory}")
        if spec.walltime is not None:
            lines.append(f"--walltime={spec.walltime}")
        return tuple(lines)

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`."""
        return _command(
            "submit",
            f"--name={submission.name}",
            f"--count={submission.count}",
            f"--log={log_path(spec.log_directory, submission.name, '%a')}",
            str(script),
        )

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`."""
        match = _ID.search(output.stdout)
        if output.returncode == 0 and match:
            return match[1]
        if output.returncode == 0:
            raise BatchSystemError(
                f"no job id in what the local batch system printed:\n{output.text or '(nothing)'}",
                hint="Python's start-up may print something on this machine: see the text",
            )
        words = output.text.removeprefix("local: ") or "(it printed nothing)"
        raise SubmitRejected(f"the local batch system refused the job: {words}")

    def query(self, arrays: Mapping[str, str | None]) -> Command:
        """See :meth:`Driver.query`: by name, as one whose id was lost has nothing else."""
        return _command("query", f"--name={','.join(arrays)}")

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for line in output.stdout.splitlines():
            match = _LINE.fullmatch(line)
            if match is None:  # chatter of Python's start-up
                continue
            job = JobId(match["array"], int(match["index"]))
            jobs[job] = self._status(match)
            names[match["name"]] = job.array
        return Listing(jobs, names)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts as ``id_[ranges]``."""
        return [_command("cancel", *targets(jobs, arrays))]

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return _BUSY in output.text

    def _status(self, line: re.Match[str]) -> JobStatus:
        word, reason = line["state"], line["reason"]
        return JobStatus(
            state=self.STATES.get(word, JobState.RUNNING),  # a new state is not an end
            reason=reason,
            node="localhost" if line["start"] else "",
            exit_code=int(line["exit"]) if line["exit"] else None,
            signal=int(line["signal"]) if line["signal"] else None,
            start=float(line["start"]) if line["start"] else None,
            end=float(line["end"]) if line["end"] else None,
            impossible=word == "PENDING" and reason.startswith(_IMPOSSIBLE),
        )


def _command(*words: str) -> Command:
    return Command((sys.executable, "-P", "-m", "dask_hpc.batch.local", *words))
