"""The parallel launch that this process is a rank of, once :mod:`dask_hpc.mpi` has made it one.

Imports nothing: every `connect` asks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_hpc.cluster.mpi.session import Session


class Here:
    """The launch; there is one at a time."""

    session: Session | None = None


def as_client() -> Session | None:
    """The launch whose client this process is; None if it is none's."""
    session = Here.session
    return session if session is not None and session.is_client else None
