"""The embedded batch system's server: runs the jobs of one user on this machine.

One loop observes (ended scripts, requests, the clock), asks :mod:`dask_hpc.batch.local_state` what
is due and does it.  It decides nothing itself.  It lives as long as its jobs and leaves nothing
behind, however it ends: the scripts die with it by prctl(2), the rest by a guardian process.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dask_hpc.batch import local_book as books
from dask_hpc.batch import local_directory as files
from dask_hpc.batch import local_processes as processes
from dask_hpc.batch import local_state as states
from dask_hpc.batch.local_guardian import become_the_server, start_guardian
from dask_hpc.batch.local_request import Request, environment, jobs_of, log_of
from dask_hpc.batch.local_state import Job, Key, Verb

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds a new server waits for its first request: a submit may be killed after starting it.
FIRST_REQUEST = 10.0
#: Seconds a request may take to arrive.
REQUEST = 10.0
#: Seconds between looks at processes that were just killed and are not gone yet.
SWEEP = 0.02
#: Seconds after which processes that hang in the kernel (a dead file server) are given up.
UNKILLABLE = 10.0


def serve(directory: Path, *, slots: int, ready: int | None = None) -> None:
    """Run the server until no job is live.

    Parameters
    ----------
    directory
        The state directory, already made.
    slots
        Cores that jobs may take together.
    ready
        Descriptor that is written to when requests are taken.

    Raises
    ------
    BatchSystemError
        If another server runs.
    """
    os.umask(0o077)
    lock = become_the_server(directory)
    mark = os.urandom(8).hex()
    lifeline, guardian = start_guardian(directory, mark)
    _say(f"serves {slots} cores")
    try:
        asyncio.run(Server(directory, slots=slots, mark=mark).run(ready))
    finally:
        os.close(lifeline)
        os.waitpid(guardian, 0)
        os.close(lock)
    _say("ends: no job is live")


def _say(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%S")
    print(f"{now} {os.getpid()} {text}", file=sys.stderr, flush=True)  # noqa: T201  (its log file)


class Server:
    """The jobs, their processes and the socket.

    Parameters
    ----------
    directory
        The state directory.
    slots
        Cores that jobs may take together.
    mark
        Value of ``LOCAL_SERVER`` in the environment of its jobs.
    """

    def __init__(self, directory: Path, *, slots: int, mark: str) -> None:
        self._directory = directory
        self._slots = slots
        self._mark = mark
        self._book = files.read_book(directory)
        self._requests: dict[int, Request] = {}
        self._children: dict[Key, subprocess.Popen[bytes]] = {}
        self._over: dict[Key, float] = {}
        self._saved: dict[Key, Job] | None = None
        self._wake = asyncio.Event()
        self._connections = 0
        self._first_until = time.monotonic() + FIRST_REQUEST
        self._closing = False

    async def run(self, ready: int | None) -> None:
        """Serve until no job is live."""
        self._book.jobs = books.lost(self._book.jobs.values(), time.time())
        shutil.rmtree(self._directory / files.SCRIPTS, ignore_errors=True)
        self._directory.joinpath(files.SCRIPTS).mkdir(mode=0o700)
        self._save()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end)
        server = await asyncio.start_unix_server(self._talk, sock=files.listen(self._directory))
        if ready is not None:
            with suppress(BrokenPipeError):  # the submit was killed: others may have come
                os.write(ready, b"ready")
            os.close(ready)
        while not self._idle():
            self._wake.clear()
            self._step()
            self._save()
            await self._pause()
        # From here to the end of the process no request is taken: who asks now asks again.
        self._closing = True
        self._directory.joinpath(files.SOCKET).unlink(missing_ok=True)
        server.close()

    def _idle(self) -> bool:
        waits = time.monotonic() < self._first_until
        return not (waits or self._connections or any(j.live for j in self._book.jobs.values()))

    async def _pause(self) -> None:
        instant = states.next_instant(self._book.jobs.values(), slots=self._slots)
        delays = [] if instant is None else [instant - time.time()]
        if self._over:
            delays.append(SWEEP)
        if (first := self._first_until - time.monotonic()) > 0:
            delays.append(first)
        if self._idle():
            return
        try:
            async with asyncio.timeout(max(0.0, min(delays)) if delays else None):
                await self._wake.wait()
        except TimeoutError:
            return

    def _save(self) -> None:
        if self._book.jobs == self._saved:
            return
        self._book.jobs = books.pruned(self._book.jobs, time.time())
        try:
            files.write_book(self._directory, self._book)
        except OSError as error:
            # A full quota is no reason to kill jobs: the next turn tries again.
            _say(f"cannot write its state: {error}")
            return
        self._saved = dict(self._book.jobs)

    # -- one turn: observe, decide, apply ------------------------------------------------------

    def _step(self) -> None:
        now = time.time()
        self._reap(now)
        for verb, key in states.decide(self._book.jobs.values(), now=now, slots=self._slots):
            self._apply(verb, self._book.jobs[key], now)
        self._forget_scripts()

    def _reap(self, now: float) -> None:
        """Kill what ended scripts left behind, and end their jobs when nothing is left.

        Real systems' process tracking does the same.
        """
        for key, child in self._children.items():
            if key not in self._over and processes.has_ended(child.pid):
                self._over[key] = now
        seen = processes.snapshot(self._mark) if self._over else []
        for key, since in list(self._over.items()):
            job, child = self._book.jobs[key], self._children[key]
            left = processes.members(seen, session=child.pid, job=_id(job))
            processes.send(left, signal.SIGKILL)
            if left and now - since < UNKILLABLE:
                self._book.jobs[key] = states.sweeping(job)
                continue
            self._book.jobs[key] = states.ended(job, child.wait(), now)
            del self._children[key], self._over[key]

    def _apply(self, verb: Verb, job: Job, now: float) -> None:
        match verb:
            case Verb.START:
                job = self._start(job, now)
            case Verb.TERMINATE:
                self._signal(job, signal.SIGTERM)
                job = states.terminated(job, now)
            case Verb.KILL:
                self._signal(job, signal.SIGKILL)
                job = states.killed(job, now)
            case Verb.EXPIRE:
                job = states.failed(job, job.reason, now)
        self._book.jobs[job.key] = job

    def _signal(self, job: Job, number: signal.Signals) -> None:
        seen = processes.snapshot(self._mark)
        processes.send(processes.members(seen, session=job.pid, job=_id(job)), number)

    def _start(self, job: Job, now: float) -> Job:
        request = self._requests[job.array]
        try:
            log = processes.open_log(log_of(request, job), request.umask)
        except OSError as error:
            return states.failed(
                job, f"cannot open its log: {error.strerror}: {error.filename}", now
            )
        try:
            child = processes.start(
                self._script(job.array),
                log=log,
                directory=request.directory,
                environment=environment(request, job, now=now, server=self._mark),
                umask=request.umask,
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return states.failed(job, f"cannot start its script: {error}", now)
        finally:
            os.close(log)
        self._children[job.key] = child
        return states.started(job, child.pid, now)

    def _script(self, array: int) -> Path:
        return self._directory / files.SCRIPTS / f"{array}"

    def _forget_scripts(self) -> None:
        live = {job.array for job in self._book.jobs.values() if job.live}
        for array in self._requests.keys() - live:
            self._script(array).unlink(missing_ok=True)
            del self._requests[array]

    # -- requests ------------------------------------------------------------------------------

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._closing or not files.peer_is_us(writer.get_extra_info("socket")):
                return
            async with asyncio.timeout(REQUEST):
                answer = self._answer(await reader.read())
                writer.write(json.dumps(answer).encode())
                await writer.drain()
        except (OSError, TimeoutError) as error:  # whoever asked is gone, or sends nothing
            _say(f"could not serve a request: {type(error).__name__}")
        finally:
            writer.close()
            self._connections -= 1
            self._wake.set()

    def _answer(self, text: bytes) -> dict[str, Any]:
        try:
            answer = self._do(json.loads(text))
        except OSError as error:
            answer = {"error": f"{error.strerror}: {error.filename}"}
        except (ValueError, KeyError, TypeError) as error:
            # The error's text may quote the request, which holds an environment.
            kind = type(error).__name__
            answer = {"error": f"it was started by another version of dask-hpc ({kind})"}
        self._save()  # before the answer: who asks next must see what was accepted
        return answer

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["verb"]:
            case "submit":
                array = self._submit(Request(**request["array"]))
                self._first_until = 0.0
                return {"array": array}
            case "cancel":
                for array, indices in request["targets"]:
                    self._cancel(array, indices, "cancelled")
                return {}
            case _:  # "hello": somebody wants to know whether we are here
                return {"slots": self._slots}

    def _submit(self, request: Request) -> int:
        array = self._book.next_array
        script = self._script(array)
        script.write_text(request.script, errors="surrogateescape")
        script.chmod(0o700)
        self._requests[array] = request
        self._book.next_array += 1
        jobs = jobs_of(request, array, now=time.time(), slots=self._slots)
        self._book.jobs |= {job.key: job for job in jobs}
        return array

    def _cancel(self, array: int | None, indices: list[int] | None, reason: str) -> None:
        for key, job in self._book.jobs.items():
            if array in (None, job.array) and (indices is None or job.index in indices):
                self._book.jobs[key] = states.cancelled(job, reason, time.time())

    def _told_to_end(self) -> None:
        self._cancel(None, None, "the local batch system was told to end")
        self._first_until = 0.0
        self._wake.set()


def _id(job: Job) -> str:
    return f"{job.array}_{job.index}"
