"""What a JupyterLab of a cluster is to be: beside the head, or in a job of its own.

No engine is imported here: the job has no other use for it.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from dask_hpc.cluster import certificates
from dask_hpc.cluster.security import page_certificate
from dask_hpc.jupyter.reach import LOOPBACK, Listen
from dask_hpc.jupyter.settings import Certificate, Settings


def lab_settings(
    place: Path,
    *,
    listen: Listen,
    root: Path,
    scheduler_file: Path,
    address: str,
    dashboard_token: str = "",
) -> Settings:
    """Make them, with a new token and, unless it listens at a socket, a certificate.

    Parameters
    ----------
    place
        Private directory of the server.
    listen, root, scheduler_file, dashboard_token
        See :class:`~dask_hpc.jupyter.settings.Settings`.
    address
        Of this machine on the network.

    Raises
    ------
    ClusterDirectoryError, IdentityError, OSError
        If the certificate cannot be made.
    """
    return Settings(
        runtime=place,
        root=root,
        scheduler_file=scheduler_file,
        token=secrets.token_urlsafe(32),
        dashboard_token=dashboard_token,
        listen=listen,
        address=address if listen is Listen.NETWORK else LOOPBACK,
        certificate=None if listen is Listen.SOCKET else _certificate(place),
    )


def _certificate(place: Path) -> Certificate:
    made = page_certificate(place)
    print_of_it = certificates.fingerprint(made)
    return Certificate(str(place / "page.pem"), str(place / "page-key.pem"), print_of_it)
