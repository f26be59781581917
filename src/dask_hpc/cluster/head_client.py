"""Asking a head for something, over its control channel.

Imports no engine and blocks: a command has nothing else to do, and a cluster object asks in a
thread.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from dask_hpc import errors
from dask_hpc.errors import HeadUnreachable
from dask_hpc.launch import rendezvous

if TYPE_CHECKING:
    from dask_hpc.cluster.known import Known
    from dask_hpc.cluster.report import Report
    from dask_hpc.cluster.view import View
    from dask_hpc.jupyter.reach import Reach, Waiting
    from dask_hpc.launch.rendezvous import Rendezvous
    from dask_hpc.model.tls import TLSFiles

#: Seconds beyond those that a head is asked to wait itself.
_ROUND_TRIP = 10.0


class HeadClient:
    """The head of one cluster, wherever it runs.

    Parameters
    ----------
    known
        Which cluster.
    timeout
        Seconds for an answer.

    Raises
    ------
    RendezvousError
        If its scheduler file is missing, broken or another user's.
    """

    def __init__(self, known: Known, timeout: float = _ROUND_TRIP) -> None:
        self._known = known
        self._timeout = timeout
        self._found = rendezvous.read(known.scheduler_file)
        self._host = ""

    def view(self, *, jobs: bool = True) -> View:
        """What there is to see; with a row for each job, or without."""
        return cast("View", self.call("view", jobs=jobs))

    def wait(self, changes: int, seconds: float, *, jobs: bool = True) -> View:
        """The view, as soon as its `changes` are more than these, or after so many seconds."""
        words = {"changes": changes, "seconds": seconds, "jobs": jobs}
        told = self.call("wait", seconds + _ROUND_TRIP, **words)
        return cast("View", told)

    def scale(self, n: int | Mapping[str, int] | None = None, **words: Any) -> View:
        """As :meth:`dask_hpc.HPCCluster.scale`."""
        return cast("View", self.call("scale", _SUBMITTING, n=n, **words))

    def adapt(self, **words: Any) -> View:
        """As :meth:`dask_hpc.HPCCluster.adapt`."""
        return cast("View", self.call("adapt", **words))

    def add_pool(self, name: str, options: Mapping[str, Any]) -> View:
        """As :meth:`dask_hpc.HPCCluster.add_pool`."""
        return cast("View", self.call("add_pool", name=name, options=dict(options)))

    def renew(self, walltime: str | int) -> View:
        """As :meth:`dask_hpc.HPCCluster.renew`."""
        return cast("View", self.call("renew", _RENEWING, walltime=walltime))

    def report(self) -> Report:
        """As :meth:`dask_hpc.HPCCluster.report`."""
        from dask_hpc.cluster.report import Report

        return Report(self.call("report"))

    def logs(self, pool: str | None = None) -> dict[str, str]:
        """The end of each job's log, by its path; of one pool, or of all."""
        return cast("dict[str, str]", self.call("logs", pool=pool))

    def script(self, pool: str | None = None) -> str:
        """The script that each job of a pool runs."""
        return str(self.call("script", pool=pool))

    def dashboard(self) -> str:
        """Link of the dashboard on the head's machine, with the token that opens it."""
        return str(self.call("dashboard"))

    def jupyter(self, **words: Any) -> Reach | Waiting:
        """As :meth:`dask_hpc.cluster.steering.Here.jupyter`."""
        from dask_hpc.jupyter.reach import from_json

        return from_json(self.call("jupyter", _STARTING, **words))

    def jupyter_told(self, name: str, **words: Any) -> bool:
        """As :meth:`dask_hpc.cluster.lab.Lab.told`."""
        return bool(self.call("jupyter_told", name=name, **words))

    def stop_jupyter(self) -> None:
        """End its JupyterLab, if there is one."""
        self.call("stop_jupyter", _STARTING)

    def shutdown(self) -> None:
        """End the cluster; when this returns its jobs are gone, or it says which are not."""
        self.call("shutdown", _CLOSING)

    def call(self, operation: str, timeout: float | None = None, /, **words: Any) -> Any:
        """Ask for one operation.

        Raises
        ------
        HeadUnreachable
            If nobody answers who has our identity.
        HPCError
            What the head raised.
        """
        body = json.dumps({name: value for name, value in words.items() if value is not None})
        seconds = self._timeout if timeout is None else timeout
        trouble: OSError | http.client.HTTPException | None = None
        for host in [self._host] if self._host else hosts(self._found):
            try:
                answer = self._post(host, operation, body, seconds)
            except (OSError, http.client.HTTPException) as error:
                trouble = error
                continue
            self._host = host
            return _understood(answer)
        raise HeadUnreachable(
            f"the head of cluster {self._known.name}, process {self._found.pid} on "
            f"{self._found.host}, does not answer: {trouble}",
            hint=f"see {self._known.directory}; if it has died, its jobs end by themselves, and "
            f"`dask-hpc down {self._known.name}` clears up after it",
        )

    def _post(self, host: str, operation: str, body: str, timeout: float) -> bytes:
        connection = http.client.HTTPSConnection(
            host, self._found.control, timeout=timeout, context=self._context()
        )
        try:
            connection.request("POST", f"/{operation}", body)
            response = connection.getresponse()
            if response.status not in _TOLD:  # it ends in this moment, or is no head of ours
                raise http.client.HTTPException(f"it says {response.status} {response.reason}")
            return response.read()
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        return client_context(identity(self._found))


#: With these a head answers, or tells an error of ours.
_TOLD = (HTTPStatus.OK, HTTPStatus.BAD_REQUEST)
#: Seconds: a submit command may take its time, and so may the last job.
_SUBMITTING = 120.0
#: Seconds: JupyterLab reads thousands of files, or is started just now by somebody else.
_STARTING = 150.0
_CLOSING = 300.0
#: Seconds: a batch system may think about it for a minute, and each of its commands take as long.
_RENEWING = 240.0


def client_context(tls: TLSFiles) -> ssl.SSLContext:
    """Show our identity, and talk with nobody who has another: certificates name no host."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca_file)
    context.check_hostname = False
    context.load_cert_chain(tls.cert, tls.key)
    return context


def identity(found: Rendezvous) -> TLSFiles:
    """Whom a head's control channel lets in: an insecure cluster has an owner, too."""
    if found.tls is not None:
        return found.tls
    from dask_hpc.cluster.security import ensure_identity

    return ensure_identity()


def hosts(found: Rendezvous) -> list[str]:
    """Where the head listens, the best first."""
    if not found.control:
        return []
    addresses = (found.address, *found.others)
    return list(dict.fromkeys(urlsplit(each).hostname or "" for each in addresses))


def _understood(answer: bytes) -> Any:
    told = json.loads(answer)
    if "answer" in told:
        return told["answer"]
    raise errors.from_json(told)
