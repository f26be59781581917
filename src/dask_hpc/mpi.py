"""Dask inside an MPI program: the same script on every rank, as dask-mpi has it.

``initialize()`` turns the ranks of ``mpirun python script.py`` into a scheduler, workers and one
client, which runs the rest of the script; ``execute()`` does it for one function.
"""

from __future__ import annotations

import atexit
import sys
import traceback
from typing import TYPE_CHECKING, Any

from dask_hpc.cluster.launched import Here
from dask_hpc.launch.pair import TooFewRanks, WrongPair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


__all__ = [
    "TooFewRanks",
    "WorldTooSmallException",
    "WrongPair",
    "execute",
    "initialize",
    "send_close_signal",
]

#: The name that dask-mpi has for it.
WorldTooSmallException = TooFewRanks


def initialize(
    interface: str | None = None,
    nthreads: int | None = 1,
    local_directory: str | None = None,
    memory_limit: float | str | None = "auto",
    nanny: bool = False,  # noqa: FBT001, FBT002  (dask-mpi's signature)
    dashboard: bool = True,  # noqa: FBT001, FBT002
    dashboard_address: str | None = ":8787",
    protocol: str | None = None,
    worker_class: str = "distributed.Worker",
    worker_options: Mapping[str, Any] | None = None,
    comm: Any = None,
    exit: bool = True,  # noqa: A002, FBT001, FBT002
    *,
    client_rank: int = 1,
    scheduler_rank: int = 0,
    insecure: bool = False,
    spill: str = "auto",
) -> bool:
    """Start a cluster from the ranks of this MPI program.

    Rank 0 is the scheduler, rank 1 returns and goes on as the client, all others are workers.  In
    the client ``distributed.Client()`` connects.  The scheduler and the workers run in processes
    beside the ranks: one for the scheduler, and the workers of a node forked from one.

    Parameters
    ----------
    interface
        Network interface of scheduler and workers: a name such as ``"ib0"``, candidates
        (``"hsn0,ib0"``), a pattern (``"ib*"``) or ``"auto"``; each node chooses among its own.
    nthreads
        Threads of each worker; None is its rank's part of the node's cores.
    local_directory
        Scratch of the workers.
    memory_limit
        Bytes of each worker; a fraction of the node's; ``"auto"`` is its rank's part; None or 0 is
        no limit.
    nanny
        Without meaning: there is always one, and it costs no process.
    dashboard, dashboard_address
        Of the scheduler, on its own machine.
    protocol
        None is tls; another one needs `insecure`.
    worker_class
        Import path of a subclass of the engine's Worker or Nanny.
    worker_options
        More keywords of the nanny and worker.
    comm
        Communicator to use instead of ``COMM_WORLD``.
    exit
        Whether the scheduler's and workers' ranks end the program when the cluster does, and the
        cluster ends when the client's program does.
    client_rank, scheduler_rank
        They may be the same, so that no core is lost to waiting.
    insecure
        No encryption, no authentication.
    spill
        Where full workers put data: ``"auto"``, ``"never"`` or a directory.

    Returns
    -------
    bool
        Whether this rank is the client.  With `exit` other ranks never return; without, they do
        when the client has called `send_close_signal`.

    Raises
    ------
    TooFewRanks
        If there are fewer ranks than roles; in rank 0, the others end.
    WrongPair
        If the launcher and the MPI library do not fit; likewise.
    MPIMissing
        If there is no mpi4py, or no MPI library; likewise.
    """
    del nanny
    from dask_hpc.cluster.mpi.options import LaunchOptions
    from dask_hpc.cluster.mpi.session import Session

    options = LaunchOptions(
        scheduler_rank=scheduler_rank,
        interface=interface,
        protocol=protocol,
        dashboard=dashboard,
        dashboard_address=dashboard_address,
        insecure=insecure,
        workers=_workers(nthreads, local_directory, memory_limit, worker_class, worker_options)
        | {"spill": spill},
    )
    session = Here.session = Session(options, client=client_rank, comm=comm)
    if exit or session.world.ours:
        atexit.register(session.farewell)
    if session.is_client:
        session.be_client()
        if exit:
            import distributed  # noqa: F401  (its own end must be registered before ours)

            atexit.register(session.close_cluster)
        return True
    session.play()
    if exit:
        sys.exit()
    return False


