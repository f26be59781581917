"""The cluster directory: made, claimed, cleared.

``HOME/NAME`` of mode 0700 holds the scheduler file, the job scripts, the journal and the logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dask_hpc.cluster.security import home, private_directory
from dask_hpc.control import heads, revival
from dask_hpc.control.journal import Journal, ends, read, remembered, submissions
from dask_hpc.control.reaper import JOURNAL, SCHEDULER_FILE, reap
from dask_hpc.errors import ClusterDirectoryError, HPCError, from_json

#: Seconds to wait for the jobs of a dead cluster of the same name to be gone.
_REAP = 60.0

#: Of a head with a process of its own: what it is to start, what kept it from starting, its log.
WANTED, ERROR, HEAD_LOG = "wanted.json", "error.json", revival.LOG
#: Of a head whose job has not come up yet: which that is.
HEAD_JOB = "head-job.json"
#: What JupyterLab in a job of its own is to be.
LAB_WANTED = "jupyter-wanted.json"

#: Bytes that are read of a job's log at most.
LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ClusterDirectory:
    """Paths in one cluster directory.

    Parameters
    ----------
    path
        Of the directory.
    logs
        Of the jobs' logs; elsewhere if the user says so.
    """

    path: Path
    logs: Path

    @property
    def scheduler_file(self) -> Path:
        """Where clients and workers find the scheduler."""
        return self.path / SCHEDULER_FILE

    @property
    def journal(self) -> Path:
        """Where every submission is written first."""
        return self.path / JOURNAL

    def script(self, pool: str) -> Path:
        """The job script of a pool."""
        return self.path / f"job-{pool}.sh"

    def read_logs(self, name: str, pool: str | None = None) -> dict[str, str]:
        """The end of the log of each job of a cluster, or of one pool of it, by its path."""
        names = [name]
        if pool is not None:
            all_of_them = submissions(read(self.journal)).values()
            names = [each.name for each in all_of_them if each.pool == pool]
        paths = sorted(path for each in names for path in self.logs.glob(f"{each}-*.log"))
        return {str(path): _read_end(path).decode(errors="replace") for path in paths}

    def head_logs(self) -> list[Path]:
        """Logs of a head with a process, or a job, of its own."""
        return [self.path / HEAD_LOG, *self.path.glob("*-head-*.log")]

    def clear(self, *, keep_logs: bool) -> None:
        """Remove what a closed cluster leaves; the logs too, unless a failure needs them.

        While the journal knows of jobs, nothing is: without it nobody would find them again.
        """
        events = list(read(self.journal))
        if remembered(events).left and events[-1]["event"] != "closed":
            return
        own = [self.path / name for name in (WANTED, ERROR, LAB_WANTED, revival.RESTART)]
        for path in (self.scheduler_file, self.journal, *own, *self.path.glob("job-*.sh")):
            path.unlink(missing_ok=True)
        if not keep_logs:
            for path in self.head_logs():
                path.unlink(missing_ok=True)
        if not keep_logs and self.logs.is_relative_to(self.path):
            shutil.rmtree(self.logs, ignore_errors=True)
        with contextlib.suppress(OSError):  # there are logs to keep: so the directory stays
            if self.logs.is_relative_to(self.path) and self.logs.exists():
                self.logs.rmdir()
            self.path.rmdir()


def read_error(path: Path) -> HPCError | None:
    """What kept the head of a cluster directory from starting, if it said so."""
    try:
        return from_json(json.loads((path / ERROR).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _read_end(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - LOG_BYTES))
        return stream.read()


async def claim(
    name: str, *, log_directory: str | None, resume: bool = False, force: bool = False
) -> ClusterDirectory:
    """Make the directory of a new cluster, clearing away a dead one of the same name.

    Parameters
    ----------
    name
        Of the cluster.
    log_directory
        Where the user wants logs, or None.
    resume
        Take over a cluster whose head died, with its jobs, rather than clear it away.
    force
        Whether a head on another host is dead for good: the user's word, as nobody else can tell.

    Returns
    -------
    ClusterDirectory
        Ours alone.

    Raises
    ------
    ClusterDirectoryError
        If a cluster of this name runs, or may run on another host; or the directory is not ours; or
        there is nothing to take over.
    """
    path = private_directory(home()) / name
    if resume:
        await asyncio.to_thread(_take_over, path, force=force)
    elif not await asyncio.to_thread(_made, path):
        private_directory(path)
        await asyncio.to_thread(_become_the_next, path, force=force)
        if not await reap(path, patience=_REAP):
            raise ClusterDirectoryError(
                f"jobs of an earlier cluster {name} are left and could not be cancelled",
                hint="see the batch system's queue, or take another name=",
            )
        (path / JOURNAL).unlink(missing_ok=True)
    logs = Path(log_directory).absolute() if log_directory else path / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ClusterDirectory(path, logs)


def _take_over(path: Path, *, force: bool) -> None:
    """Become the next head of a cluster that has not ended, or raise."""
    if not path.is_dir() or ends(read(path / JOURNAL)):
        raise ClusterDirectoryError(
            f"there is no cluster {path.name} to take over: it has ended, and its jobs with it",
            hint="start a new one",
        )
    private_directory(path)
    _become_the_next(path, force=force)


def _become_the_next(path: Path, *, force: bool) -> None:
    """Claim a directory unless its head lives: of several that try at once, the first does."""
    _refuse_living(path, force=force)
    journal = Journal(path / JOURNAL)
    journal.append("claimed", **heads.myself())
    journal.close()
    _refuse_living(path, force=force, but=os.getpid())


def _made(path: Path) -> bool:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _refuse_living(path: Path, *, force: bool, but: int | None = None) -> None:
    """Raise if a process is the head, or was about to be before us (`but` is our own)."""
    events = list(read(path / JOURNAL))
    if not events or events[-1]["event"] == "closed":
        return
    for holder in heads.holders(events):
        here = holder.alive
        if here and holder.pid == but:
            return
        if here is False or (here is None and force):
            continue
        hint = "take another name=, or attach to it"
        if here is None:
            hint = "if that host, or that process, is dead for good, say so: --force (force=True)"
        raise ClusterDirectoryError(
            f"a cluster {path.name} runs already: its head is {holder}", hint=hint
        )
