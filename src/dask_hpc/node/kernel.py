"""What several parts of a node ask of the kernel: the text of a file, the limit on open files."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

#: Files to allow where the system sets no limit.
_FILES_UNLIMITED = 1 << 20


def read_file(path: str) -> str:
    """Read a small file, of the kernel's mostly.

    Returns
    -------
    str
        Empty if it is not there, or not for us: then it tells nothing.  A name that is no UTF-8
        stays what it is (``surrogateescape``), and does not hide all others.
    """
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def raise_file_limit() -> int:
    """Allow this process as many open files as it may: the engine's own CLI does, nobody else.

    Returns
    -------
    int
        How many that are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a container's maximum may be lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES_UNLIMITED if soft == resource.RLIM_INFINITY else soft
