"""The leading rank of a node, from its command line to the exit code of the launch.

It starts the node's program (`.node`) and stays beside it: the program may die without MPI's
launcher ending everything, and the launcher may end everything without leaving the program.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_hpc.cluster.mpi.launch import say
from dask_hpc.cluster.mpi.program import orders_for
from dask_hpc.errors import ConfigurationError, HPCError, NodeError, RendezvousError
from dask_hpc.launch import world
from dask_hpc.launch.roles import assign

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_hpc.cluster.mpi.launch import Launch
    from dask_hpc.cluster.mpi.options import LaunchOptions
    from dask_hpc.cluster.mpi.program import NodeProgram

#: Exit code of a launch whose scheduler died or could not start.
SCHEDULER_DIED = 1
#: Seconds for the scheduler file where there is no MPI to tell the address.
_FILE_SECONDS = 300.0
#: Seconds between two looks for it, and by which clocks of two nodes may differ.
_LOOK_EVERY, _SKEW = 0.5, 60.0
#: Other ranks give the one that speaks so long: launchers kill all once the first has ended.
_LET_SPEAK = 5.0


def code_of(error: HPCError) -> int:
    """Exit code for an error of ours: as of all other commands."""
    return 78 if isinstance(error, ConfigurationError | NodeError) else 1


def lead(launch: Launch, program: NodeProgram, options: Callable[[], LaunchOptions]) -> int:
    """Lead a node.

    Parameters
    ----------
    launch
        Prepared.
    program
        Started, without orders.
    options
        Reads the command line.

    Returns
    -------
    int
        Exit code, the same for all ranks of the node.
    """
    began = time.time()
    code, told, rest = 0, None, None
    try:
        told, rest = _begin(launch, program, options)
    except HPCError as error:
        code = code_of(error)
        if launch.rank == 0 or not isinstance(error, ConfigurationError):
            say(str(error))  # what all leaders find in the same command line, one tells
    if told == {}:
        told, code = None, SCHEDULER_DIED  # it has said why
    told, code = launch.exchange(told, code)
    if not code and rest is not None:
        code = _order_others(launch, program, rest, told, began)
    elif not code:
        launch.share_identity(told)
    launch.finish()
    if not code:
        code = _check_pair(launch)
    if code:
        program.close()
    else:
        code = _stay(program, has_scheduler=rest is None)
    return code


def fail(launch: Launch, code: int) -> None:
    """End the launch before it began: this rank has printed why."""
    if launch.rank and launch.world is None:
        time.sleep(_LET_SPEAK)
    launch.exchange(None, code)
    launch.finish()
    launch.dismiss(code)


def _begin(
    launch: Launch, program: NodeProgram, read: Callable[[], LaunchOptions]
) -> tuple[dict[str, Any] | None, tuple[LaunchOptions, dict[str, Any]] | None]:
    """Order the scheduler, if it is here, and learn where it is; else what is to be ordered."""
    options = read()
    members = launch.receive()
    given = assign(
        launch.size, scheduler=options.scheduler_rank, exclusive=options.exclusive_workers
    )
    here = any(member.rank == given.scheduler for member in members)
    orders = orders_for(
        members,
        given.workers,
        name=options.name,
        scheduler=options.scheduler(launch.name, talk=True) if here else None,
        workers=options.worker_fields(),
    )
    if not here:
        return None, (options, orders)
    others = not launch.one_node and launch.world is not None
    told = program.order(orders, wait_until_ready=others)
    return (told or {}) if others else None, None


def _order_others(
    launch: Launch,
    program: NodeProgram,
    rest: tuple[LaunchOptions, dict[str, Any]],
    told: dict[str, Any] | None,
    began: float,
) -> int:
    """Order a node without the scheduler; an exit code."""
    options, orders = rest
    tls = launch.share_identity(told)
    try:
        if told is None and options.scheduler_rank is not None:
            told = _from_file(launch, options, began)
            tls = told["tls"]
    except HPCError as error:
        say(str(error))
        return code_of(error)
    if not orders["ranks"]:
        program.cancel()
        return 0
    address = told["address"] if told else None
    program.order({**orders, "address": address, "tls": tls}, wait_until_ready=False)
    return 0


def _from_file(launch: Launch, options: LaunchOptions, began: float) -> dict[str, Any]:
    """Wait for this launch's own scheduler file; an older one may lie there."""
    from dataclasses import astuple

    from dask_hpc.launch import rendezvous

    if options.scheduler_file is None:
        raise ConfigurationError(
            "several nodes without MPI need a --scheduler-file to meet", hint=world.INSTALL
        )
    path, deadline = Path(options.scheduler_file), began + _FILE_SECONDS
    while time.time() < deadline:
        try:
            found = rendezvous.read(path)
        except RendezvousError as error:
            reason = error.args[0]
        else:
            named = launch.name != "mpi"
            if found.cluster == launch.name and (named or found.written > began - _SKEW):
                tls = list(astuple(found.tls)) if found.tls else None
                return {"address": found.address, "tls": tls}
            reason = f"scheduler file {path} is another launch's, {found.writer}"
        time.sleep(_LOOK_EVERY)
    raise RendezvousError(
        f"{reason}, after {_FILE_SECONDS:.0f} s of waiting",
        hint="the scheduler's node has failed (see its output), or the file is not shared",
    )


def _check_pair(launch: Launch) -> int:
    """Name a wrong pair where MPI itself was not needed: what comes next would stumble over it."""
    told = launch.told
    if launch.world is not None or launch.without_mpi or told is None or told.size == 1:
        return 0
    try:
        world.check_before(world.load(), told, launch.process)
    except world.MPIMissing as error:
        if launch.rank == 0 and not launch.note:
            launch.note = f"note: {error.args[0]}, and is not needed here\n  -> {error.hint}"
    except ConfigurationError as error:
        if told.launcher != "srun":  # it offers no MPI unless asked: no library would fit
            if launch.rank == 0:
                say(f"{error}; or --no-mpi, which does without")
            return code_of(error)
    if launch.rank == 0 and launch.note:
        say(launch.note)
    return 0


def _stay(program: NodeProgram, *, has_scheduler: bool) -> int:
    code = program.wait()
    if code >= 0:
        return code
    host = socket.gethostname()
    if has_scheduler:
        say(f"the scheduler on {host} was killed (signal {-code}): the launch ends")
        return SCHEDULER_DIED
    say(f"the workers of {host} were killed (signal {-code}); the others go on")
    return 0
