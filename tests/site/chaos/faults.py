"""What goes wrong: one method for each kind of fault, done to the real batch system as root.

Each says whom it hit and for how long what is lost there may be put down to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil

from tests.site.chaos.plan import AWAY, Blow
from tests.site.chaos.queues import GridEngine, Job, Slurm
from tests.site.held import TESTBED, bed
from tests.site.slurm import run

T = TypeVar("T")  # requires-python 3.11: no `def f[T]` yet
HOSTS = ("login", "node01", "node02", "node03", "node04")


class Nothing(Exception):
    """There is nobody whom the fault could hit now."""


class Faults:
    """The faults of one cluster on one batch system.

    Parameters
    ----------
    cluster
        Its name.
    queue
        The batch system.
    disk
        Where its run directory lies.
    """

    def __init__(self, cluster: str, queue: Slurm | GridEngine, disk: Path) -> None:
        self.cluster, self.queue, self.disk = cluster, queue, disk

    def strike(self, kind: str, pick: float) -> Blow:
        """Do what the fault of this name does; `pick` chooses the victim.

        Raises
        ------
        Nothing
            If nobody is there to be hit.
        """
        blow: Blow = getattr(self, kind)(pick)
        return blow

    # -- processes --------------------------------------------------------------------------------

    def worker(self, pick: float) -> Blow:
        """kill -9 of one worker."""
        leaves = [
            (prefix, leaf)
            for prefix, supervisor in self.supervisors()
            for leaf in supervisor.children(recursive=True)
            if not leaf.children() and leaf.ppid() != supervisor.pid
        ]
        prefix, victim = _chosen(sorted(leaves, key=lambda pair: pair[1].pid), pick)
        now = time.time()
        victim.kill()
        return Blow(kind="worker", time=now, victims=(prefix,))

    def supervisor(self, pick: float) -> Blow:
        """kill -9 of one supervisor, and so of its job."""
        prefix, victim = _chosen(self.supervisors(), pick)
        now = time.time()
        victim.kill()
        return Blow(kind="supervisor", time=now, victims=(prefix,))

    def supervisors(self) -> list[tuple[str, psutil.Process]]:
        """The first process of ours in each job, with the name of its job."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if process.username() != "alice" or "worker" not in words:
                    continue
                prefix = next((w for w in words if w.startswith(f"{self.cluster}-")), None)
                parent = process.parent()
                first = parent is None or "worker" not in parent.cmdline()
                if prefix is not None and first:
                    found.append((prefix, process))
        return sorted(found, key=lambda pair: pair[0])

    # -- an administrator -------------------------------------------------------------------------

    def running(self) -> list[Job]:
        return sorted(job for job in self.queue.jobs(self.cluster) if job.node)

    def cancel(self, pick: float) -> Blow:
        """An administrator cancels one job."""
        job = _chosen(self.running(), pick)
        now = time.time()
        self.queue.cancel(job)
        return Blow(kind="cancel", time=now, victims=(job.prefix,), graceful=True)

    def suspend(self, pick: float) -> Blow:
        """An administrator suspends one job for a while: it is late, not lost."""
        job = _chosen(self.running(), pick)
        self.queue.suspend(job)

        def resume() -> None:
            with suppress(AssertionError):  # it has ended meanwhile
                self.queue.resume(job)

        return Blow(kind="suspend", time=time.time(), mend=resume)

    def requeue(self, pick: float) -> Blow:
        """An administrator has one job start again, under its own name."""
        job = _chosen(self.running(), pick)
        now = time.time()
        self._slurm.requeue(job)
        return Blow(kind="requeue", time=now, victims=(job.prefix,), graceful=True)

    def preempt(self, pick: float) -> Blow:
        """A job of a higher partition takes a whole node."""
        node, there = self._node(pick)
        now = time.time()
        self._slurm.urge(node, AWAY)
        return Blow(kind="preempt", time=now, victims=there, graceful=True, lasts=30)

    # -- the machine ------------------------------------------------------------------------------

    def node(self, pick: float) -> Blow:
        """A node is declared down, and well again a little later."""
        node, there = self._node(pick)
        now = time.time()
        self._slurm.take(node, back=False)

        def back() -> None:
            self._slurm.take(node, back=True)

        return Blow(kind="node", time=now, victims=there, lasts=40, mend=back)

    def host(self, pick: float) -> Blow:
        """A host dies with everything on it, and is started again a little later."""
        node, there = self._node(pick)
        now = time.time()
        pid = int((TESTBED / "run" / "hosts" / f"{node}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        return Blow(kind="host", time=now, victims=there, lasts=60, mend=lambda: bed("up"))

    def server(self, pick: float) -> Blow:
        """The batch system's server stops, and is started again a little later."""
        bed("down", "--server")
        return Blow(kind="server", time=time.time(), mend=lambda: bed("up"))

    def full(self, pick: float) -> Blow:
        """The file system of the run directory is full for a while."""
        filler = self.disk / "taken"
        run("fallocate", "-l", str(shutil.disk_usage(self.disk).free - 4096), str(filler))
        with suppress(OSError), filler.open("ab") as stream:
            while True:
                stream.write(b"x" * 4096)
                stream.flush()
        return Blow(kind="full", time=time.time(), mend=lambda: filler.unlink(missing_ok=True))

    @property
    def _slurm(self) -> Slurm:
        assert isinstance(self.queue, Slurm)
        return self.queue

    def _node(self, pick: float) -> tuple[str, tuple[str, ...]]:
        running = self.running()
        node = _chosen(sorted({job.node for job in running}), pick)
        return node, tuple(job.prefix for job in running if job.node == node)


def _chosen(those: list[T], pick: float) -> T:
    if not those:
        raise Nothing
    return those[int(pick * len(those))]


@contextmanager
def small_disk(path: Path, owner: str, mebibytes: int = 24) -> Iterator[Path]:
    """A file system of its own for one directory, the same on every host, gone at the end."""
    with ExitStack() as stack:
        image = TESTBED / "run" / f"{path.name}.image"
        stack.callback(image.unlink, missing_ok=True)
        with image.open("wb") as stream:
            stream.truncate(mebibytes << 20)
        run("mkfs.ext4", "-q", "-m", "0", str(image))
        loop = run("losetup", "--find", "--show", str(image)).strip()
        stack.callback(run, "losetup", "--detach", loop, check=False)
        path.mkdir(mode=0o700, parents=True)
        stack.callback(path.rmdir)
        for prefix in ((), *((str(TESTBED / "on-host"), host) for host in HOSTS)):
            run(*prefix, "mount", loop, str(path))
            stack.callback(run, *prefix, "umount", "--lazy", str(path), check=False)
        (path / "lost+found").rmdir()
        shutil.chown(path, owner, owner)
        path.chmod(0o700)
        yield path
