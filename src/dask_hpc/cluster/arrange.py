"""What each place asks for: keywords and facts in, an opening out.

Nothing is started, and nobody is connected, before :mod:`.connection` does so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
from distributed import Security

from dask_hpc.batch.local import SLOTS_PER_CORE
from dask_hpc.cluster import launched, portable
from dask_hpc.cluster.allocation import AllocationCluster
from dask_hpc.cluster.connection import Opening
from dask_hpc.cluster.hpc_cluster import HPCCluster
from dask_hpc.cluster.options import ClusterOptions
from dask_hpc.cluster.place import Choice, Facts, Named, Place
from dask_hpc.cluster.request import understand
from dask_hpc.cluster.security import engine_security, ensure_identity
from dask_hpc.cluster.sizes import jobs_wanted
from dask_hpc.drivers.registry import FALLBACK
from dask_hpc.errors import ConfigurationError
from dask_hpc.launch import rendezvous
from dask_hpc.model.tls import TLSFiles
from dask_hpc.node import probe
from dask_hpc.units import parse_walltime

#: Seconds that a scheduler file may take to be there, unless a timeout is given: whoever started
#: the scheduler a moment ago need not wait for it by hand.
FILE_SECONDS = 30.0
#: Where nothing is divided, no number of workers is too large.
_ANY = 1 << 20
#: What the cluster classes take and is no option of a job.
_OF_THE_CLASS = ("site", "batch", "name", "silence_logs")


def prepare(
    choice: Choice,
    facts: Facts,
    resources: Mapping[str, Any],
    *,
    jobs: int | None,
    workers: int | None,
    wait: int,
    timeout: float | str | None,
) -> Opening:
    """Work out what is to be done; nothing is started yet.

    Parameters
    ----------
    choice, facts
        The place, and what was seen of it.
    resources
        Keywords of :class:`dask_hpc.HPCCluster`.
    jobs, workers, wait, timeout
        See :func:`dask_hpc.connect`.

    Raises
    ------
    ConfigurationError
        If it can never work as written.
    """
    given = dict(resources)
    if "n_workers" in given:  # as the cluster classes call it
        workers = given.pop("n_workers") if workers is None else workers
    if not isinstance(wait, int) or wait < 0:
        raise ConfigurationError(f"wait={wait!r} must be a number of workers, 0 or more")
    common: dict[str, Any] = {
        "place": choice.place,
        "wait": wait,
        "timeout": parse_walltime(timeout) if isinstance(timeout, str) else timeout,
    }
    if choice.place is Place.BATCH:
        return _submitting(given, facts.batch, jobs, workers, common)
    if choice.place is Place.LOCAL:
        return _on_this_machine(given, jobs, workers, common)
    if choice.place is Place.ALLOCATION:
        return _in_allocation(given, facts, common)
    options = _options(given, FALLBACK, has_cores=_ANY)
    if choice.place is Place.MPI:
        return Opening(find=_launched, **common)
    named, seconds = facts.named, common["timeout"]
    assert named is not None  # noqa: S101  (or it would not have been chosen)
    patience = FILE_SECONDS if seconds is None else seconds
    return Opening(find=lambda: _find(named, patience, insecure=options.insecure), **common)


def _options(given: Mapping[str, Any], batch: str, *, has_cores: int | None) -> ClusterOptions:
    """Check keywords where no cluster class does."""
    keywords = portable.for_batch(given, batch, submits=False)
    words = {name: value for name, value in keywords.items() if name not in _OF_THE_CLASS}
    return understand(words, batch=batch, has_cores=has_cores).options


def _of_the_class(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names if given.get(name) is not None}


# -- the places -----------------------------------------------------------------------------------


def _submitting(
    given: Mapping[str, Any],
    batch: str,
    jobs: int | None,
    workers: int | None,
    common: Mapping[str, Any],
) -> Opening:
    keywords = portable.for_batch(given, batch, submits=True) | {"batch": batch}

    def start(*, asynchronous: bool) -> HPCCluster:
        return HPCCluster(asynchronous=asynchronous, **keywords)

    return Opening(start=start, size=portable.size(jobs=jobs, workers=workers), **common)


def _on_this_machine(
    given: Mapping[str, Any], jobs: int | None, workers: int | None, common: Mapping[str, Any]
) -> Opening:
    keywords = portable.for_batch(given, FALLBACK, submits=False)
    asked = _options(given, FALLBACK, has_cores=None)
    wanted = jobs_wanted(asked.job_layout, **portable.size(jobs=jobs, workers=workers))
    fitted = portable.fit(asked, wanted, _machine())

    def start(*, asynchronous: bool) -> HPCCluster:
        words = {**keywords, "batch": FALLBACK, **fitted.keywords}
        return HPCCluster(asynchronous=asynchronous, **words)

    return Opening(start=start, size={"jobs": fitted.jobs}, **common)


def _machine() -> portable.Machine:
    cores = len(os.sched_getaffinity(0))
    slots = os.environ.get("DASK_HPC_LOCAL_SLOTS", "")
    return portable.Machine(
        cores=cores,
        slots=int(slots) if slots.isdecimal() and int(slots) else cores * SLOTS_PER_CORE,
        memory=psutil.virtual_memory().total,
    )


def _in_allocation(given: Mapping[str, Any], facts: Facts, common: Mapping[str, Any]) -> Opening:
    here = facts.allocation
    assert here is not None  # noqa: S101  (or it would not have been chosen)
    options = _options(given, here.batch, has_cores=here.cores or os.cpu_count() or 1)

    def start(*, asynchronous: bool) -> AllocationCluster:
        own = _of_the_class(given, "name", "silence_logs")
        return AllocationCluster(here, options, asynchronous=asynchronous, **own)

    return Opening(start=start, **common)


def _launched() -> tuple[str, Security]:
    session = launched.as_client()
    assert session is not None  # noqa: S101  (or it would not have been chosen)
    insecure = Security(require_encryption=False)
    address = str(session.address)
    return address, engine_security(TLSFiles(*session.tls)) if session.tls else insecure


def _find(named: Named, seconds: float, *, insecure: bool) -> tuple[str, Security]:
    """Find a cluster that somebody else keeps running."""
    tls = None
    others: tuple[str, ...] = ()
    address = named.address
    if named.file is not None:
        found = rendezvous.wait(named.file, seconds)
        address, tls, others = found.address, found.tls, found.others
    if "://" not in address:
        address = f"{'tcp' if insecure else 'tls'}://{address}"
    if not address.startswith(("tls://", "wss://")):
        if not insecure:
            raise ConfigurationError(
                f"{named}, and the scheduler at {address} has no TLS: anyone could answer there",
                hint="start it with TLS (dask-scheduler of dask-hpc), or say insecure=True here",
            )
        return address, Security(require_encryption=False)
    security = Security()  # what the dask configuration names
    if tls is not None or security.tls_ca_file is None:
        security = engine_security(tls or ensure_identity())
    return _answering((address, *others), security), security


def _answering(addresses: tuple[str, ...], security: Security) -> str:
    """Choose the address of a scheduler that this host reaches."""
    if len(addresses) == 1:
        return addresses[0]
    with ThreadPoolExecutor(1) as thread:  # an event loop may run in this one, as in a notebook
        return thread.submit(asyncio.run, probe.first(addresses, security)).result()
