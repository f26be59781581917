"""The leading rank's hold on its node's program: starts it, orders it, waits for it.

The rank itself stays small: no engine is imported here, and no thread started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from dask_hpc.launch.meeting import Member
from dask_hpc.model.joining import patience
from dask_hpc.node import environment
from dask_hpc.node.options import DEATH_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Descriptors in there are the launcher's and are closed in the program.
_LAUNCHERS_OWN = ("PMI_FD", "HYDI_CONTROL_FD")
#: Seconds for an orderly end; then it is killed.
_END_SECONDS = 25.0


class NodeProgram:
    """The process that runs this node's part (see `.node`); it imports the engine at once.

    Parameters
    ----------
    environ
        Variables to add to this process's.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        lacking = environment.missing(os.environ)
        inherited = {**os.environ, **lacking, **(environ or {})}
        for name in _LAUNCHERS_OWN:
            inherited.pop(name, None)
        self._ready, self._write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dask_hpc.cluster.mpi.node", str(os.getpid())],
            stdin=subprocess.PIPE,
            env=inherited,
            pass_fds=(self._write,),
        )

    def order(self, orders: Mapping[str, Any], *, wait_until_ready: bool) -> dict[str, Any] | None:
        """Tell the program what to do.

        Parameters
        ----------
        orders
            See `orders_for`.
        wait_until_ready
            Whether to wait until the scheduler listens.

        Returns
        -------
        dict or None
            Address and identity files of the scheduler; None if it failed, or was not waited for.
        """
        assert self._process.stdin is not None  # noqa: S101  (a pipe, by __init__)
        ready = self._write if wait_until_ready else None
        with contextlib.suppress(BrokenPipeError):  # it has died; its end tells
            self._process.stdin.write(json.dumps({**orders, "ready": ready}).encode())
            self._process.stdin.close()
        os.close(self._write)
        with os.fdopen(self._ready) as stream:
            text = stream.readline() if wait_until_ready else ""  # workers hold its end, too
        return json.loads(text) if text else None

    def cancel(self) -> None:
        """End a program that has no orders, or must not go on."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Have the program end in order, within bounds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def wait(self) -> int:
        """Wait for its end, passing signals on to it.

        Returns
        -------
        int
            Its exit code; negative if a signal killed it.
        """
        with self._signals_passed_on():
            return self._process.wait()

    def wait_here(self) -> int:
        """Wait for its end, in any thread."""
        return self._process.wait()

    @contextlib.contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        def pass_on(number: int, _frame: object) -> None:
            if self._process.poll() is None:
                self._process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def orders_for(
    members: Sequence[Member],
    working: Collection[int],
    *,
    name: str | None,
    scheduler: Mapping[str, Any] | None,
    workers: Mapping[str, Any],
    path: Sequence[str] = (),
) -> dict[str, Any]:
    """Write down what a node's program is to do.

    Parameters
    ----------
    members
        The ranks of this node, the leader first.
    working
        Those ranks of the world that stand for a worker.
    name
        Prefix of the workers' names; None names them by their rank.
    scheduler
        What the scheduler is to be; None if it is on another node.
    workers
        Fields of :class:`~dask_hpc.node.options.WorkerOptions`.
    path
        Where Python looks for modules; empty leaves that alone.
    """
    leader = members[0]
    return {
        "scheduler": scheduler,
        "workers": {
            "position": leader.rank // len(members),
            "death_timeout": DEATH_TIMEOUT + patience(len(working)),
            **workers,
        },
        "workers_in_all": len(working),
        "here": [member.rank for member in members],
        "cpus": [sorted(member.cpus) for member in members],
        "ranks": [
            {
                "rank": member.rank,
                "name": member.rank if name is None else f"{name}-{member.rank}",
                "cpus": sorted(member.cpus),
                "environ": _difference(member, leader),
            }
            for member in members
            if member.rank in working
        ],
        "path": list(path),
        "address": None,
        "tls": None,
    }


def _difference(member: Member, leader: Member) -> dict[str, str]:
    """Give variables of a rank that its leader lacks or has otherwise.

    A launcher, or a wrapper script, may give each rank its own GPU or network card so.
    """
    return {
        os.fsdecode(name): os.fsdecode(value)
        for name, value in member.environ.items()
        if leader.environ.get(name) != value
    }
