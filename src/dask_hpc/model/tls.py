"""Where the TLS identity of a cluster's owner lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Paths of one identity: PEM files that only their owner may read.

    Parameters
    ----------
    ca_file
        Certificate of the owner's own authority; peers must hold a certificate it signed.
    cert, key
        The owner's certificate and private key, the same for scheduler, worker and client.
    """

    ca_file: str
    cert: str
    key: str
