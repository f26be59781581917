"""Grid Engine: qsub, qstat, qdel, qacct, qalter.

Sources: sge_submit(1), qstat(1), qacct(1), sge_status(5) and sge_accounting(5) of Son of Grid
Engine 8.1.9, and what its commands printed (tests/drivers/transcripts/sge).  Sun, Open, Univa and
Altair Grid Engine and Open Cluster Scheduler share these commands.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

from dask_hpc.drivers import sge_words as words
from dask_hpc.drivers.base import (
    Command,
    Driver,
    Listing,
    Output,
    Why,
    log_path,
    ranges,
)
from dask_hpc.drivers.sge_reading import all_gone, ends, refusal, rows, status, verdict
from dask_hpc.errors import BatchSystemError, ConfigurationError
from dask_hpc.model.job import JobId, JobSpec, JobState, JobStatus, Submission

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

MIB = 1024**2

# With -terse, and without where a wrapper drops it.
_ID = re.compile(
    r'^[ \t]*(?:(\d+)\.\d+-\d+:\d+|Your job-array (\d+)\.\d+-\d+:\d+ \(".*"\) has been submitted)'
    r"\s*?$",
    re.MULTILINE,
)


class SGE(Driver):
    """Grid Engine in all its dialects."""

    name = "sge"
    programs = ("qsub", "qstat", "qdel")  # without qacct or qalter less is told, all works
    directive_prefix = "#$"
    worker_prefix = "${JOB_NAME}-${SGE_TASK_ID}"
    first_index = 1
    LIMITED = re.compile(r"jobs are allowed per user|job limit")
    version = Command(("qstat", "-help"))
    recognised_by = r"^((?:\S*GE|OCS|GCS) \S*\d\S*.*)\s*\nusage: qstat"
    #: Accounting is written every 15 s unless the site says otherwise (sge_conf(5), flush_time).
    history_delay = 20.0

    STATES: ClassVar[Mapping[str, JobState]] = words.STATES

    OPTIONS: ClassVar[Mapping[str, str]] = words.OPTIONS

    def directives(self, spec: JobSpec) -> tuple[str, ...]:
        """See :meth:`Driver.directives`: sge_submit(1); one slot per core.

        Raises
        ------
        ConfigurationError
            If the log directory cannot be written, or several nodes have no parallel environment.
        """
        if words.UNWRITABLE.search(str(spec.log_directory)):
            hint = "choose a log_directory without commas and names such as $HOME in it"
            raise ConfigurationError(f"Grid Engine cannot log to {spec.log_directory}", hint=hint)
        options, slots = spec.options, spec.cores * spec.nodes
        if spec.nodes > 1 and "parallel_environment" not in options:
            raise ConfigurationError(
                f"{spec.nodes} nodes need a parallel environment of {spec.cores} slots a node",
                hint="`qconf -spl` lists them; name one with parallel_environment=",
            )
        # Queues in the mode posix_compliant, the default, ignore the script's first line.
        lines = [f"-S {shlex.quote(_shell(spec.shebang))}"]
        if slots > 1:
            lines.append(f"-pe {shlex.quote(options.get('parallel_environment', 'smp'))} {slots}")
        if spec.memory is not None and (resource := options.get("memory_resource")):
            # Per slot and in MiB, rounded up: never less than the workers will use.
            lines.append(f"-l {shlex.quote(resource)}={-(-spec.memory // (spec.cores * MIB))}M")
        if spec.gpus:
            lines.append(f"-l {shlex.quote(options.get('gpu_resource', 'gpu'))}={spec.gpus}")
        if spec.walltime is not None:
            lines.append(f"-l h_rt={spec.walltime}")
        asked = (
            ("-l", options.get("resource_spec")),
            ("-q", spec.queue),
            ("-P", spec.account or options.get("project")),
        )
        return (*lines, *(f"{option} {shlex.quote(value)}" for option, value in asked if value))

    def submit(self, submission: Submission, spec: JobSpec, script: Path) -> Command:
        """See :meth:`Driver.submit`.

        Options beat what a user's or a site's sge_request file says: it may make qsub wait for the
        job (-sync y) or take the script for a program (-b y).  Not -w e: it refuses whatever asks
        for a load value, such as mem_free; :meth:`why` tells what can never run.
        """
        indices = submission.indices
        log = log_path(spec.log_directory, submission.name, "$TASK_ID")
        options = ("-terse", "-sync", "n", "-now", "n", "-b", "n")
        array = ("-N", submission.name, "-t", f"{indices[0]}-{indices[-1]}")
        # The colon ends an empty host name: a later one belongs to the path.
        less = ("-l", f"hostname=!({'|'.join(spec.exclude)})") if spec.exclude else ()
        return _command("qsub", *options, *array, *less, "-j", "y", "-o", f":{log}", str(script))

    def submitted(self, output: Output) -> str:
        """See :meth:`Driver.submitted`: with several candidates none is taken for the id."""
        if output.returncode > 0 and output.text:  # killed by a signal, it refuses nothing
            raise refusal(output.text)
        found: set[str] = {first or second for first, second in _ID.findall(output.stdout)}
        if output.returncode == 0 and len(found) == 1:
            return found.pop()
        raise BatchSystemError(
            f"no single job id in what qsub printed:\n{output.text or '(nothing)'}",
            hint="a wrapper of the site may hide it: ask for a plain qsub -terse",
        )

    def query(self, arrays: Mapping[str, str | None]) -> Command:  # noqa: ARG002
        """See :meth:`Driver.query`: all jobs of this user, as qstat selects neither names nor ids.

        ``$user`` is qstat's own word; XML has whole names and, unlike text, one form whatever a
        sge_qstat file says; ``-s a`` also overrides its ``-s r``, which hides what waits.
        """
        return _command("qstat", "-xml", "-u", "$user", "-s", "a")

    def states(self, output: Output) -> Listing:
        """See :meth:`Driver.states`."""
        jobs: dict[JobId, JobStatus] = {}
        names: dict[str, str] = {}
        for array, indices, fields in rows(output.stdout):
            names[fields.get("JB_name", "")] = array
            each = status(fields, self.STATES)
            jobs.update((JobId(array, index), each) for index in indices)
        return Listing(jobs, names)

    def cancel(self, jobs: Collection[JobId], arrays: Mapping[str, int]) -> list[Command]:
        """See :meth:`Driver.cancel`: whole arrays by their id, parts as ``5.1-3 5.7``."""
        indices: dict[str, set[int]] = defaultdict(set)
        for job in jobs:
            indices[job.array].add(job.index)
        return [_command("qdel", *_targets(indices, arrays))]

    def cancelled(self, output: Output) -> bool:
        """See :meth:`Driver.cancelled`: of several jobs, one that is gone makes qdel exit 1."""
        return output.returncode == 0 or all_gone(output.text)

    def knock(self) -> Command:
        """See :meth:`Driver.knock`: hosts that may not submit may still be let query (seen)."""
        return _command("qsub", "-w", "v", "-b", "y", "true")

    def welcomed(self, output: Output) -> bool:
        """See :meth:`Driver.welcomed`: what else is wrong with that job is of no interest."""
        return not (words.NOT_HERE.search(output.text) or self.is_transient(output))

    def history(self, arrays: Collection[str]) -> list[Command]:
        """See :meth:`Driver.history`: qacct takes one id at a time (seen: of two, the last)."""
        return [_command("qacct", "-j", array) for array in sorted(arrays)]

    def ended(self, output: Output) -> Listing:
        """See :meth:`Driver.ended`."""
        return Listing(ends(output.stdout))

    def why(self, array: str) -> Command:
        """See :meth:`Driver.why`: a dry run of the waiting job on an empty cluster."""
        return _command("qalter", "-w", "v", array)

    def because(self, output: Output) -> Why:
        """See :meth:`Driver.because`: in Grid Engine's words, each once whatever the host."""
        return verdict(output.text)

    def is_transient(self, output: Output) -> bool:
        """See :meth:`Driver.is_transient`."""
        return words.TRANSIENT.search(output.text) is not None


def _command(*argv: str) -> Command:
    return Command(argv, (*words.UNSET, *words.OUTER_JOB))


def _shell(shebang: str) -> str:
    """Path of the interpreter that the script's first line names."""
    interpreter, *rest = shebang.removeprefix("#!").split() or ["/bin/sh"]
    if PurePath(interpreter).name != "env" or not rest:
        return interpreter
    return str(PurePath("/bin", next((word for word in rest if word[0] != "-"), "sh")))


def _targets(indices: Mapping[str, set[int]], arrays: Mapping[str, int]) -> Iterator[str]:
    for array, some in indices.items():
        whole = len(some) == arrays.get(array)
        yield from (array,) if whole else (f"{array}.{part}" for part in ranges(some).split(","))