def execute(
    client_function: Callable[..., object] | None = None,
    client_args: Sequence[Any] = (),
    client_kwargs: Mapping[str, Any] | None = None,
    client_rank: int = 1,
    scheduler: bool = True,  # noqa: FBT001, FBT002  (dask-mpi's signature)
    scheduler_rank: int = 0,
    scheduler_address: str | None = None,
    scheduler_port: int | None = None,
    scheduler_file: str | None = None,
    interface: str | None = None,
    nthreads: int | None = 1,
    local_directory: str | None = "",
    memory_limit: float | str | None = "auto",
    nanny: bool = False,  # noqa: FBT001, FBT002
    dashboard: bool = True,  # noqa: FBT001, FBT002
    dashboard_address: str | None = ":8787",
    protocol: str | None = None,
    exclusive_workers: bool = True,  # noqa: FBT001, FBT002
    worker_class: str = "distributed.Worker",
    worker_options: Mapping[str, Any] | None = None,
    worker_name: str | None = None,
    comm: Any = None,
    *,
    insecure: bool = False,
    spill: str = "auto",
) -> None:
    """Run a function on one rank with a cluster made of the others; then all ranks go on.

    An exception in the function ends the whole launch with its traceback and exit code 1;
    ``sys.exit(n)`` in it ends the launch with n.

    Parameters
    ----------
    client_function, client_args, client_kwargs
        What to run, where ``distributed.Client()`` connects; None runs a cluster without a client,
        until it is shut down.
    client_rank, scheduler_rank
        They may be the same.
    scheduler
        Whether to start one; otherwise the one at `scheduler_address` is joined, and ended.
    scheduler_address, scheduler_port, scheduler_file
        Of the scheduler.
    exclusive_workers
        Whether ranks with another role run no worker.
    worker_name
        Workers are ``worker_name-RANK``; None names them by their rank.
    interface, nthreads, local_directory, memory_limit, nanny, dashboard, dashboard_address, \
protocol, worker_class, worker_options, comm, insecure, spill
        As for `initialize`.

    Raises
    ------
    TooFewRanks, WrongPair, MPIMissing
        As `initialize`.
    ConfigurationError
        If there is neither a scheduler to start nor an address.
    SystemExit
        In all ranks, if the function failed.
    """
    del nanny
    from dask_hpc.cluster.mpi.options import LaunchOptions
    from dask_hpc.cluster.mpi.session import Session
    from dask_hpc.errors import ConfigurationError

    workers = _workers(nthreads, local_directory, memory_limit, worker_class, worker_options)
    workers["spill"] = spill
    if not scheduler:
        if scheduler_address is None:
            raise ConfigurationError(
                "execute(scheduler=False) joins a scheduler that runs", hint="scheduler_address="
            )
        workers["scheduler"] = scheduler_address
    options = LaunchOptions(
        scheduler_rank=scheduler_rank if scheduler else None,
        exclusive_workers=exclusive_workers,
        name=worker_name,
        scheduler_file=scheduler_file,
        scheduler_port=scheduler_port or 0,
        interface=interface,
        protocol=protocol,
        dashboard=dashboard,
        dashboard_address=dashboard_address,
        insecure=insecure,
        workers=workers,
    )
    client = client_rank if callable(client_function) else None
    session = Here.session = Session(options, client=client, comm=comm)
    if session.world.ours:
        atexit.register(session.farewell)
    code = 0
    if session.is_client and client_function is not None:
        session.be_client()
        code = _call(client_function, client_args, client_kwargs or {})
        session.close_cluster()
    session.play()
    if code := session.agree(code):
        sys.exit(code)


def send_close_signal() -> None:
    """End the cluster of this launch: for the client, where ``initialize(exit=False)`` was called.

    Without such a launch, the cluster that ``distributed.Client()`` finds is ended.
    """
    if Here.session is not None:
        Here.session.close_cluster()
        return
    from distributed import Client

    with Client() as client:
        client.shutdown()


def _call(function: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Run the client's function; the exit code that follows from it."""
    try:
        function(*args, **kwargs)
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
            return 1
        return error.code or 0
    except BaseException:  # noqa: BLE001  (whatever it was: no other rank may wait for us)
        traceback.print_exc()  # before any rank ends: launchers then kill all others
        sys.stderr.flush()
        return 1
    return 0


def _workers(
    nthreads: int | None,
    local_directory: str | None,
    memory_limit: float | str | None,
    worker_class: str,
    worker_options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "nthreads": nthreads,
        "local_directory": local_directory or None,
        "memory_limit": "0" if memory_limit is None else str(memory_limit),
        "worker_class": worker_class,
        "worker_options": dict(worker_options or {}),
    }
