"""Run one command: with a timeout, an output cap, and no shell.

Knows nothing of batch systems: what a command means is its driver's business.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from dask_hpc.drivers.base import Command, Output
from dask_hpc.errors import BatchSystemMissing, BatchSystemUnavailable

#: Seconds.  Slurm's own clients give up after 9 s per controller; a loaded server needs longer.
TIMEOUT = 60.0
#: Bytes of each stream: 100,000 jobs at 200 bytes each.  More is a wrapper gone wild.
OUTPUT_CAP = 20 * 1024**2

Runner = Callable[[Command], Awaitable[Output]]


async def run(command: Command, *, timeout: float = TIMEOUT, cap: int = OUTPUT_CAP) -> Output:
    """Run a command and collect what it prints.

    Parameters
    ----------
    command
        What to run.
    timeout
        Seconds after which the command and its children are killed.
    cap
        Bytes of each stream that are read at most.

    Returns
    -------
    Output
        Both streams and the exit status, whatever it is.

    Raises
    ------
    BatchSystemMissing
        If there is no such program.
    BatchSystemUnavailable
        If it takes too long or prints without end.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=command.environment(os.environ),
            start_new_session=True,  # Ctrl-C in the user's terminal must not cut a submission short
        )
    except FileNotFoundError:
        raise BatchSystemMissing(
            f"{command.argv[0]} is not on this machine's PATH",
            hint="load the module that brings the batch system, or go to a login node; "
            "batch='local' runs the same jobs on this machine; for a head in a job whose node has"
            ' no such program: head_options={"submits": False}',
        ) from None
    except PermissionError:
        raise BatchSystemMissing(f"{command.argv[0]} may not be run by you") from None
    readers = [
        asyncio.ensure_future(_read(stream, cap)) for stream in (process.stdout, process.stderr)
    ]
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await asyncio.gather(*readers)
            returncode = await process.wait()
    except (TimeoutError, _TooMuch) as error:
        what = (
            f"did not end within {timeout:g} s" if isinstance(error, TimeoutError) else str(error)
        )
        raise BatchSystemUnavailable(
            f"`{command}` {what}", hint="the batch system may be down or busy: its state is unknown"
        ) from None
    finally:
        if process.returncode is None:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await _kill(process)
    return Output(command, returncode, _text(stdout), _text(stderr))


class _TooMuch(Exception):
    """A command prints more than the cap."""


async def _read(stream: asyncio.StreamReader | None, cap: int) -> bytes:
    assert stream is not None  # noqa: S101  (both are pipes, by the call above)
    data = bytearray()
    while chunk := await stream.read(1 << 16):
        data += chunk
        if len(data) > cap:
            raise _TooMuch(f"printed more than {cap} bytes")
    return bytes(data)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own session: wrappers' children die too
    # asyncio waits for the end of both pipes, and reads none whose buffer was full.
    await asyncio.gather(_discard(process.stdout), _discard(process.stderr), process.wait())


async def _discard(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(1 << 16):
        pass


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
