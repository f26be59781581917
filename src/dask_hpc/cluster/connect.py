"""``dask_hpc.connect``: a client of the engine's, wherever the script runs.

Looks at the place and decides; what each place needs is worked out by :mod:`.arrange` and started
by :mod:`.connection`.  Those import the engine: most ranks of an MPI launch never need it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from dask_hpc.cluster import launched
from dask_hpc.cluster.place import Allocation, Choice, Facts, Named, Place, allocation_of, decide
from dask_hpc.cluster.place import parse as parse_place
from dask_hpc.launch import rank

#: Names the scheduler file of a cluster that runs.
VARIABLE = "DASK_HPC_SCHEDULER_FILE"
#: Ranks that are enough for a client, a scheduler and a worker, if the first two share one.
_SMALLEST = 2


def connect(
    scheduler_file: str | os.PathLike[str] | None = None,
    *,
    where: str | None = None,
    jobs: int | None = None,
    workers: int | None = None,
    wait: int = 1,
    timeout: float | str | None = None,
    asynchronous: bool = False,
    **resources: Any,
) -> Any:
    """Connect to workers, wherever this script runs, and start them where there are none yet.

    The first of these places that is there is taken, and a line on standard error says which and
    why (``docs/anywhere.md``):

    1. beside the cluster whose `scheduler_file` is given here;
    2. ``"mpi"``: a launch of several ranks (mpirun, srun ...): they get their roles as by
       :func:`dask_hpc.mpi.initialize`, and the client's rank alone returns;
    3. ``"scheduler-file"``: beside the cluster that ``$DASK_HPC_SCHEDULER_FILE``, dask's own
       ``scheduler-address`` or ``dask-hpc.scheduler-file`` in the configuration names;
    4. ``"allocation"``: a job of a batch system: a scheduler in this process, workers on the job's
       nodes;
    5. ``"batch"``: a machine with a batch system: jobs are submitted, as by
       :class:`dask_hpc.HPCCluster`;
    6. ``"local"``: any other machine: processes of its own, cut down to what it has.

    Parameters
    ----------
    scheduler_file
        Of a cluster that runs already; it goes on afterwards.
    where
        The place to take, as it is called above.
    jobs, workers
        How many jobs, or workers, to start by submitting: one job unless told otherwise.  Where
        the workers are given by the place they mean nothing.
    wait
        Workers to wait for, so that the client computes when it is returned; 0 waits for none.
        Where workers are started, no more than those are waited for.
    timeout
        Seconds, or text such as ``"5 min"``, for those workers to come; None waits as long as it
        takes, for example in the queue.
    asynchronous
        Whether to use it in a running event loop: ``async with connect(asynchronous=True) as
        client`` or ``client = await connect(asynchronous=True)``.
    **resources
        As for :class:`dask_hpc.HPCCluster`: ``cores, memory, processes, walltime, queue`` ...
        What has no meaning in a place is not heeded there.

    Returns
    -------
    distributed.Client
        Closing it, the end of its ``with`` block and the end of the script clear away what was
        started here: jobs, processes, directories.  A cluster that ran before goes on; an MPI
        launch ends with the script.  Its ``place`` says where it is.

    Raises
    ------
    ConfigurationError
        If the place that is demanded is not there, or a keyword is unknown.
    WorkersTimeout
        If the workers do not come in time.
    JobStartError, SubmitRejected
        If they cannot come.
    RendezvousError
        If a scheduler file is missing, broken or another user's, or its scheduler is gone.

    Examples
    --------
    >>> import dask_hpc
    >>> with dask_hpc.connect(cores=8, memory="16 GiB", jobs=4) as client:  # doctest: +SKIP
    ...     client.submit(sum, range(100)).result()
    """
    facts = look(
        where=parse_place(where),
        file=scheduler_file,
        batch=resources.get("batch"),
        site=resources.get("site"),
    )
    choice = decide(facts)
    if choice.place is Place.MPI and not facts.launched:
        _take_role(facts.launch, resources)
    say(choice)
    from dask_hpc.cluster import arrange, connection

    opening = arrange.prepare(
        choice, facts, resources, jobs=jobs, workers=workers, wait=wait, timeout=timeout
    )
    return connection.Connecting(opening) if asynchronous else connection.open_now(opening)


def say(choice: Choice) -> None:
    """Tell the user where the workers come from: a line on standard error."""
    sys.stderr.write(f"dask-hpc: connect: {choice}\n")
    sys.stderr.flush()


def _take_role(launch: rank.Rank | None, resources: dict[str, Any]) -> None:
    """Be the rank that this is; only the client's returns."""
    from dask_hpc import mpi

    names = ("interface", "protocol", "local_directory", "spill", "dashboard", "insecure")
    known = {name: resources[name] for name in names if resources.get(name) is not None}
    if not isinstance(known.get("interface", ""), str):
        known["interface"] = ",".join(known["interface"])
    if resources.get("dashboard_port") is not None:
        known["dashboard_address"] = f":{resources['dashboard_port']}"
    if launch is not None and launch.size == _SMALLEST:
        known["client_rank"] = 0  # beside the scheduler: the other rank is the worker
    mpi.initialize(nthreads=None, **known)


# -- looking at the place -------------------------------------------------------------------------


def look(
    *,
    where: Place | None = None,
    file: str | os.PathLike[str] | None = None,
    batch: str | None = None,
    site: str | None = None,
) -> Facts:
    """Look at the place, no further than the decision needs.

    Parameters
    ----------
    where, file
        What the call demands.
    batch, site
        What the call names to submit to.
    """
    launch = rank.read(os.environ)
    in_launch = launched.as_client() is not None
    if file is not None:
        given = Named("scheduler_file=", file=Path(file).expanduser().absolute(), argument=True)
        return Facts(where=where, named=given)
    if where in (None, Place.MPI) and (in_launch or (launch and launch.size != 1)):
        return Facts(where=where, launch=launch, launched=in_launch)
    named, allocation = _named(), _allocation()
    if where in (None, Place.SCHEDULER_FILE, Place.ALLOCATION) and (named or allocation):
        return Facts(where=where, named=named, allocation=allocation)
    from dask_hpc.cluster.request import batch_of  # not for ranks: it imports dask

    found = batch_of(batch, site)
    return Facts(where=where, named=named, allocation=allocation, batch=found.name, why=found.why)


def _named() -> Named | None:
    import dask.config

    from dask_hpc.config import reader

    if path := os.environ.get(VARIABLE):
        return Named(f"${VARIABLE}", file=_absolute(path))
    if address := dask.config.get("scheduler-address", None):
        return Named("dask's scheduler-address", address=str(address))
    if path := reader.choice("scheduler_file"):
        by = f"{reader.SECTION}.scheduler-file in your dask configuration"
        return Named(by, file=_absolute(str(path)))
    return None


def _absolute(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser().absolute()


def _allocation() -> Allocation | None:
    return allocation_of(os.environ, _text)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # a list of nodes that is not here tells nothing
        return ""
